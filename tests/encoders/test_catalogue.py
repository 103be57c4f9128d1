"""The list of what works; the tests of parity hold each family to what it says."""

import json
import re
import shutil
from pathlib import Path

import pytest

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.catalogue import (
    CHECKPOINTS,
    FAMILIES,
    SPEEDS,
    list_encoders,
)
from mca_jax.encoders.clip.unsupported import _NEAREST_IMAGES, describe_unsupported
from mca_jax.encoders.huggingface.twins import _TWINS
from mca_jax.encoders.open_clip.config import _NEAREST
from mca_jax.encoders.registry import build_image_encoder
from mca_jax.encoders.sentence.encoder import build_sentence_encoder

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
# Ids on the hub of those who publish encoders.
_NAMED = re.compile(
    r"(?:facebook|google|laion|nomic-ai|OFA-Sys|openai|Qwen|sentence-transformers|timm)"
    r"/[\w.-]*\w"
)
# A page says how this one's pickle is converted.
_TOLD = {"OFA-Sys/chinese-clip-vit-base-patch16"}


def test_every_golden_and_checkpoint_is_of_a_family():
    listed = {name for family in FAMILIES.values() for name in family.goldens}
    parts = ("clip", "dino", "open_clip", "sentence", "timm")
    folders = [GOLDENS / part for part in parts]
    assert listed == {
        f"{folder.name}/{each.name}" for folder in folders for each in folder.iterdir()
    }
    assert {each.family for each in CHECKPOINTS} == set(FAMILIES)


def test_the_page_holds_the_list():
    page = (ROOT / "docs" / "encoders.md").read_text("utf-8")
    assert list_encoders(is_markdown=True) in page


def test_the_terminal_gets_aligned_columns():
    lines = list_encoders().splitlines()
    assert len(lines) == 3 + len(CHECKPOINTS)
    place = lines[0].index("checkpoint")
    assert all(line[place - 1] == " " and line[place] != " " for line in lines)


def test_every_image_tower_has_a_measured_speed():
    shapes = {each.tower for each in CHECKPOINTS if each.tower}
    assert shapes | {"lite", "lite2"} == set(SPEEDS)
    texts = {each.id for each in CHECKPOINTS if not each.tower}
    assert {FAMILIES[each.family].flag for each in CHECKPOINTS if each.id in texts} == {
        "--text_encoder"
    }
    source = (ROOT / "benchmarks" / "encoder_list.py").read_text("utf-8")
    assert all(f'"{shape}": lambda' in source for shape in shapes)


def test_pages_name_encoders_that_can_be_loaded():
    """By the list, by a twin of what is on it, or by what the page says of them."""
    listed = {each.id for each in CHECKPOINTS} | {*_TWINS.values()}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {
        (page.name, name)
        for page in pages
        for name in _NAMED.findall(page.read_text("utf-8"))
    }
    assert ("README.md", "openai/clip-vit-base-patch32") in named
    unknown = {each for each in named if each[1] not in listed | _TOLD}
    assert not unknown


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("dinov2", "sees images and reads no nouns; take it as --image_encoder"),
        ("mpnet", "a text encoder; pass it as --text_encoder"),
        ("qwen3", "a text encoder; pass it as --text_encoder"),
        ("vit_mae", "not supported; the nearest beside a CLIP is --image_encoder="),
        (
            "altclip",
            "whose text tower is XLM-RoBERTa, is not supported; the nearest is",
        ),
        ("chinese_clip_vision_model", "one tower of a Chinese-CLIP, is not"),
        ("siglip_vision_model", "one tower of a SigLIP, is not"),
        ("siglip2_vision_model", "one tower of a SigLIP 2, is not"),
        ("clip_text_model", "one tower of a CLIP, is not"),
        ("None", "mca-jax encoders lists what works"),
    ],
)
def test_what_is_not_supported_is_told_with_the_nearest(tmp_path, model_type, message):
    assert message in describe_unsupported(model_type)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match="Expected .* to have model_type") as caught:
        build_encoder(str(tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_timms_own_layout_is_told(tmp_path):
    config = {"architecture": "swin_base_patch4_window7_224", "num_features": 768}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="timm's own layout holds no text tower; take"):
        build_encoder(str(tmp_path))
    with pytest.raises(InputError, match="timm's swin_base_patch4_window7_224 is not"):
        build_image_encoder(str(tmp_path))


def test_twins_are_of_the_list_or_their_sisters():
    owners = {each.id.partition("/")[0] for each in CHECKPOINTS}
    assert {twin.partition("/")[0] for twin in _TWINS.values()} <= owners


@pytest.mark.parametrize(
    ("model_type", "nearest"),
    [
        ("vit", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"),
        ("vit_mae", "timm/vit_base_patch16_224.mae"),
        ("dinov3_convnext", "facebook/dinov3-vitb16-pretrain-lvd1689m"),
        ("efficientnet", "facebook/dinov2-base"),
    ],
)
def test_other_encoders_of_images_are_told(tmp_path, model_type, nearest):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match=f"the nearest is {nearest}, and") as caught:
        build_image_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "nearest"),
    [
        ("qwen2", "Qwen/Qwen3-Embedding-0.6B"),
        ("t5", "sentence-transformers/all-mpnet-base-v2"),
    ],
)
def test_other_encoders_of_texts_are_told(tmp_path, model_type, nearest):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match=f"the nearest is {nearest}$") as caught:
        build_sentence_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("vision", "nearest"),
    [
        ({"timm_model_name": "fastvit_mci0"}, "timm/MobileCLIP2-L-14-OpenCLIP$"),
        ({"timm_model_name": "convnext_base_w"}, "laion/CLIP-ViT-B-16-laion2B-s34B"),
        ({"timm_model_name": "vit_pe_core_gigantic_patch14_448"}, "timm/PE-Core-L-14-"),
        ({"layers": [3, 4, 6, 3]}, "a ResNet, which is not supported; supported are"),
    ],
)
def test_other_pairs_of_open_clip_are_told(tmp_path, vision, nearest):
    folder = shutil.copytree(GOLDENS / "open_clip" / "vit", tmp_path / "other")
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    content["model_cfg"]["vision_cfg"] = {"image_size": 224, **vision}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=nearest) as caught:
        build_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_what_is_named_as_the_nearest_is_in_the_list():
    listed = {each.id for each in CHECKPOINTS}
    named = {*_NEAREST.values(), *_NEAREST_IMAGES.values(), "facebook/dinov2-base"}
    assert named <= listed
