"""The list of what works; the tests of parity hold each family to what it says."""

import json
from pathlib import Path

import pytest

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.catalogue import CHECKPOINTS, FAMILIES, list_encoders
from mca_jax.encoders.clip.unsupported import describe_unsupported
from mca_jax.encoders.huggingface.twins import _TWINS
from mca_jax.encoders.registry import build_image_encoder

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"


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
