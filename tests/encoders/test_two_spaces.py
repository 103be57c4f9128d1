"""Two encoders that see the images, of which one names them."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.encoders.registry import build_image_encoder

GOLDENS = Path(__file__).resolve().parent.parent / "goldens"
CLIP, DINO = str(GOLDENS / "clip" / "openai"), str(GOLDENS / "dino" / "v2")
NOUNS = ["cat", "sea lion"]


@pytest.fixture(scope="module")
def both():
    return build_encoder(CLIP, image=DINO)


def images():
    golden = np.load(GOLDENS / "dino" / "v2" / "golden.npz")
    return [Image.fromarray(golden[f"picture_{i}"]) for i in range(3)]


def test_images_are_both_side_by_side(both):
    parts = []
    for encoder in (build_encoder(CLIP), build_image_encoder(DINO)):
        pixels = np.stack([encoder.preprocess(each) for each in images()])
        parts.append(jax.jit(encoder.encode_images)(encoder.params, pixels))
    pixels = np.stack([both.preprocess(each) for each in images()])
    assert pixels.shape == (3, *both.image_size, 3)
    found = np.asarray(jax.jit(both.encode_images)(both.params, pixels))
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1) / 2**0.5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert both.spaces == (20, 24)
    assert both.width == 44


def test_nouns_are_in_the_first_space_alone(both):
    expected = embed_nouns(build_encoder(CLIP), NOUNS, ["", ""]).embeddings
    found = embed_nouns(both, NOUNS, ["", ""]).embeddings
    np.testing.assert_allclose(found[:, :20], expected, atol=1e-6)
    np.testing.assert_array_equal(found[:, 20:], 0)


def test_what_tells_encoders_apart(both):
    others = [
        build_encoder(CLIP),
        build_encoder(CLIP, image=CLIP),
        build_encoder(str(GOLDENS / "clip" / "laion"), image=DINO),
        build_encoder(CLIP, image=str(GOLDENS / "dino" / "v3")),
    ]
    assert len({each.image_fingerprint for each in (both, *others)}) == 5
    prompted = build_encoder(CLIP, image=DINO, prompts=("{}",))
    assert prompted.image_fingerprint == both.image_fingerprint
    assert prompted.fingerprint != both.fingerprint
    assert f"; images also seen by {DINO}: images of many kinds" in both.domain


def test_embedded_ones_go_together_too(tmp_path):
    joined = build_encoder("lite", image="lite2")
    assert joined.spaces == (1280, 1280)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    found = embed_images(joined, pixels, batch_size=2, cache_dir=tmp_path)
    alone = [
        embed_images(build_encoder(name), pixels, batch_size=2).embeddings
        for name in ("lite", "lite2")
    ]
    expected = np.concatenate(alone, axis=1) / 2**0.5
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)


def test_a_bad_second_encoder_is_told():
    with pytest.raises(InputError, match="Unknown encoder 'lite3'; did you mean 'lite"):
        build_encoder(CLIP, image="lite3")
    with pytest.raises(InputError, match="found 'dinov2': it sees .* --image_encoder"):
        build_encoder(DINO, image=CLIP)
