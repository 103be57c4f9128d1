"""Arrays of pixels as images."""

from __future__ import annotations

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.data import load_image, open_source


def test_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    source = open_source(pixels)
    assert source.names[3] == "row-000003"
    for row in range(5):
        np.testing.assert_array_equal(load_image(source, row), pixels[row])


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 6, 1)])
def test_grey(shape):
    pixels = np.arange(48, dtype=np.uint8).reshape(shape)
    found = np.asarray(load_image(open_source(pixels), 1))
    expected = pixels.reshape(2, 4, 6)[1]
    for channel in range(3):
        np.testing.assert_array_equal(found[:, :, channel], expected)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats(kind):
    # 0.2 * 255 = 51, 0.5 * 255 = 127.5 rounded to even.
    pixels = np.zeros((1, 2, 2, 3), kind)
    pixels[0, 0, :, 0] = [0.2, 0.5]
    pixels[0, 1, :, 0] = [1, 0]
    found = np.asarray(load_image(open_source(pixels), 0))[..., 0]
    np.testing.assert_array_equal(found, [[51, 128], [255, 0]])


def test_what_can_become_an_array():
    import jax.numpy as jnp

    pixels = [[[[1, 2, 3]] * 4] * 4] * 2
    as_jax = jnp.asarray(pixels, jnp.uint8)
    assert load_image(open_source(as_jax), 1).getpixel((0, 0)) == (1, 2, 3)


def test_slices_are_not_copied():
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    source = open_source(pixels[::2, :, ::-1])
    pixels[2, 0, 7] = 9
    assert load_image(source, 1).getpixel((0, 0)) == (9, 9, 9)


def test_equal_bytes_of_another_shape_are_another_image():
    shapes = [(1, 4, 6, 3), (1, 6, 4, 3), (1, 12, 6)]
    sources = [open_source(np.zeros(shape, np.uint8)) for shape in shapes]
    assert len({source.read(0)[0] for source in sources}) == 1
    assert len({source.salt for source in sources}) == 3


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), "found shape .*; add a first axis"),
        (np.zeros((2, 4, 5, 4), np.uint8), "found shape .*; put alpha over"),
        (np.zeros((2, 3, 8, 8), np.uint8), "found shape .*; move the channels"),
        (np.zeros((2, 8, 8, 5), np.uint8), r"found shape \[2, 8, 8, 5\]$"),
        (np.zeros((8, 8), np.uint8), r"found shape \[8, 8\]$"),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one image and pixel"),
        (np.zeros((2, 0, 8, 3), np.uint8), "at least one image and pixel"),
        (np.zeros((2, 8, 8, 3), np.int64), "found int64; convert them"),
        (np.zeros((2, 8, 8, 3), bool), "found bool; convert them"),
        (np.full((2, 8, 8, 3), 255.0), "found values from 255 to 255$"),
        (np.full((2, 8, 8, 3), -0.1), "found values from -0.1 to -0.1$"),
        (np.full((2, 8, 8, 3), np.nan), "found values from nan to nan$"),
        ([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], "images of one size"),
        ("photos", r"found shape \[\]$"),
    ],
)
def test_bad_arrays(pixels, message):
    with pytest.raises(InputError, match=f"^Expected [^\n]*{message}"):
        open_source(pixels)
