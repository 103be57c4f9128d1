"""Opening the encoders that settings name, and placing nouns by them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mca_jax.core.errors import InputError
from mca_jax.core.progress import Clock
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.pipeline import inputs as embedding
from mca_jax.pipeline.config import EncoderConfig
from mca_jax.pipeline.inputs import Inputs, embed_vocabulary, open_encoders
from mca_jax.semantics import load_nouns
from mca_jax.semantics.text_map import fit_text_map
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
CLIP, SENTENCE = str(GOLDENS / "clip" / "laion"), str(GOLDENS / "sentence" / "bert")
TABLE = parse_vocabulary("cat\ndog\nsea lion\nboat\nbank\n")


@pytest.fixture
def few_anchors(monkeypatch):
    monkeypatch.setattr(embedding, "_ENOUGH_NOUNS", 64)


def place(config, table=TABLE, cache_dir=None):
    encoder, reader = open_encoders(config, table)
    nothing = np.zeros((0, 4, 4, 3), np.uint8)
    inputs = Inputs(nothing, table, encoder=encoder, text_encoder=reader)
    return embed_vocabulary(inputs, config, Clock(None), cache_dir=cache_dir)


def test_nouns_are_kept_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MCA_JAX_CACHE", str(tmp_path / "user"))
    config = EncoderConfig(name=CLIP)
    first = place(config, cache_dir=tmp_path / "images")
    assert first.nouns.embeddings.shape == (5, 20)
    assert not (tmp_path / "images").exists()
    assert len(list((tmp_path / "user").iterdir())) == 1
    chosen = EncoderConfig(name=CLIP, noun_cache=str(tmp_path / "chosen"))
    second = place(chosen, cache_dir=tmp_path / "images")
    assert len(list((tmp_path / "chosen").iterdir())) == 1
    np.testing.assert_array_equal(second.nouns.embeddings, first.nouns.embeddings)


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MCA_JAX_CACHE", str(tmp_path / "user"))
    place(EncoderConfig(name=CLIP, noun_cache=str(tmp_path / "chosen")))
    assert list(tmp_path.iterdir()) == []


def test_each_text_tower_has_prompts_of_its_own():
    config = EncoderConfig(name=CLIP, text=SENTENCE, prompts="a {}|the {}")
    both = [each.tokenize(["cat"], [""]) for each in open_encoders(config, TABLE)]
    assert [tokens.shape[1] for tokens in both] == [2, 2]
    config = replace(config, text_prompts="{}")
    clip, reader = open_encoders(config, TABLE)
    assert clip.tokenize(["cat"], [""]).shape[1] == 2
    assert reader.tokenize(["cat"], [""]).shape[1] == 1
    with pytest.raises(InputError, match="Expected encoder.text_prompts as photo,"):
        open_encoders(replace(config, text_prompts="no slot"), TABLE)
    with pytest.raises(InputError, match="no encoder.text_prompts without"):
        open_encoders(replace(config, text=""), TABLE)


def test_another_reader_is_brought_to_the_space_of_the_images(few_anchors):
    config = EncoderConfig(name=CLIP, text=SENTENCE, text_map="procrustes")
    found = place(config)
    encoder, reader = open_encoders(config, TABLE)
    assert reader is not None
    # The same by hand: both embed the vocabulary and every 1283rd noun of WordNet.
    wordnet = load_nouns()
    rows = range(0, 82115, 82115 // 64)
    names = TABLE.names + tuple(wordnet.names[row] for row in rows)
    synsets = TABLE.synsets + tuple(wordnet.synsets[row] for row in rows)
    ours, theirs = (
        embed_nouns(each, names, synsets).embeddings for each in (encoder, reader)
    )
    text_map = fit_text_map(theirs, ours, method="procrustes")
    expected = theirs[:5] @ np.asarray(text_map.matrix) + np.asarray(text_map.offset)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.nouns.embeddings, expected, atol=1e-4)
    # The encoder that is returned does the same from texts.
    again = embed_nouns(found.encoder, TABLE.names, TABLE.synsets).embeddings
    np.testing.assert_allclose(again, found.nouns.embeddings, atol=1e-4)
    assert found.encoder.image_fingerprint == encoder.image_fingerprint
    assert np.abs(found.nouns.embeddings - ours[:5]).max() > 0.01


def test_a_large_vocabulary_needs_no_other_nouns(monkeypatch):
    monkeypatch.setattr(embedding, "_ENOUGH_NOUNS", 5)
    monkeypatch.setattr(embedding, "load_nouns", None)
    assert len(place(EncoderConfig(name=CLIP, text=SENTENCE)).nouns.rows) == 5


def test_lite_takes_prompts_with_a_reader_only():
    settings = {"name": "lite", "prompts": "{}|the {}"}
    with pytest.raises(InputError, match="which reads no text"):
        open_encoders(EncoderConfig(**settings), TABLE)
    encoder, reader = open_encoders(EncoderConfig(**settings, text=SENTENCE), TABLE)
    assert encoder.name == "lite"
    assert reader is not None
    assert reader.tokenize(["cat"], [""]).shape[1] == 2


def test_glosses_come_from_the_vocabulary():
    table = load_nouns()._replace(names=("bank",), synsets=("n1",), glosses=("land",))
    config = EncoderConfig(name=CLIP, glosses=True)
    encoder, _ = open_encoders(config, table)
    plain, _ = open_encoders(EncoderConfig(name=CLIP), table)
    long, short = (each.tokenize(["bank"], ["n1"]) for each in (encoder, plain))
    assert encoder.count_tokens(long)[0] > plain.count_tokens(short)[0]
