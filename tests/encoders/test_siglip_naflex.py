"""Images of any aspect ratio as patches."""

import jax
import numpy as np
import pytest
from clip_goldens import PHOTOS, ROOT, copy_golden, edit_json, photo
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.image_processing import (
    fit_patches,
    load_image_processing,
    pack_patches,
    position_weights,
    unpack_patches,
)

SHAPES = [(480, 640), (640, 480), (16, 16), (1, 4000), (4000, 1), (3, 5), (999, 1001)]


def test_hand_worked_sizes():
    # 100 by 100 fits 16 by 16 patches exactly.
    assert fit_patches(100, 100, patch_size=(16, 16), max_patches=256) == (256, 256)
    assert fit_patches(1, 256, patch_size=(8, 8), max_patches=4) == (8, 32)
    assert fit_patches(7, 7, patch_size=(16, 16), max_patches=1) == (16, 16)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [1, 20, 256])
def test_patches_are_those_of_the_reference(shape, most):
    transformers = pytest.importorskip("transformers")
    processor = transformers.Siglip2ImageProcessorPil(
        do_rescale=False, do_normalize=False
    )
    image = photo("china.jpg").resize(shape)
    settings = {"patch_size": 8, "max_num_patches": most}
    expected = processor([image], return_tensors="np", **settings)
    canvas = pack_patches(
        image, patch_size=(8, 8), max_patches=most, resample=Image.Resampling.BILINEAR
    )
    assert canvas.shape == (most + 1, 64, 3)
    patches, grid, mask = unpack_patches(canvas[None])
    np.testing.assert_array_equal(patches, expected["pixel_values"])
    np.testing.assert_array_equal(grid, expected["spatial_shapes"])
    np.testing.assert_array_equal(mask, expected["pixel_attention_mask"] == 1)


def test_weights_of_an_unchanged_grid_pick_one_each():
    weights = position_weights(np.array([[4, 4]]), num_patches=16, side=4)
    np.testing.assert_allclose(weights[0], np.eye(16), atol=1e-6)


def test_hand_worked_weights():
    # Halving averages with a triangle of half-width 2 around each centre.
    weights = position_weights(np.array([[1, 2]]), num_patches=2, side=4)
    across = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
    # Reduced to one row, the triangle has half-width 4 around 2.
    down = np.array([2.5, 3.5, 3.5, 2.5]) / 12
    expected = down[None, :, None] * across[:, None, :]
    np.testing.assert_allclose(weights[0].reshape(2, 4, 4), expected, atol=1e-6)


@pytest.mark.parametrize("grid", [(4, 5), (2, 10), (1, 1), (20, 1), (3, 3)])
def test_weights_resize_as_pillow_does(grid):
    # Pillow's bilinear filter is the same triangle with antialiasing.
    rows, columns = grid
    learnt = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    expected = Image.fromarray(learnt).resize(
        (columns, rows), Image.Resampling.BILINEAR
    )
    weights = jax.jit(position_weights, static_argnames=("num_patches", "side"))(
        np.array([grid]), num_patches=24, side=7
    )
    found = (weights[0] @ learnt.reshape(-1))[: rows * columns].reshape(grid)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", PHOTOS)
def test_a_canvas_keeps_the_aspect_ratio(name):
    image = photo(name)
    canvas = pack_patches(
        image, patch_size=(16, 16), max_patches=256, resample=Image.Resampling.BILINEAR
    )
    rows, columns = canvas[-1, 0, :2].astype(int) + 1
    assert rows * columns <= 256
    assert abs(rows / columns - image.height / image.width) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 16}, r"patch_size 8 in .* as config.json says, found 16"),
        ({"max_num_patches": 0}, "max_num_patches in .*between 1 and 256, found 0"),
        ({"max_num_patches": 257}, "found 257"),
        ({"max_num_patches": "many"}, "found 'many'"),
    ],
)
def test_impossible_patches_are_named(tmp_path, settings, message):
    folder = copy_golden("siglip2_naflex", tmp_path)
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(settings))
    with pytest.raises(InputError, match=message):
        load_image_processing(
            folder, family="siglip2", image_size=(0, 0), patch_size=(8, 8)
        )
    found = load_image_processing(
        ROOT / "siglip2_naflex", family="siglip2", image_size=(0, 0), patch_size=(8, 8)
    )
    assert found.max_patches == 20
