"""Vision transformers in timm's layout: parity with timm, and what isn't read."""

import functools
import re
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
from mca_jax.encoders.registry import build_image_encoder
from mca_jax.encoders.timm.config import find_kind, parse_trunk
from mca_jax.encoders.timm.images import parse_timm_images, prepare_timm_image

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "timm"
PICTURES = ROOT.parent / "dino" / "v2" / "golden.npz"
NAMES = golden_names("timm")
TOLERANCE = 1e-5


@functools.cache
def load(name):
    return build_image_encoder(str(ROOT / name))


@functools.cache
def pictures():
    golden = np.load(PICTURES)
    return [Image.fromarray(golden[f"picture_{i}"]) for i in range(3)]


def embed(name, images):
    encoder = load(name)
    pixels = np.stack([encoder.preprocess(image) for image in images])
    return np.asarray(jax.jit(encoder.encode_images)(encoder.params, pixels))


@pytest.mark.parametrize("name", NAMES)
def test_images_embed_as_in_the_reference(name):
    expected = np.load(ROOT / name / "golden.npz")["image_embeddings"]
    found = embed(name, pictures())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=promised("timm", name))
    # No trivial agreement.
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_live_reference_agrees_on_photographs(name):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    model = timm.create_model(f"local-dir:{ROOT / name}", pretrained=True)
    model.reset_classifier(0)
    config = timm.data.resolve_model_data_config(model)
    prepare = timm.data.create_transform(**config)
    photos = [photo(each) for each in PHOTOS]
    photos += [each.resize((301, 228)) for each in photos[:1]]
    with torch.no_grad():
        out = model.eval()(torch.stack([prepare(each) for each in photos]))
    expected = torch.nn.functional.normalize(out, dim=1).numpy()
    np.testing.assert_allclose(embed(name, photos), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("size", "share"), [((32, 32), 0.9), ((32, 48), 0.875)])
def test_live_preparation_is_that_of_the_reference(mode, size, share):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    settings = {"crop_pct": share, "crop_mode": mode, "interpolation": "bicubic"}
    prepare = timm.data.create_transform(
        (3, *size), **settings, mean=(0,) * 3, std=(1,) * 3
    )
    images = parse_timm_images(settings, size=size, source="x")
    rng = np.random.default_rng(0)
    for height, width in ((40, 61), (75, 33), (24, 24), (33, 32), (67, 50)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        expected = torch.round(prepare(image) * 255).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(prepare_timm_image(images, image), expected)


@pytest.mark.filterwarnings("ignore")
def test_live_names_are_known_by_what_they_are():
    """What is read is built of one kind of block, and what isn't is refused."""
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    seen = set()
    for name in timm.list_models("*vit*") + timm.list_models("deit*"):
        try:
            kind = find_kind(name, "x")
        except InputError:
            continue
        # Sizes of images and patches apart, once is enough.
        sister = kind, re.sub(r"\d+", "", name)
        if sister in seen:
            continue
        seen.add(sister)
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
        block = model.blocks[0]
        kinds = {type(part).__name__ for part in (block, block.attn, model.patch_embed)}
        assert kinds <= {
            *("Block", "Attention", "PatchEmbed"),
            *("EvaBlock", "EvaAttention", "AttentionRope"),
        }, name
        assert block.norm1.eps == kind.epsilon, name
        activations = {
            "GELU": "gelu",
            "GELUTanh": "gelu_pytorch_tanh",
            "QuickGELU": "quick_gelu",
        }
        found = type(block.mlp.act).__name__
        assert activations.get(found, kind.activation) == kind.activation, name
        settings = parse(name, model)
        assert settings.blocks.tower.num_heads == block.attn.num_heads, name
        assert bool(settings.rotation) == (getattr(model, "rope", None) is not None)
        pool = getattr(model, "attn_pool", None)
        assert (pool.num_heads if pool else None) == (
            settings.pool.num_heads if settings.pool else None
        ), name


def parse(name, model):
    return parse_trunk(
        name,
        {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()},
        image_size=model.patch_embed.img_size,
        pooling=model.global_pool,
        settings={},
        source=name,
    )


def test_what_an_encoder_promises():
    encoder = load("plain")
    assert (encoder.width, encoder.image_size) == (24, (32, 32))
    assert len({load(name).fingerprint for name in NAMES}) == len(NAMES)
    half = build_image_encoder(str(ROOT / "dinov3"), dtype="bfloat16")
    pixels = np.stack([half.preprocess(each) for each in pictures()])
    found = np.asarray(half.encode_images(half.params, pixels))
    assert np.sum(found * embed("dinov3", pictures()), axis=1).min() > 0.99


def change(tmp_path, name, edit):
    folder = Path(shutil.copytree(ROOT / name, tmp_path / name))
    edit_json(folder / "config.json", edit)
    return folder


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"architecture": "swin_base"}, "timm's swin_base is not supported: its plain"),
        ({"architecture": "vit_relpos_base_patch16_224"}, "is not supported"),
        ({"model_args": {"qk_norm": True}}, "changes qk_norm of timm's vit_small_pa"),
        ({"input_size": [3, 40, 40]}, "positions of 25 patches .* found 17"),
        ({"input_size": "x"}, "input_size in .* found 'x'"),
        ({"model_args": {"global_pool": "catavgmax"}}, "Unknown global_pool"),
        ({"pretrained_cfg": {"crop_pct": 2}}, "crop_pct in .* at most 1, found 2"),
        ({"pretrained_cfg": {"crop_mode": "border"}}, "Unknown crop_mode"),
        ({"pretrained_cfg": {"interpolation": "box"}}, "Unknown interpolation"),
    ],
)
def test_what_is_not_supported_is_one_line(tmp_path, edit, message):
    def apply(content):
        for part in ("model_args", "pretrained_cfg"):
            content[part].update(edit.get(part, {}))
        if "input_size" in edit:
            content["pretrained_cfg"]["input_size"] = edit["input_size"]
        for name in ("architecture", "global_pool"):
            content[name] = edit.get(name, content[name])

    with pytest.raises(InputError, match=message) as caught:
        build_image_encoder(str(change(tmp_path, "plain", apply)))
    assert "\n" not in str(caught.value)


def test_it_reads_no_nouns():
    with pytest.raises(InputError, match="take it as --image_encoder beside a CLIP"):
        build_encoder(str(ROOT / "plain"))
