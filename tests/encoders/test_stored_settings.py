"""Settings that sentence-transformers keeps beside a model, of any version."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.errors import InputError, InputWarning
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.encoders.sentence.encoder import build_sentence_encoder
from mca_jax.encoders.sentence.stored_settings import (
    StoredSettings,
    read_stored_settings,
)

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "sentence"
NOUNS = ["Cat", "sea LION"]


def write(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    """A model as version 5.4 and later write it."""
    folder = Path(shutil.copytree(ROOT / "roberta", tmp_path / "roberta"))
    pooling = {"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": True}
    write(folder, "1_Pooling/config.json", pooling)
    write(
        folder,
        "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "module_output_name": "token_embeddings",
        },
    )
    length = {"model_max_length": 40, "pad_token": "<pad>"}
    write(folder, "tokenizer_config.json", length)
    return folder


def embed(folder, **options):
    return embed_nouns(
        build_sentence_encoder(str(folder), **options), NOUNS, ["", ""]
    ).embeddings


def test_both_forms_say_the_same(folder):
    expected = StoredSettings("cls", 40, lowercase=False, prompt="")
    assert read_stored_settings(ROOT / "roberta") == expected
    assert read_stored_settings(folder) == expected
    np.testing.assert_array_equal(embed(folder), embed(ROOT / "roberta"))
    old = build_sentence_encoder(str(ROOT / "roberta"))
    assert build_sentence_encoder(str(folder)).fingerprint == old.fingerprint


@pytest.mark.parametrize(
    ("length", "expected"), [(12, 12), (12.0, 12), (1e30, None), (None, None)]
)
def test_the_longest_text_is_the_tokenizers(folder, length, expected):
    write(folder, "tokenizer_config.json", {"model_max_length": length})
    assert read_stored_settings(folder).most_tokens == expected
    encoder = build_sentence_encoder(str(folder))
    most = expected or 46  # as many positions as RoBERTa's table has room for
    assert encoder.tokenize(["cat " * 60], [""]).shape[2] == most


@pytest.mark.parametrize("mode", ["max", ["mean", "cls"], "weightedmean"])
def test_other_pooling_is_refused(folder, mode):
    write(folder, "1_Pooling/config.json", {"pooling_mode": mode})
    with pytest.raises(InputError, match="to choose mean, cls or lasttoken, found"):
        read_stored_settings(folder)


def test_texts_are_lowercased_where_the_model_was_trained_so(folder):
    plain = build_sentence_encoder(str(folder))
    settings = {"max_seq_length": 40, "do_lower_case": True}
    write(folder, "sentence_bert_config.json", settings)
    lowered = build_sentence_encoder(str(folder))
    small = [noun.lower() for noun in NOUNS]
    np.testing.assert_array_equal(
        lowered.tokenize(NOUNS, ["", ""]), plain.tokenize(small, ["", ""])
    )
    assert (lowered.tokenize(NOUNS, ["", ""]) != plain.tokenize(NOUNS, ["", ""])).any()
    assert lowered.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("default", "prompt"), [(None, "query: "), ("document", "passage: ")]
)
def test_stored_prompts_go_before_the_nouns(folder, default, prompt):
    plain = embed(folder, prompts=(f"{prompt}a photo of a {{}}",))
    write(
        folder,
        "config_sentence_transformers.json",
        {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": default,
        },
    )
    assert read_stored_settings(folder).prompt == prompt
    np.testing.assert_array_equal(embed(folder), plain)
    without = embed(folder, with_stored_prompt=False)
    np.testing.assert_array_equal(without, embed(ROOT / "roberta"))
    assert np.abs(without - plain).max() > 0.01


def test_prompts_outside_the_pooling_are_left_away(folder):
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    write(folder, "1_Pooling/config.json", pooling)
    prompts = {"query": "Represent: "}
    write(folder, "config_sentence_transformers.json", {"prompts": prompts})
    with pytest.warns(InputWarning, match="leaves its prompt 'Represent: ' out of the"):
        assert read_stored_settings(folder).prompt == ""
    write(folder, "config_sentence_transformers.json", {"prompts": {"query": 1}})
    with pytest.raises(InputError, match="prompt 'query' of .* as text, found 1"):
        read_stored_settings(folder)
