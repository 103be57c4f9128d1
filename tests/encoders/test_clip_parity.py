"""Embeddings of golden checkpoints against the reference's, stored and live."""

import json

import jax
import numpy as np
import pytest
from clip_goldens import (
    NAMES,
    PHOTOS,
    ROOT,
    compiled,
    embed_images,
    load_encoder,
    load_golden,
    load_texts,
    padded,
    photo,
    pictures,
)
from parity import promised

from mca_jax.encoders.clip.encoder import build_clip

# What the reference itself may differ by on another machine.
TOLERANCE = 1e-5


def filling(name, ids):
    """Padding CLIP's rows with the end token is what most checkpoints do."""
    return 0 if name == "chinese" else ids[0][-1]


@pytest.mark.parametrize("name", NAMES)
def test_images_embed_as_in_the_reference(name):
    expected = load_golden(name)["image_embeddings"]
    found = embed_images(name, pictures(name))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=promised("clip", name))


@pytest.mark.parametrize("name", NAMES)
def test_texts_embed_as_in_the_reference(name):
    encoder = load_encoder(name)
    _, ids = load_texts(name)
    tokens = padded(ids, filling(name, ids))
    found = np.asarray(compiled(name)[1](encoder.params, tokens))
    expected = load_golden(name)["text_embeddings"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=promised("clip", name))
    # The goldens are no trivial agreement: texts lie far apart.
    assert np.abs(expected[0] - expected[4]).max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_logit_scale_and_bias_are_those_of_the_reference(name):
    golden = load_golden(name)
    params = load_encoder(name).params
    cosine = golden["image_embeddings"] @ golden["text_embeddings"].T
    logits = np.exp(params["logit_scale"]) * cosine + params["logit_bias"]
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["laion", "siglip2", "siglip2_naflex"])
def test_bfloat16_stays_close(name):
    encoder = build_clip(str(ROOT / name), dtype="bfloat16")
    leaves = jax.tree.leaves({k: encoder.params[k] for k in ("image", "text")})
    assert {str(leaf.dtype) for leaf in leaves} == {"bfloat16"}
    pixels = np.stack([encoder.preprocess(image) for image in pictures(name)])
    found = np.asarray(jax.jit(encoder.encode_images)(encoder.params, pixels))
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    # bfloat16 keeps 8 bits: errors of 1 % add up over layers of random weights.
    agreement = np.sum(found * load_golden(name)["image_embeddings"], axis=1)
    assert agreement.min() > 0.995


def reference(name):
    """The checkpoint's PyTorch model and image processor, by transformers."""
    transformers = pytest.importorskip("transformers")
    kind = json.loads((ROOT / name / "config.json").read_text())["architectures"][0]
    image = {
        "CLIPModel": transformers.CLIPImageProcessorPil,
        "ChineseCLIPModel": transformers.ChineseCLIPImageProcessorPil,
        "MetaClip2Model": transformers.CLIPImageProcessorPil,
        "SiglipModel": transformers.SiglipImageProcessorPil,
        "Siglip2Model": transformers.Siglip2ImageProcessorPil,
    }[kind]
    model = getattr(transformers, kind).from_pretrained(ROOT / name)
    return model.eval(), image.from_pretrained(ROOT / name)


# The reference has no rectangular images, and can't read weights of Flax.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted({*NAMES} - {"rectangular"}))
def test_live_reference_agrees_on_photographs(name):
    torch = pytest.importorskip("torch")
    model, processor = reference(name)
    photos = [photo(each) for each in PHOTOS]
    encoder = load_encoder(name)
    _, ids = load_texts(name)
    tokens = padded(ids, filling(name, ids))
    inputs = {
        k: torch.from_numpy(np.asarray(v))
        for k, v in processor(photos, return_tensors="np").items()
    }
    if name == "chinese":
        inputs["attention_mask"] = torch.from_numpy(tokens[:, 0] != 0)
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(tokens[:, 0].astype(np.int64)), **inputs)
    np.testing.assert_allclose(
        embed_images(name, photos),
        out.image_embeds.numpy(),
        rtol=0,
        atol=TOLERANCE,
    )
    np.testing.assert_allclose(
        compiled(name)[1](encoder.params, tokens),
        out.text_embeds.numpy(),
        rtol=0,
        atol=TOLERANCE,
    )
