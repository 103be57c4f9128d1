"""Embedding a vocabulary: in order, few compilations, once for all runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_goldens import ROOT, compiled, load_encoder
from small_encoder import WIDTH, build_small_encoder, chunk_files

from mca_jax.core.errors import InputError
from mca_jax.encoders.cache import embedding_cache as cache_module
from mca_jax.encoders.clip.encoder import build_clip
from mca_jax.encoders.embed_nouns import cut_length, embed_nouns, noun_cache_dir

LETTERS = "abcdefghijklmnopqrstuvwxyz "


def build_speller(traces=None, fingerprint="speller", **changes):
    """An encoder that reads letters: rows of 32, of which a noun needs its own."""
    table = np.random.default_rng(1).normal(size=(27, WIDTH)).astype(np.float32)

    def tokenize(names, synset_ids):
        tokens = np.full((len(names), 1, 32), -1, np.int32)
        for row, name in zip(tokens[:, 0], names, strict=True):
            row[: len(name)] = [LETTERS.index(letter) for letter in name]
        return tokens

    def encode_texts(params, tokens):
        if traces is not None:
            traces.append(tokens.shape)
        ids = tokens[:, 0]
        letters = jnp.where(ids[..., None] < 0, 0.0, params[ids])
        vectors = (letters * jnp.arange(1, 1 + ids.shape[1])[None, :, None]).sum(axis=1)
        return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)

    return build_small_encoder()._replace(
        name="speller",
        fingerprint=fingerprint,
        params=table,
        tokenize=tokenize,
        encode_texts=encode_texts,
        count_tokens=lambda tokens: (tokens[:, 0] >= 0).sum(axis=1),
        **changes,
    )


def spell(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        "".join(rng.choice(list(LETTERS[:26]), rng.integers(1, 30)))
        for _ in range(count)
    ]


def expected(names):
    encoder = build_speller()
    return np.concatenate(
        [
            encoder.encode_texts(encoder.params, encoder.tokenize([name], [""]))
            for name in names
        ]
    )


@pytest.mark.parametrize("count", [1, 8, 61])
def test_each_row_is_its_noun(count):
    names = spell(count)
    found = embed_nouns(build_speller(), names, [""] * count, batch_size=16)
    assert found.embeddings.shape == (count, WIDTH)
    assert found.embeddings.dtype == np.float32
    assert (found.num_computed, found.warnings) == (count, ())
    np.testing.assert_allclose(found.embeddings, expected(names), atol=1e-6)


def test_nothing_to_embed():
    assert embed_nouns(build_speller(), [], []).embeddings.shape == (0, WIDTH)


def test_one_compilation_a_length_and_no_shape_beyond_a_few():
    traces = []
    names = spell(900)
    encoder = build_speller(traces)
    for _ in range(2):
        embed_nouns(encoder, names, [""] * 900, batch_size=32)
    lengths = [shape[2] for shape in traces]
    assert lengths == sorted(set(lengths)) == [8, 10, 12, 14, 16, 24, 32]
    assert len({shape[0] for shape in traces}) == 1


def test_a_short_vocabulary_is_compiled_once():
    traces = []
    embed_nouns(build_speller(traces), spell(20), [""] * 20)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("needed", "longest", "length"),
    [(1, 32, 8), (8, 32, 8), (9, 32, 10), (17, 32, 24), (25, 32, 32), (5, 7, 7)],
)
def test_lengths(needed, longest, length):
    assert cut_length(needed, longest) == length


def test_clip_cut_and_sorted_gives_what_its_tower_gives_whole():
    encoder = build_clip(str(ROOT / "laion"))
    words = ["cat", "dog", "a", "the large horse", "sea by the park", "zebra " * 9]
    names = [word.strip() for word in words * 3]
    found = embed_nouns(encoder, names, [""] * len(names), batch_size=8)
    whole = compiled("laion")[1](
        load_encoder("laion").params, encoder.tokenize(names, [""] * len(names))
    )
    np.testing.assert_allclose(found.embeddings, whole, atol=1e-6)


def run(names, cache_dir, encoder=None, **options):
    encoder = encoder or build_speller()
    return embed_nouns(
        encoder, names, [""] * len(names), cache_dir=cache_dir, batch_size=8, **options
    )


def test_a_second_run_reads_what_the_first_has_made(tmp_path):
    names = spell(40)
    first = run(names, tmp_path)
    second = run(names, tmp_path)
    assert (first.num_computed, second.num_computed) == (40, 0)
    np.testing.assert_array_equal(second.embeddings, first.embeddings)


def test_another_vocabulary_takes_what_it_shares(tmp_path):
    names = spell(40)
    first = run(names, tmp_path)
    mixed = [*spell(5, seed=9), *names[30:][::-1]]
    second = run(mixed, tmp_path)
    assert second.num_computed == 5
    np.testing.assert_array_equal(second.embeddings[5:], first.embeddings[30:][::-1])


def test_the_key_is_encoder_noun_and_sense(tmp_path):
    encoder = build_speller()
    embed_nouns(encoder, ["bank"], ["n1"], cache_dir=tmp_path)
    assert embed_nouns(encoder, ["bank"], ["n2"], cache_dir=tmp_path).num_computed == 1
    assert embed_nouns(encoder, ["bank"], ["n1"], cache_dir=tmp_path).num_computed == 0
    other = build_speller(fingerprint="other prompts")
    assert embed_nouns(other, ["bank"], ["n1"], cache_dir=tmp_path).num_computed == 1


def test_images_and_nouns_of_one_encoder_do_not_mix(tmp_path):
    run(spell(3), tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("speller-nouns-")


def test_half_precision_is_the_same_in_every_run(tmp_path):
    names = spell(20)
    whole = run(names, tmp_path).embeddings
    found = [run(names, tmp_path, dtype="float16") for _ in range(2)]
    np.testing.assert_array_equal(found[0].embeddings, whole.astype(np.float16))
    np.testing.assert_array_equal(found[1].embeddings, found[0].embeddings)
    assert [each.num_computed for each in found] == [20, 0]
    assert len(list(tmp_path.iterdir())) == 2


def test_encoders_that_are_faster_than_a_disk_keep_nothing(tmp_path):
    run(spell(3), tmp_path, build_speller(keep_texts=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_what_is_done_is_kept(tmp_path, kind):
    names, done = spell(40), []

    def stop(count):
        done.append(count)
        if sum(done) >= 16:
            raise kind

    with pytest.raises(kind) as caught:
        run(names, tmp_path, progress=stop)
    assert caught.value.__notes__[0].startswith("16 embeddings are kept in ")
    counts = []
    rest = run(names, tmp_path, progress=counts.append)
    assert rest.num_computed == 24
    assert (counts[0], sum(counts)) == (16, 40)
    np.testing.assert_allclose(rest.embeddings, run(names, None).embeddings, atol=1e-6)


def test_a_damaged_chunk_is_named_and_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_SIZE", 8)
    names = spell(40)
    first = run(names, tmp_path)
    target = chunk_files(tmp_path)[2]
    content = bytearray(target.read_bytes())
    content[-3] ^= 16
    target.write_bytes(content)
    second = run(names, tmp_path)
    assert target.name in second.warnings[0]
    assert second.num_computed == 8
    np.testing.assert_allclose(second.embeddings, first.embeddings, atol=1e-6)
    assert run(names, tmp_path).warnings == ()


def test_a_noun_without_a_finite_embedding_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^speller gives no finite embedding of ''$"):
        run(["cat", "", "dog"], tmp_path)


def test_bad_arguments():
    with pytest.raises(InputError, match="batch_size at least 1, found 0"):
        embed_nouns(build_speller(), ["a"], [""], batch_size=0)
    with pytest.raises(InputError, match="Unknown dtype 'int8'"):
        embed_nouns(build_speller(), ["a"], [""], dtype="int8")


def test_the_users_folder(monkeypatch):
    monkeypatch.delenv("MCA_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert noun_cache_dir() == "here/mca_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert noun_cache_dir().endswith("/.cache/mca_jax")
    monkeypatch.setenv("MCA_JAX_CACHE", "there")
    assert noun_cache_dir() == "there"


def test_devices_change_nothing():
    names = spell(24)
    with jax.default_device(None):
        split = run(names, None).embeddings
    with jax.default_device(jax.devices()[1]):
        alone = run(names, None).embeddings
    np.testing.assert_allclose(split, alone, atol=1e-6)
