"""Sentence encoders: parity with the reference, contract, and bad checkpoints."""

import functools
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from parity import golden_names, promised
from safetensors.numpy import load_file, save_file
from small_encoder import WIDTH, build_small_encoder, write_images

from mca_jax.core.errors import InputError
from mca_jax.data import find_images
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.encoders.encoder import with_text_encoder
from mca_jax.encoders.sentence.encoder import build_sentence_encoder
from mca_jax.encoders.sentence.tower import relative_buckets

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "sentence"
NAMES = golden_names("sentence")
NOUNS = ["cat", "sea lion", "bank", "the land and the water of the photo"]
IDS = ["n02121620", "", "n09213565", ""]


# What fills rows up: the newer ones take what is no token.
FILLING = {
    **{"bert": 0, "distilbert": 0, "mpnet": 1, "roberta": 1},
    **{"modernbert": -1, "qwen3": -1},
}


@functools.cache
def load(name, **options):
    return build_sentence_encoder(str(ROOT / name), **options)


@functools.cache
def texts(name):
    content = json.loads((ROOT / name / "golden.json").read_text("utf-8"))
    return content["texts"], content["ids"]


@functools.cache
def compiled(name):
    return jax.jit(load(name).encode_texts)


def copy(name, tmp_path):
    return Path(shutil.copytree(ROOT / name, tmp_path / name))


def edit(path, **changes):
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, **changes}), "utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_the_reference(name):
    given, ids = texts(name)
    encoder = load(name, prompts=("{}",))
    for text, expected in zip(given, ids, strict=True):
        # Prompts tidy spaces up; the reference takes a text as it is.
        if text != " ".join(text.split()) or not text or "_" in text:
            continue
        found = encoder.tokenize([text], [""])[0, 0]
        assert found[: len(expected)].tolist() == expected
        assert encoder.count_tokens(found[None, None])[0] == len(expected)


@pytest.mark.parametrize("name", NAMES)
def test_texts_embed_as_in_the_reference(name):
    _, ids = texts(name)
    width = max(map(len, ids))
    tokens = np.full((len(ids), 1, width), FILLING[name], np.int32)
    for row, each in zip(tokens[:, 0], ids, strict=True):
        row[: len(each)] = each
    found = np.asarray(compiled(name)(load(name).params, tokens))
    expected = np.load(ROOT / name / "golden.npz")["embeddings"]
    assert found.dtype == np.float32
    tolerance = promised("sentence", name)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    # The goldens are no trivial agreement: texts lie far apart.
    assert np.abs(expected[0] - expected[4]).max() > 0.01


