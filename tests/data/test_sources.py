"""Whatever images are given as: folders, files, PIL images, arrays of pixels."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pictures import NOISE, encode
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.data import DecodeError, decode_image, find_images, load_image, open_source
from mca_jax.data.decode import content_digest

NAMES = ("a.png", "b/c.jpg", "d.png")


@pytest.fixture
def folder(tmp_path):
    """A turned JPEG, a picture with alpha and one in grey of 16 bits."""
    random = np.random.default_rng(0)
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    pixels = random.integers(0, 256, (10, 14, 4), np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels[..., :3]).save(root / "b/c.jpg", exif=exif)
    grey = random.integers(0, 65536, (9, 7), np.uint16)
    Image.fromarray(grey).save(root / "d.png")
    return root


def pixels_of(source):
    return [np.asarray(load_image(source, row)) for row in range(len(source.names))]


FORMS = {
    "text": str,
    "path": Path,
    "found": find_images,
    "source": lambda folder: open_source(folder),
    "texts": lambda folder: [str(folder / name) for name in NAMES],
    "paths": lambda folder: tuple(folder / name for name in NAMES),
    "generator": lambda folder: (folder / name for name in NAMES),
    "array of texts": lambda folder: np.array([str(folder / name) for name in NAMES]),
    "opened": lambda folder: [Image.open(folder / name) for name in NAMES],
    "loaded": lambda folder: [decode_image(folder / name) for name in NAMES],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_pixels_of_the_files(folder, form):
    source = open_source(FORMS[form](folder))
    expected = [np.asarray(decode_image(folder / name)) for name in NAMES]
    for found, pixels in zip(pixels_of(source), expected, strict=True):
        np.testing.assert_array_equal(found, pixels)
    if form in ("text", "path", "found", "source"):
        assert (source.root, source.names) == (str(folder), NAMES)
    elif "text" in form or form in ("paths", "generator"):
        # As they were given, so that results can be looked up by them.
        assert source.root == ""
        assert source.names == tuple(str(folder / name) for name in NAMES)
    else:
        assert source.names == ("row-000000", "row-000001", "row-000002")


def test_files_of_a_list_are_known_by_their_identity(folder):
    source = open_source([folder / "a.png", folder / "gone.png"])
    assert source.identify(0) == open_source(folder).identify(0)
    assert source.identify(1) is None
    with pytest.raises(DecodeError, match="no such file"):
        source.read(1)


def test_pil_images_are_content(folder):
    first = Image.open(folder / "a.png")
    source = open_source([first, first.copy(), first.rotate(90, expand=True)])
    contents = [source.read(row)[0] for row in range(3)]
    assert contents[0] == contents[1] != contents[2]
    assert len(open_source(first).names) == 1
    # Shrunk by whole factors where less will do.
    assert source.decode(contents[0], 5).size == (7, 5)


def test_damaged_pil_images_have_a_reason(folder):
    Image.effect_noise((90, 90), 50).save(folder / "b/c.jpg")
    content = (folder / "b/c.jpg").read_bytes()
    (folder / "b/c.jpg").write_bytes(content[: len(content) // 2])
    with Image.open(folder / "b/c.jpg") as damaged:
        source = open_source([damaged, Image.new("RGB", (0, 3))])
        with pytest.raises(DecodeError, match="^damaged JPEG image: .*truncated"):
            source.read(0)
    with pytest.raises(DecodeError, match="^image without pixels$"):
        source.read(1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["a.png", Image.new("L", (1, 1))], "str in row 0 and Image in row 1"),
        ([Path("a"), "b", np.zeros((2, 2, 3))], "Path in row 0 and ndarray in row 2"),
        ([Image.new("L", (1, 1)), np.zeros((2, 2))], "Image in row 0 and ndarray"),
        ([], "at least one image, found none"),
        (np.zeros(0, str), "at least one image, found none"),
        (b"photos", "found shape"),
        (7, "found shape"),
    ],
)
def test_mixtures_and_nothing_are_refused(images, message):
    with pytest.raises(InputError, match=f"^Expected [^\n]*{message}"):
        open_source(images)


def test_a_name_is_that_of_a_folder():
    with pytest.raises(InputError, match="^No such folder: photos$"):
        open_source("photos")


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
    ],
)
def test_bad_arrays(pixels, message):
    with pytest.raises(InputError, match=f"^Expected [^\n]*{message}"):
        open_source(pixels)


def test_limits_of_files(tmp_path):
    content = encode(NOISE, "JPEG")
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "b.png").write_bytes(encode(NOISE, "PNG"))
    source = open_source(tmp_path, max_pixels=64 * 48 - 1)
    with pytest.raises(DecodeError, match=r"data\.max_megapixels"):
        source.decode(source.read(1)[0], 0)
    source = open_source(tmp_path)
    with pytest.raises(DecodeError, match="^truncated JPEG"):
        source.decode(source.read(0)[0], 0)
    partial = open_source(tmp_path, partial_jpegs=True)
    assert partial.decode(partial.read(0)[0], 0).size == (48, 64)
    # Half a picture must not pass for the whole in a cache.
    assert partial.salt != source.salt


def test_what_an_index_said_of_a_tiff_before_is_not_believed(tmp_path):
    for name, kind in (("a.jpg", "JPEG"), ("b.TIF", "TIFF"), ("c.png", "BMP")):
        (tmp_path / name).write_bytes(encode(NOISE, kind))
    source = open_source(tmp_path)
    sizes = [source.identify(row).size > 0 for row in range(3)]
    assert sizes == [True, False, True]
    plain = [sha256(source.salt + source.read(row)[0]).digest() for row in range(3)]
    now = [content_digest(source.read(row)[0], source.salt) for row in range(3)]
    assert [a == b for a, b in zip(plain, now, strict=True)] == [True, False, False]
