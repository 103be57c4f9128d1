"""Checkpoints in open_clip's layout: parity with open_clip, and what isn't read."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from clip_goldens import PHOTOS, edit_json, photo
from parity import golden_names, promised
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.huggingface import checkpoint_files
from mca_jax.encoders.open_clip.images import parse_images, prepare_image
from mca_jax.encoders.open_clip.text_cleaning import CLEANING

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "open_clip"
NAMES = golden_names("open_clip")
TOLERANCE = 1e-5


@functools.cache
def load(name):
    return build_encoder(str(ROOT / name), prompts=("{}",))


@functools.cache
def golden(name):
    texts = json.loads((ROOT / name / "golden.json").read_text("utf-8"))
    return dict(np.load(ROOT / name / "golden.npz")), texts["texts"], texts["ids"]


@functools.cache
def compiled(name):
    encoder = load(name)
    return jax.jit(encoder.encode_images), jax.jit(encoder.encode_texts)


def embed(name, images):
    encoder = load(name)
    pixels = np.stack([encoder.preprocess(image) for image in images])
    return np.asarray(compiled(name)[0](encoder.params, pixels))


@pytest.mark.parametrize("name", NAMES)
def test_images_embed_as_in_the_reference(name):
    expected = golden(name)[0]
    pictures = [Image.fromarray(expected[f"picture_{i}"]) for i in range(3)]
    found = embed(name, pictures)
    tolerance = promised("open_clip", name)
    np.testing.assert_allclose(
        found, expected["image_embeddings"], rtol=0, atol=tolerance
    )
    # No trivial agreement.
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_texts_embed_as_in_the_reference(name):
    encoder = load(name)
    expected, texts, ids = golden(name)
    # Prompts tidy spaces up and need a noun; the reference takes a text as it is.
    rows = [
        row
        for row, text in enumerate(texts)
        if text and text == " ".join(text.split()) and "_" not in text
    ]
    tokens = encoder.tokenize([texts[row] for row in rows], [""] * len(rows))
    found = np.asarray(compiled(name)[1](encoder.params, tokens))
    wanted = expected["text_embeddings"][rows]
    tolerance = promised("open_clip", name)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    given = np.asarray(ids)[rows, : tokens.shape[2]]
    if name.startswith("siglip"):
        np.testing.assert_array_equal(tokens[:, 0], given)
    assert np.abs(wanted[0] - wanted[4]).max() > 0.01


@pytest.mark.filterwarnings("ignore")
# timm's towers have true sizes there, not those of the goldens.
@pytest.mark.parametrize("name", ["custom_text", "vit"])
def test_live_reference_agrees_on_photographs(name):
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{ROOT / name}")
    photos = [photo(each) for each in PHOTOS]
    photos += [each.resize((301, 228)) for each in photos[:1]]
    with torch.no_grad():
        pixels = torch.stack([prepare(each) for each in photos])
        expected = model.eval().encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(embed(name, photos), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_live_preparation_is_that_of_the_reference(mode, size):
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    prepare = open_clip.image_transform(
        size,
        is_train=False,
        resize_mode=mode,
        mean=(0,) * 3,
        std=(1,) * 3,
        fill_color=9,
    )
    images = parse_images({"resize_mode": mode, "fill_color": 9}, size=size, source="x")
    rng = np.random.default_rng(0)
    for height, width in ((40, 61), (75, 33), (24, 24), (33, 32), (67, 50)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        expected = torch.round(prepare(image) * 255).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(prepare_image(images, image), expected)


def test_a_crop_is_rounded_where_transformers_cuts():
    """37 pixels to 32: the middle begins at 2.5, which is rounded to even."""
    row = np.arange(37, dtype=np.uint8)
    image = Image.fromarray(np.broadcast_to(row[None, :, None], (32, 37, 3)).copy())
    images = parse_images({}, size=(32, 32), source="x")
    assert prepare_image(images, image)[0, 0, 0] == 2
    wider = Image.fromarray(np.pad(np.asarray(image), ((0, 0), (0, 2), (0, 0))))
    # 39 pixels: 3.5 becomes 4, where cutting gives 3.
    assert prepare_image(images, wider)[0, 0, 0] == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lower", "it's a café & (bar)"),
        ("whitespace", "It's a CAFÉ & (Bar)"),
        ("canonicalize", "its a café bar"),
    ],
)
def test_texts_are_cleaned(name, expected):
    assert CLEANING[name](" It’s a  CAFÃ‰ &amp;amp; (Bar)\n") == expected


def test_what_an_encoder_promises():
    encoder = load("siglip")
    assert (encoder.width, encoder.image_size) == (24, (36, 36))
    assert load("vit").count_tokens is not None
    # Texts that see their padding keep it.
    assert load("mobileclip2").count_tokens is None
    assert load("mobileclip2").tokenize(["cat"], [""]).shape == (1, 1, 24)
    prints = {load(name).fingerprint for name in NAMES}
    prints |= {load(name).image_fingerprint for name in NAMES}
    assert len(prints) == 2 * len(NAMES)


def change(tmp_path, name, edit):
    folder = Path(shutil.copytree(ROOT / name, tmp_path / name))
    edit_json(folder / "open_clip_config.json", edit)
    return folder


@pytest.mark.parametrize(
    ("name", "section", "changes", "message"),
    [
        ("vit", "vision_cfg", {"no_ln_pre": True}, "no_ln_pre True in vision_cfg, an"),
        ("vit", "vision_cfg", {"pool_type": "avg"}, "pools images by 'avg'"),
        (
            "vit",
            "text_cfg",
            {"hf_model_name": "xlm"},
            "hf_model_name 'xlm'",
        ),
        (
            "vit",
            "text_cfg",
            {"pool_type": "last"},
            "no_causal_mask False and pool_type",
        ),
        ("vit", "text_cfg", {"use_pad_mask": True}, "which is not supported"),
        ("perception", "vision_cfg", {"timm_pool": "max"}, "Unknown global_pool"),
        (
            "perception",
            "vision_cfg",
            {"image_size": 40},
            "of 25 patches in .* found 17",
        ),
        ("vit", "text_cfg", {"layers": 3}, r"Missing tensors .*layers\.2"),
        ("vit", "vision_cfg", {"image_size": 40}, r"position_embedding.* \[26, 24\]"),
        ("vit", "vision_cfg", {"width": "x"}, "Expected width in .* found 'x'"),
        (
            "siglip",
            "vision_cfg",
            {"timm_model_name": "fastvit_mci0"},
            "timm's fast",
        ),
        (
            "siglip",
            "vision_cfg",
            {"timm_pool": "avg"},
            "timm's vit_base_p",
        ),
        (
            "siglip",
            "text_cfg",
            {"tokenizer_kwargs": {"clean": "x"}},
            "Unknown clean",
        ),
    ],
)
def test_what_is_not_supported_is_one_line(tmp_path, name, section, changes, message):
    folder = change(tmp_path, name, lambda c: c["model_cfg"][section].update(changes))
    with pytest.raises(InputError, match=message) as caught:
        build_encoder(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize_mode": "x"}, "Unknown resize_mode in"),
        ({"interpolation": "nearest"}, "Unknown interpolation in"),
        (
            {"mean": [0.5, 0.5]},
            r"Expected mean in .* of three numbers, found",
        ),
        ({"std": [1, 0, 1]}, "Expected std in"),
        ({"fill_color": -1}, "Expected fill_color in .* between 0 and 255, found -1"),
    ],
)
def test_preparations_that_are_unknown(tmp_path, changes, message):
    folder = change(tmp_path, "vit", lambda c: c["preprocess_cfg"].update(changes))
    with pytest.raises(InputError, match=message):
        build_encoder(str(folder))


def test_a_coca_and_damaged_files_are_told(tmp_path):
    folder = change(tmp_path, "vit", lambda c: c["model_cfg"].update(multimodal_cfg={}))
    with pytest.raises(InputError, match="describes a CoCa, which is not supported"):
        build_encoder(str(folder))
    edit_json(folder / "open_clip_config.json", lambda c: c.clear())
    with pytest.raises(InputError, match="Expected model_cfg in"):
        build_encoder(str(folder))
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"No open_clip_model\.safetensors and no mod"):
        build_encoder(str(folder))


def test_the_layout_of_transformers_comes_first(tmp_path):
    """Many repositories hold both; some only a pickle for transformers."""
    folder = Path(shutil.copytree(ROOT / "vit", tmp_path / "both"))
    other = ROOT.parent / "clip" / "openai"
    for file in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        shutil.copy(other / file, folder / file)
    assert build_encoder(str(folder)).image_fingerprint == load("vit").image_fingerprint
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    found = build_encoder(str(folder)).image_fingerprint
    assert found == build_encoder(str(other)).image_fingerprint


def test_the_tokenizer_of_another_repository(monkeypatch, tmp_path):
    """open_clip's own comes with the library, not with each checkpoint."""
    folder = Path(shutil.copytree(ROOT / "vit", tmp_path / "vit"))
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()
    asked = []

    def download(name, patterns, arguments):
        asked.append(name)
        if len(asked) > 1:
            raise InputError("no network")
        return ROOT / "vit"

    monkeypatch.setattr(checkpoint_files, "_download", download)
    assert build_encoder(str(folder), prompts=("{}",)).fingerprint == (
        load("vit").fingerprint
    )
    with pytest.raises(InputError, match="that of openai/clip-vit-base-patch32, which"):
        build_encoder(str(folder))
    assert asked == ["openai/clip-vit-base-patch32"] * 2
