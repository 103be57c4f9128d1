"""The list of what works is what the parity suite has measured."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders import build_encoder
from mca_jax.encoders.catalogue import CHECKPOINTS, FAMILIES, list_encoders
from mca_jax.encoders.clip.unsupported import describe_unsupported
from mca_jax.encoders.huggingface.twins import _TWINS
from mca_jax.encoders.registry import build_image_encoder
from mca_jax.encoders.sentence.encoder import build_sentence_encoder

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"
CASES = [(key, name) for key, family in FAMILIES.items() for name in family.goldens]


def load(flag, folder):
    build = {
        "--encoder": build_encoder,
        "--image_encoder": build_image_encoder,
        "--text_encoder": build_sentence_encoder,
    }[flag]
    return build(str(folder))


@pytest.mark.parametrize(("key", "name"), CASES)
def test_the_parity_of_each_family_is_no_less_than_is_said(key, name):
    family = FAMILIES[key]
    encoder = load(family.flag, GOLDENS / name)
    golden = np.load(GOLDENS / name / "golden.npz")
    assert family.parity <= 1e-5
    if family.flag == "--text_encoder":
        ids = json.loads((GOLDENS / name / "golden.json").read_text("utf-8"))["ids"]
        fill = 0 if name.endswith("/bert") else 1
        tokens = np.full((len(ids), 1, max(map(len, ids))), fill, np.int32)
        for row, each in zip(tokens[:, 0], ids, strict=True):
            row[: len(each)] = each
        found = jax.jit(encoder.encode_texts)(encoder.params, tokens)
        expected = golden["embeddings"]
    else:
        pictures = [Image.fromarray(golden[f"picture_{i}"]) for i in range(3)]
        pixels = np.stack([encoder.preprocess(each) for each in pictures])
        found = jax.jit(encoder.encode_images)(encoder.params, pixels)
        expected = golden["image_embeddings"]
    assert np.abs(np.asarray(found) - expected).max() <= family.parity


def test_every_golden_and_checkpoint_is_of_a_family():
    listed = {name for _, name in CASES}
    folders = [GOLDENS / part for part in ("clip", "dino", "open_clip", "sentence")]
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
        ("vit_mae", "not supported; the nearest beside a CLIP is --image_encoder="),
        ("chinese_clip", "whose text tower is BERT, is not supported; the nearest is"),
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


def test_twins_are_of_the_list_or_their_sisters():
    owners = {each.id.partition("/")[0] for each in CHECKPOINTS}
    assert {twin.partition("/")[0] for twin in _TWINS.values()} <= owners
