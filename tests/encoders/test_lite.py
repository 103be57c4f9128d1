"""The embedded encoder end to end: pixels, nouns, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mca_jax.core.assets import load_asset
from mca_jax.core.errors import InputError
from mca_jax.encoders import ENCODERS, build_encoder
from mca_jax.encoders.lite.encoder import (
    build_lexicon,
    build_lite,
    find_rows,
    preprocess,
)

DOG, CRANE_BIRD, GOLDFISH = "n02084071", "n02012849", "n01443537"


@pytest.fixture(scope="module")
def lite():
    return build_lite()


@pytest.fixture(scope="module")
def encode_images(lite):
    return jax.jit(lite.encode_images)


def encode_nouns(encoder, names, synsets=None):
    tokens = encoder.tokenize(names, synsets or [""] * len(names))
    return np.asarray(encoder.encode_texts(encoder.params, tokens))


def photographs() -> list[Image.Image]:
    """A temple in its park, and a dahlia."""
    datasets = pytest.importorskip("sklearn.datasets")
    return [Image.fromarray(photo) for photo in datasets.load_sample_images().images]


def test_registry():
    assert {"lite", "lite2"} <= set(ENCODERS)
    with pytest.raises(InputError, match=r"Unknown encoder 'light'; did you mean 'l"):
        build_encoder("light")


@pytest.mark.parametrize(("name", "size"), [("lite", 224), ("lite2", 260)])
def test_describes_itself(name, size):
    encoder = build_encoder(name)
    assert encoder.name == name
    assert encoder.image_size == (size, size)
    assert encoder.width == 1280
    assert encoder.licence == "Apache-2.0"
    assert "photographs" in encoder.domain
    assert len(bytes.fromhex(encoder.fingerprint)) == 32
    assert encoder.fingerprint == build_encoder(name).fingerprint


def test_nets_have_different_fingerprints():
    assert build_encoder("lite").fingerprint != build_encoder("lite2").fingerprint


def test_unknown_convolution():
    with pytest.raises(InputError, match="Unknown convolution 'fast'"):
        build_lite(convolution="fast")


def test_image_embeddings(lite, encode_images):
    pixels = np.stack([lite.preprocess(photo) for photo in photographs()])
    found = np.asarray(encode_images(lite.params, pixels))
    assert found.shape == (2, 1280)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_photographs_find_their_nouns(lite, encode_images):
    pixels = np.stack([lite.preprocess(photo) for photo in photographs()])
    images = np.asarray(encode_images(lite.params, pixels))
    nouns = ["temple", "flower", "dog", "airplane", "spoon", "frog"]
    scores = images @ encode_nouns(lite, nouns).T
    assert [nouns[best] for best in scores.argmax(1)] == ["temple", "flower"]


def test_text_embeddings_are_the_stated_mixture(lite):
    tokens = lite.tokenize(["dog", "carburetor"], [DOG, ""])
    found = np.asarray(lite.encode_texts(lite.params, tokens))
    rows = lite.params["classes"].astype(np.float64)
    for noun in range(2):
        mixture = np.zeros(1000)
        mixture[tokens["classes"][noun]] = tokens["weights"][noun]
        expected = mixture @ rows
        expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(found[noun], expected, atol=1e-5)


def test_mixtures_are_distributions_heaviest_first():
    nouns = load_asset("lite.nouns.npz")
    weights = nouns["weights"].astype(np.float32)
    assert nouns["classes"].shape == weights.shape == (82115, 16)
    assert nouns["classes"].max() < 1000
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=2e-3)
    assert np.all(np.diff(weights, axis=1) <= 0)
    assert np.all(np.diff(np.sort(nouns["classes"], axis=1), axis=1) > 0)


def test_a_noun_that_is_a_class_is_mostly_that_class(lite):
    # Goldfish is ImageNet's class 1.
    tokens = lite.tokenize(["goldfish"], [GOLDFISH])
    assert tokens["classes"][0, 0] == 1
    found = encode_nouns(lite, ["goldfish"])[0]
    cosines = lite.params["classes"].astype(np.float32) @ found
    assert cosines.argmax() == 1
    assert cosines[1] > 0.7


def test_similar_nouns_are_near(lite):
    pairs = ["wolf", "dog", "saxophone", "trumpet", "car", "truck"]
    found = encode_nouns(lite, pairs)
    cosines = found @ found.T - 2.0 * np.eye(6, dtype=np.float32)
    np.testing.assert_array_equal(cosines.argmax(1), [1, 0, 3, 2, 5, 4])


def test_class_rows_are_centred_unit_vectors(lite):
    rows = lite.params["classes"].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3)
    assert np.linalg.norm(rows.mean(0)) < 0.1


def test_encode_texts_under_jit_and_empty(lite):
    tokens = lite.tokenize(["dog", "cat"], ["", ""])
    plain = lite.encode_texts(lite.params, tokens)
    compiled = jax.jit(lite.encode_texts)(lite.params, tokens)
    np.testing.assert_allclose(compiled, plain, atol=1e-6)
    empty = lite.encode_texts(lite.params, lite.tokenize([], []))
    assert empty.shape == (0, 1280)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Windsor_chair", "windsor chair"),
        ("  polar   bear ", "polar bear"),
        ("dogs", "dog"),
        ("butterflies", "butterfly"),
        ("foxes", "fox"),
        ("benches", "bench"),
        ("mice", "mouse"),
        ("firemen", "fireman"),
        ("GOLDFISH", "goldfish"),
    ],
)
def test_names_are_found_in_every_spelling(lite, name, same):
    tokens = lite.tokenize([name, same], ["", ""])
    np.testing.assert_array_equal(tokens["classes"][0], tokens["classes"][1])
    np.testing.assert_array_equal(tokens["weights"][0], tokens["weights"][1])


def test_synset_id_decides_between_senses(lite):
    found = encode_nouns(lite, ["crane", "crane", "bird"], [CRANE_BIRD, "", ""])
    assert found[0] @ found[2] > found[1] @ found[2] + 0.1


def test_unknown_synset_id_falls_back_to_the_name(lite):
    tokens = lite.tokenize(["dog", "dog"], ["n99999999", "user-17"])
    dog = lite.tokenize(["dog"], [DOG])
    np.testing.assert_array_equal(tokens["classes"], np.repeat(dog["classes"], 2, 0))


def test_unknown_nouns_are_named(lite):
    with pytest.raises(InputError, match=r"nouns: 'qwxy'; leave .* CLIP encoder"):
        lite.tokenize(["dog", "qwxy"], ["", ""])
    seven = [f"qwxy {letter}" for letter in "abcdefg"]
    with pytest.raises(InputError, match=r"'qwxy a', .*'qwxy e' and 2 more;"):
        lite.tokenize(seven, [""] * 7)


def test_names_and_ids_must_match_in_number(lite):
    with pytest.raises(InputError, match="each of 2 names, found 1"):
        lite.tokenize(["dog", "cat"], [""])


def test_lexicon_by_hand():
    lexicon = build_lexicon(
        np.array([10, 20, 30], np.int32),
        np.frombuffer(b"ox\noxen\nglass\nbox", np.uint8),
        np.array([0, 0, 1, 2], np.int32),
    )
    names = ["Oxen", "glasses", "boxes", "glass", "anything"]
    ids = ["", "", "", "n00000030", "n00000010"]
    assert find_rows(lexicon, names, ids).tolist() == [0, 1, 2, 2, 0]


def bicubic_reference(image: np.ndarray, size: int) -> np.ndarray:
    """Scale the central square with Keys' kernel, a = -1/2, as Pillow defines it."""

    def kernel(x):
        x = np.abs(x)
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    def matrix(length, start, side):
        scale = side / size
        stretch = max(scale, 1.0)
        centres = start + (np.arange(size) + 0.5) * scale
        taps = kernel((np.arange(length)[None] + 0.5 - centres[:, None]) / stretch)
        return taps / taps.sum(1, keepdims=True)

    height, width = image.shape[:2]
    side = min(height, width) * size / (size + 32)
    rows = matrix(height, (height - side) / 2, side)
    columns = matrix(width, (width - side) / 2, side)
    # Columns first, and whole levels in between.
    wide = (columns @ image.astype(np.float64)).round().clip(0, 255)
    return np.tensordot(rows, wide, 1).clip(0, 255)


