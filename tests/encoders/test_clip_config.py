"""What config.json may say, and what it may not."""

import json

import pytest
from clip_goldens import ROOT

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.config import parse_clip_config
from mca_jax.encoders.huggingface.transformer import TowerConfig


def parse(raw):
    return parse_clip_config(raw, source="x/config.json")


def test_an_empty_clip_is_vit_b_32():
    config = parse({"model_type": "clip"})
    assert config.vision == TowerConfig(768, 3072, 12, 12, "quick_gelu", 1e-5)
    assert config.text == TowerConfig(512, 2048, 12, 8, "quick_gelu", 1e-5)
    assert (config.image_size, config.patch_size) == ((224, 224), (32, 32))
    assert (config.num_patches, config.embed_width) == (49, 512)
    assert (config.vocab_size, config.text_length, config.eos_id) == (49408, 77, 49407)


def test_an_empty_siglip_is_base_patch16():
    # As google/siglip-base-patch16-224 has it.
    config = parse(
        {
            "model_type": "siglip",
            "text_config": {"model_type": "siglip_text_model"},
            "vision_config": {"model_type": "siglip_vision_model"},
        }
    )
    assert config.vision == config.text
    assert config.vision == TowerConfig(768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6)
    assert (config.num_patches, config.embed_width) == (196, 768)
    assert (config.vocab_size, config.text_length, config.eos_id) == (32000, 64, None)


@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_defaults_are_those_of_transformers(family, tower):
    transformers = pytest.importorskip("transformers")
    prefix = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}[family]
    theirs = getattr(transformers, f"{prefix}{tower.capitalize()}Config")()
    config = parse({"model_type": family})
    ours = getattr(config, tower)
    assert ours == TowerConfig(
        width=theirs.hidden_size,
        hidden_width=theirs.intermediate_size,
        num_layers=theirs.num_hidden_layers,
        num_heads=theirs.num_attention_heads,
        activation=theirs.hidden_act,
        epsilon=theirs.layer_norm_eps,
    )
    if tower == "text":
        assert config.vocab_size == theirs.vocab_size
        assert config.text_length == theirs.max_position_embeddings
    elif family == "siglip2":
        assert config.num_patches == theirs.num_patches
    else:
        assert config.image_size == (theirs.image_size,) * 2
        assert config.patch_size == (theirs.patch_size,) * 2


def test_the_wrong_end_of_text_id_of_old_configs():
    assert parse({"model_type": "clip", "text_config": {"eos_token_id": 2}}).eos_id is (
        None
    )
    listed = {"model_type": "clip", "text_config": {"eos_token_id": [7, 9]}}
    assert parse(listed).eos_id == 7


def test_the_second_copy_of_a_section_decides():
    raw = {
        "model_type": "clip",
        "vision_config": {"hidden_act": "gelu", "image_size": 64},
        "vision_config_dict": {"image_size": 96},
        "text_config_dict": None,
        "text_config": {"hidden_act": "gelu"},
    }
    config = parse(raw)
    assert config.image_size == (96, 96)
    # What the second copy leaves out falls back to the default, not the first.
    assert config.vision.activation == "quick_gelu"
    assert config.text.activation == "gelu"


def test_rectangles_and_images_that_patches_do_not_fill():
    raw = json.loads((ROOT / "rectangular" / "config.json").read_text())
    assert parse(raw).num_patches == 36
    # google/siglip-so400m-patch14-384: 27 patches a side, 6 pixels unused.
    raw = {
        "model_type": "siglip",
        "vision_config": {"image_size": 384, "patch_size": 14},
    }
    assert parse(raw).num_patches == 27 * 27
    raw = {"model_type": "clip", "vision_config": {"patch_size": [16, 32]}}
    assert parse(raw).num_patches == 14 * 7


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "found None"),
        ({}, "model_type chinese_clip, clip, metaclip_2, siglip, siglip2, found"),
        ({"model_type": "bert"}, "found 'bert': a text encoder; pass it as"),
        ({"model_type": "clip_text_model"}, "found 'clip_text_model'"),
        (
            {"model_type": "clip", "text_config": 3},
            "text_config of x/config.json to be",
        ),
    ],
)
def test_other_models_are_refused(raw, message):
    with pytest.raises(InputError, match=message):
        parse(raw)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "vision",
            {"hidden_act": "swish9"},
            "Unknown hidden_act in vision_config of x",
        ),
        ("text", {"hidden_act": "gelu_fst"}, "valid are|did you mean"),
        ("vision", {"num_attention_heads": 7}, "multiple of num_attention_heads"),
        ("vision", {"image_size": 16}, "at least as large as patch_size"),
        ("vision", {"image_size": [1, 2, 3]}, r"number or \[height, width\]"),
        ("vision", {"image_size": "224"}, "whole number of at least 1, found '224'"),
        ("vision", {"num_channels": 1}, "num_channels 3 in x/config.json, found 1"),
        ("vision", {"layer_norm_eps": 0}, "between 0 and 1, found 0"),
        ("text", {"num_hidden_layers": 0}, "num_hidden_layers in text_config"),
        ("text", {"vocab_size": True}, "vocab_size in x/config.json"),
        ("text", {"eos_token_id": None}, "eos_token_id in text_config"),
        ("text", {"eos_token_id": []}, r"found \[\]"),
    ],
)
def test_impossible_values_are_named(section, values, message):
    with pytest.raises(InputError, match=message) as error:
        parse({"model_type": "clip", f"{section}_config": values})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("vision", {"vision_use_head": False}, "pooling head"),
        ("text", {"projection_size": 512}, "768 for images and 512 for texts"),
        ("text", {"hidden_size": 960}, "768 for images and 960 for texts"),
    ],
)
def test_impossible_siglips_are_named(section, values, message):
    with pytest.raises(InputError, match=message):
        parse({"model_type": "siglip", f"{section}_config": values})


def test_a_naflex_grid_has_to_be_square():
    raw = {"model_type": "siglip2", "vision_config": {"num_patches": 20}}
    with pytest.raises(InputError, match="square number, found 20"):
        parse(raw)
