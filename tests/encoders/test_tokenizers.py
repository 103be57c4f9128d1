"""Token ids against those of transformers, stored and live."""

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from clip_goldens import NAMES, ROOT, copy_golden, load_texts

from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.tokenizers import load_tokenizer

LENGTHS = {"bert": 40, "clip": 24, "siglip": 64, "siglip2": 64}


def load(folder):
    family = json.loads((folder / "config.json").read_text())["model_type"]
    # Its tokenizer is another, which is told by its own files.
    family = {"metaclip_2": "clip", "chinese_clip": "bert"}.get(family, family)
    return load_tokenizer(folder, family=family, max_length=LENGTHS[family])


def rows(tokenizer, texts):
    """Ids of each text, without the padding that equal lengths need."""
    found = []
    for row in tokenizer.encode(texts).tolist():
        width = len(row)
        if not tokenizer.is_fixed:
            width = row.index(tokenizer.suffix[0], 1) + 1
            assert set(row[width:]) <= {tokenizer.pad_id}
        found.append(row[:width])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_difficult_texts_have_the_ids_of_transformers(name):
    texts, expected = load_texts(name)
    tokenizer = load(ROOT / name)
    found = tokenizer.encode(texts).tolist()
    for text, row, ids in zip(texts, found, expected, strict=True):
        padding = [tokenizer.pad_id] * (len(row) - len(ids))
        assert row == ids + padding, text
    assert tokenizer.pad_id == {"laion": 0}.get(name, tokenizer.pad_id)


def test_word_pieces_come_from_a_table(tmp_path):
    folder = copy_golden("chinese", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = load(folder).encode(["cat CAT"])
    ids = load(ROOT / "chinese").encode(["cat CAT"])
    assert ids[0, 1] == ids[0, 2] == cased[0, 1] != cased[0, 2]
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n")
    with pytest.raises(InputError, match=r"No \[UNK\] in .*vocab.txt, which is no tab"):
        load(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"No tokenizer\.json and no vocab\.txt in"):
        load(folder)


def test_rows_are_hand_checked():
    tokenizer = load(ROOT / "openai")
    vocabulary = json.loads((ROOT / "openai/tokenizer.json").read_text())["model"]
    begin, end = (vocabulary["vocab"][f"<|{w}oftext|>"] for w in ("start", "end"))
    a = vocabulary["vocab"]["a</w>"]
    np.testing.assert_array_equal(
        tokenizer.encode(["a A", ""]),
        [[begin, a, a, *[end] * 5], [begin, *[end] * 7]],
    )
    # Cut texts keep their end.
    long = tokenizer.encode(["a " * 100])
    np.testing.assert_array_equal(long, [[begin, *[a] * 22, end]])


def test_no_texts():
    assert load(ROOT / "openai").encode([]).shape[0] == 0
    assert load(ROOT / "siglip").encode([]).shape == (0, 64)


def test_saved_padding_and_truncation_are_ignored(tmp_path):
    from tokenizers import Tokenizer

    folder = copy_golden("siglip2", tmp_path)
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.enable_truncation(3)
    library.enable_padding(length=5, pad_id=9)
    library.save(str(folder / "tokenizer.json"))
    texts, expected = load_texts("siglip2")
    assert load(folder).encode(texts).tolist() == expected


def test_padding_goes_left_where_the_checkpoint_says_so(tmp_path):
    folder = copy_golden("siglip2", tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"right"', '"left"'))
    (right,) = load(ROOT / "siglip2").encode(["a cat"])
    (left,) = load(folder).encode(["a cat"])
    count = int((right != 0).sum())
    np.testing.assert_array_equal(left[-count:], right[:count])
    assert not left[:-count].any()


def test_siglip_reads_sentence_pieces_where_there_is_nothing_else(tmp_path):
    pytest.importorskip("sentencepiece")
    folder = copy_golden("siglip", tmp_path)
    (folder / "tokenizer.json").unlink()
    texts, expected = load_texts("siglip")
    assert load(folder).encode(texts).tolist() == expected
    (folder / "spiece.model").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"spiece.model is damaged"):
        load(folder)


@pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is not None, reason="it is installed"
)
def test_a_missing_package_is_named(tmp_path):
    folder = copy_golden("siglip", tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="pip install sentencepiece"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "removed", "message"),
    [
        ("openai", "tokenizer.json", "no vocab.json in"),
        ("laion", "merges.txt", "no merges.txt in"),
        ("siglip2", "tokenizer.json", "no spiece.model in"),
    ],
)
def test_missing_files_are_named(tmp_path, name, removed, message):
    folder = copy_golden(name, tmp_path)
    (folder / removed).unlink()
    with pytest.raises(InputError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("openai", "tokenizer.json", "{", "tokenizer.json is no tokenizer"),
        ("laion", "vocab.json", "{", "vocab.json is no JSON"),
        ("laion", "merges.txt", "#version: 0.2\nqq zz\n", "do not fit"),
        ("laion", "merges.txt", "one two three\n", "do not fit"),
        ("laion", "vocab.json", '{"a": 0}', "do not fit|No bos_token"),
        ("siglip2", "tokenizer_config.json", "[]", "Expected an object"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, file, content, message):
    folder = copy_golden(name, tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def write_full_table(folder):
    """Write CLIP's own vocabulary as a package brings it; skip without that."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("CLIP's own vocabulary comes with the package open_clip_torch")
    table = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(table.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(b) for b in printable]
    letters += [chr(256 + place) for place in range(len(others))]
    names = [*letters, *(f"{c}</w>" for c in letters)]
    names += ["".join(pair) for pair in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: place for place, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    (folder / "merges.txt").write_text(text)
    return vocabulary, merges


def test_clips_own_vocabulary(tmp_path):
    vocabulary, merges = write_full_table(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)
    ours = load_tokenizer(tmp_path, family="clip", max_length=77)
    assert rows(ours, ["a photo of a cat"]) == [
        [49406, 320, 1125, 539, 320, 2368, 49407]
    ]
    texts, _ = load_texts("openai")
    stripped = [text for text in texts if "endoftext" not in text]
    expected = theirs(stripped, truncation=True, max_length=77).input_ids
    assert rows(ours, stripped) == expected