def test_preprocess_is_bicubic_scaling_of_the_centre():
    for photo in photographs():
        found = preprocess(photo, size=224)
        expected = bicubic_reference(np.asarray(photo), 224)
        # Half a level from rounding, the rest from Pillow's fixed-point kernel.
        assert np.abs(found - expected).max() <= 1.6
        assert np.abs(found - expected).mean() <= 0.3


def test_preprocess_takes_the_centre():
    image = np.zeros((256, 768, 3), np.uint8)
    image[:, 256:512] = (10, 200, 30)
    found = preprocess(Image.fromarray(image), size=224)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.broadcast_to([10, 200, 30], (224, 224, 3)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (5000, 2), (3, 3), (256, 256)])
def test_preprocess_copes_with_any_shape(shape):
    image = Image.new("RGB", shape, (1, 2, 3))
    for size in (224, 260):
        found = preprocess(image, size=size)
        assert found.shape == (size, size, 3)
        np.testing.assert_array_equal(found[0, 0], [1, 2, 3])


def test_importing_reads_no_asset():
    code = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0]))
                 if event == "open" else None)
import mca_jax.encoders.lite.encoder
bad = [path for path in opened if path.endswith((".npz", "MANIFEST.json"))]
assert not bad, bad
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_row_does_not_depend_on_its_place_in_the_batch(lite, encode_images):
    # The cache relies on it: images meet in other batches on a second run.
    photos = [lite.preprocess(photo) for photo in photographs()]
    first = encode_images(lite.params, np.stack([*photos, *photos[::-1], photos[0]]))
    np.testing.assert_array_equal(first[0], first[3])
    np.testing.assert_array_equal(first[0], first[4])
    np.testing.assert_array_equal(first[1], first[2])


def test_direct_and_unrolled_agree(encode_images, lite):
    direct = build_lite(convolution="direct")
    pixels = np.stack([lite.preprocess(photo) for photo in photographs()])
    found = jax.jit(direct.encode_images)(direct.params, jnp.asarray(pixels))
    expected = encode_images(lite.params, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