def test_relative_positions_are_those_of_the_reference():
    expected = np.load(ROOT / "mpnet" / "golden.npz")["buckets"]
    np.testing.assert_array_equal(relative_buckets(300, 32), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_live_reference_agrees(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(ROOT / name).eval()
    tokens = load(name).tokenize(NOUNS[:1], IDS[:1])[:, 0]
    tokens = tokens[:, : load(name).count_tokens(tokens[:, None])[0]]
    with torch.no_grad():
        states = model(torch.from_numpy(tokens.astype(np.int64))).last_hidden_state
    pooled = states[:, 0] if name == "roberta" else states.mean(1)
    pooled = states[:, -1] if name == "qwen3" else pooled
    expected = torch.nn.functional.normalize(pooled, dim=1).numpy()
    found = compiled(name)(load(name).params, tokens[:, None])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(name):
    encoder = load(name)
    tokens = encoder.tokenize(NOUNS, IDS)
    longer = np.pad(tokens, ((0, 0), (0, 0), (0, 8)), constant_values=FILLING[name])
    np.testing.assert_allclose(
        compiled(name)(encoder.params, longer),
        compiled(name)(encoder.params, tokens),
        atol=1e-6,
    )


def test_what_an_encoder_promises():
    encoder = load("bert")
    assert encoder.name == str(ROOT / "bert")
    assert (encoder.width, encoder.licence) == (16, "unknown")
    assert len(bytes.fromhex(encoder.fingerprint)) == 32
    assert encoder.tokenize(NOUNS, IDS).shape[:2] == (4, 1)
    assert encoder.tokenize(["cat " * 60], [""]).shape == (1, 1, 40)
    half = load("bert", dtype="bfloat16")
    leaves = jax.tree.leaves(half.params)
    assert {str(leaf.dtype) for leaf in leaves} == {"bfloat16"}
    tokens = encoder.tokenize(NOUNS, IDS)
    found = np.asarray(half.encode_texts(half.params, tokens))
    whole = np.asarray(compiled("bert")(encoder.params, tokens))
    assert found.dtype == np.float32
    assert np.sum(found * whole, axis=1).min() > 0.995


def test_prompts_glosses_and_their_mean():
    singles = [
        np.asarray(
            compiled("bert")(
                load("bert").params, load("bert", prompts=(p,)).tokenize(NOUNS, IDS)
            )
        )
        for p in ("a photo of a {}", "the {}")
    ]
    both = load("bert", prompts=("a photo of a {}", "the {}"))
    mean = np.mean(singles, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    found = embed_nouns(both, NOUNS, IDS).embeddings
    np.testing.assert_allclose(found, expected, atol=1e-6)
    glossed = build_sentence_encoder(
        str(ROOT / "bert"), glosses={"n09213565": "sloping land"}
    )
    changed = embed_nouns(glossed, NOUNS, IDS).embeddings - singles[0]
    assert (np.abs(changed).max(axis=1) > 0.01).tolist() == [False, False, True, False]
    assert len({e.fingerprint for e in (load("bert"), both, glossed)}) == 3


def test_an_encoder_with_other_texts(tmp_path):
    """Images stay where they are, in the cache too; nouns are read anew."""
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images", 9)
    images = find_images(tmp_path / "images")
    encoder, texts = build_small_encoder(), load("bert")
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(16, WIDTH)).astype(np.float32)
    offset = rng.normal(size=WIDTH).astype(np.float32)
    joined = with_text_encoder(encoder, texts, matrix, offset)
    first = embed_images(encoder, images, cache_dir=tmp_path / "c")
    second = embed_images(joined, images, cache_dir=tmp_path / "c")
    assert second.num_computed == 0
    np.testing.assert_array_equal(second.embeddings, first.embeddings)
    plain = embed_images(joined, images)
    np.testing.assert_allclose(plain.embeddings, first.embeddings, atol=1e-6)
    found = embed_nouns(joined, NOUNS, IDS, cache_dir=tmp_path / "c")
    expected = embed_nouns(texts, NOUNS, IDS).embeddings @ matrix + offset
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)
    other = with_text_encoder(encoder, texts, -matrix, offset)
    assert len({e.fingerprint for e in (encoder, joined, other)}) == 3
    assert joined.domain.startswith("noise; nouns encoded by ")


def test_nothing_of_torch_is_imported():
    build_sentence_encoder(str(ROOT / "bert")).tokenize(["cat"], [""])
    assert "torch" not in sys.modules or pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("modernbert", {"layer_types": ["full_attention"]}, "4 layer_types .* found 1"),
        ("modernbert", {"num_hidden_layers": 3}, r"Unknown tensors .*layers\.3"),
        ("qwen3", {"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ("qwen3", {"use_sliding_window": True}, "plain positions in .* True; take"),
        ("qwen3", {"rope_scaling": {"type": "yarn"}}, "rope_type 'yarn'"),
        ("qwen3", {"vocab_size": 9}, r"embed_tokens\.weight .* shape \[9, 16\]"),
        ("distilbert", {"n_layers": 1}, r"Unknown tensors .*encoder\.layer\.1"),
    ],
)
def test_newer_configurations_that_do_not_fit(tmp_path, name, changes, message):
    folder = copy(name, tmp_path)
    edit(folder / "config.json", **changes)
    with pytest.raises(InputError, match=message) as caught:
        build_sentence_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_settings_of_modernbert_from_before_layer_types(tmp_path):
    """The published files have these, and say the same."""
    folder = copy("modernbert", tmp_path)
    settings = {"global_attn_every_n_layers": 3, "local_rope_theta": 10000.0}
    edit(folder / "config.json", **settings, global_rope_theta=160000.0)
    assert build_sentence_encoder(str(folder)).fingerprint == (
        load("modernbert").fingerprint
    )
    edit(folder / "config.json", local_rope_theta=500.0)
    assert build_sentence_encoder(str(folder)).fingerprint != (
        load("modernbert").fingerprint
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type bert, camembert,.*found 't5'"),
        ({"hidden_size": 17}, "multiple of num_attention_heads, found 17 and 2"),
        ({"hidden_act": "swish2"}, "Unknown hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type absol"),
        ({"pad_token_id": -1}, "pad_token_id of .* as a token, found -1"),
        ({"max_position_embeddings": 2}, "room for three tokens, found 2"),
        ({"num_hidden_layers": 3}, r"Missing tensors in .*: encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, r"Unknown tensors in .*: encoder\.layer\.1"),
        ({"vocab_size": 9}, r"word_embeddings.weight .* shape \[9, 16\]"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path, changes, message):
    folder = copy("bert", tmp_path)
    edit(folder / "config.json", **changes)
    with pytest.raises(InputError, match=message) as caught:
        build_sentence_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit(tmp_path):
    folder = copy("bert", tmp_path)
    edit(folder / "1_Pooling" / "config.json", pooling_mode_max_tokens=True)
    with pytest.raises(InputError, match="choose mean, cls or lasttoken, found max"):
        build_sentence_encoder(str(folder))
    shutil.rmtree(folder / "1_Pooling")
    modules = [{"type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="Normalize, found 'Dense'"):
        build_sentence_encoder(str(folder))
    (folder / "modules.json").unlink()
    tensors = load_file(folder / "model.safetensors")
    tensors = {k: v for k, v in tensors.items() if not k.startswith("pooler.")}
    save_file(tensors, folder / "model.safetensors")
    assert build_sentence_encoder(str(folder)).width == 16
    (folder / "tokenizer.json").write_bytes(
        (ROOT / "roberta" / "tokenizer.json").read_bytes()
    )
    with pytest.raises(InputError, match="belong to different models"):
        build_sentence_encoder(str(folder)).tokenize(["zebra ÿ"], [""])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        InputError, match=r"No tokenizer\.json and no vocab\.txt in .*; download"
    ):
        build_sentence_encoder(str(folder))
