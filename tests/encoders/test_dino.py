"""DINOv2 and DINOv3: parity with the reference, and bad checkpoints."""

import functools
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_goldens import PHOTOS, edit_json, photo
from parity import golden_names, promised
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.dino.encoder import build_dino
from mca_jax.encoders.dino.tower import resize_weights
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.huggingface.transformer import _LONG_ROW, ACTIVATIONS, attend
from mca_jax.encoders.registry import build_image_encoder

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "dino"
NAMES = golden_names("dino")
TOLERANCE = 1e-5


@functools.cache
def load(name):
    return build_dino(str(ROOT / name))


@functools.cache
def compiled(name):
    return jax.jit(load(name).encode_images)


def embed(name, images):
    encoder = load(name)
    pixels = np.stack([encoder.preprocess(image) for image in images])
    return np.asarray(compiled(name)(encoder.params, pixels))


def pictures(name):
    golden = np.load(ROOT / name / "golden.npz")
    return [Image.fromarray(golden[f"picture_{i}"]) for i in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_images_embed_as_in_the_reference(name):
    expected = np.load(ROOT / name / "golden.npz")["image_embeddings"]
    found = embed(name, pictures(name))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=promised("dino", name))
    # No trivial agreement.
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_live_reference_agrees_on_photographs(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(ROOT / name, dtype=torch.float32)
    photos = [photo(each) for each in PHOTOS]
    photos += [each.resize((301, 228)) for each in photos[:1]]
    if name.startswith("v3"):
        processor = transformers.DINOv3ViTImageProcessor.from_pretrained(ROOT / name)
        photos = [each.resize((32, 32), Image.Resampling.BILINEAR) for each in photos]
    else:
        processor = transformers.BitImageProcessorPil.from_pretrained(ROOT / name)
    with torch.no_grad():
        out = model.eval()(**processor(photos, return_tensors="pt")).pooler_output
    expected = torch.nn.functional.normalize(out, dim=1).numpy()
    np.testing.assert_allclose(embed(name, photos), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(37, 16), (6, 4), (4, 9), (16, 16)])
def test_live_resizing_is_that_of_the_reference(old, new, antialias):
    torch = pytest.importorskip("torch")
    rows = torch.eye(old, dtype=torch.float64)[None, None]
    expected = torch.nn.functional.interpolate(
        rows, size=(new, old), mode="bicubic", antialias=antialias
    )[0, 0].numpy()
    found = resize_weights(old, new, antialias=antialias)
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("antialias", [False, True])
def test_resizing_keeps_what_is_even_and_its_size(antialias):
    np.testing.assert_allclose(
        resize_weights(37, 16, antialias=antialias).sum(axis=1), 1, atol=1e-12
    )
    same = resize_weights(9, 9, antialias=antialias)
    np.testing.assert_allclose(same, np.eye(9), atol=1e-12)


def test_it_is_an_encoder_of_images_alone():
    found = build_image_encoder(str(ROOT / "v2"))
    assert found.fingerprint == load("v2").fingerprint
    clip = str(ROOT.parent / "clip" / "openai")
    assert build_image_encoder(clip).fingerprint == build_encoder(clip).fingerprint
    assert build_image_encoder("lite").name == "lite"
    with pytest.raises(InputError, match="found 'dinov2': it sees images and reads no"):
        build_encoder(str(ROOT / "v2"))


def test_what_an_encoder_promises():
    encoder = load("v2")
    assert (encoder.width, encoder.image_size, encoder.licence) == (
        24,
        (32, 32),
        "unknown",
    )
    assert len({load(name).fingerprint for name in NAMES}) == len(NAMES)
    half = build_dino(str(ROOT / "v2"), dtype="bfloat16")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(half.params)} == {"bfloat16"}
    pixels = np.stack([encoder.preprocess(each) for each in pictures("v2")])
    found = np.asarray(half.encode_images(half.params, pixels))
    assert np.sum(found * embed("v2", pictures("v2")), axis=1).min() > 0.99
    with pytest.raises(InputError, match=r"pixels of shape \[b, 32, 32, 3\] .* \[1, 8"):
        encoder.encode_images(encoder.params, pixels[:1, :8])


def test_a_set_is_embedded_and_kept(tmp_path):
    pixels = np.stack([load("v3").preprocess(each) for each in pictures("v3")])
    found = embed_images(load("v3"), pixels, cache_dir=tmp_path, batch_size=2)
    expected = embed("v3", [Image.fromarray(each) for each in pixels])
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
    again = embed_images(load("v3"), pixels, cache_dir=tmp_path, batch_size=2)
    assert again.num_computed == 0


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("v2", {"model_type": "vit"}, "model_type dinov2, .* found 'vit'"),
        ("v2", {"num_hidden_layers": 4}, r"Missing tensors in .*: layer\.3"),
        ("v2", {"num_hidden_layers": 2}, r"Unknown tensors in .*: layer\.2"),
        ("v2", {"image_size": 56}, r"position_embeddings .* \[1, 50, 24\] .* \[1, 37"),
        ("v2", {"mlp_ratio": 0}, "mlp_ratio of .* above 0, found 0"),
        ("v2", {"num_channels": 1}, "Expected num_channels 3"),
        ("v2", {"use_swiglu_ffn": True}, r"Missing tensors in .*both_proj"),
        (
            "v2_registers",
            {"num_register_tokens": -1},
            "num_register_tokens in .* found",
        ),
        ("v3", {"rope_theta": 0.5}, "rope_theta above 1, found 8 and 0.5"),
        ("v3", {"num_attention_heads": 4}, "heads of .* in fours .* found 6"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path, name, changes, message):
    folder = Path(shutil.copytree(ROOT / name, tmp_path / name))
    edit_json(folder / "config.json", lambda c: c.update(changes))
    with pytest.raises(InputError, match=message) as caught:
        build_dino(str(folder))
    assert "\n" not in str(caught.value)


def test_images_are_sized_by_the_processor(tmp_path):
    folder = Path(shutil.copytree(ROOT / "v2", tmp_path / "v2"))
    crop = {"crop_size": {"height": 24, "width": 40}, "size": {"shortest_edge": 40}}
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(crop))
    encoder = build_dino(str(folder))
    assert encoder.image_size == (24, 40)
    pixels = np.stack([encoder.preprocess(each) for each in pictures("v2")])
    assert encoder.encode_images(encoder.params, pixels).shape == (3, 24)
    small = {"crop_size": {"height": 4, "width": 4}}
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(small))
    with pytest.raises(InputError, match="images of at least 8 pixels .* found 4x4"):
        build_dino(str(folder))


def test_long_rows_are_attended_to_one_by_one_as_all_at_once():
    parts = np.random.default_rng(0).standard_normal((3, 2, _LONG_ROW, 8), np.float32)
    query, keys, values = jnp.asarray(parts)
    one_by_one = jax.make_jaxpr(partial(attend, mask=None, num_heads=2))
    assert "scan" in str(one_by_one(query, keys, values))
    everything = jnp.ones((1, 1, 1, _LONG_ROW), bool)
    expected = attend(query, keys, values, everything, 2)
    assert expected.shape == (2, _LONG_ROW, 8)
    found = attend(query, keys, values, None, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gelu_is_that_of_the_error_function():
    x = jnp.linspace(-8, 8, 1001)
    expected = jax.nn.gelu(x, approximate=False)
    np.testing.assert_allclose(ACTIVATIONS["gelu"](x), expected, atol=1e-6)
