"""Texts to token ids, equal to those of transformers.

The ``tokenizers`` library reads tokenizer.json and does the splitting and merging.
What goes around the text (begin, end, padding, cut) is done here: the saved files
disagree about it, some even with how their model was trained.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.encoders.huggingface.checkpoint_files import read_json

__all__ = [
    "TextTokenizer",
    "load_tokenizer",
    "lowercase_first",
    "read_bert_tokenizer",
    "read_tokenizer",
]

# Widths of CLIP's token rows are multiples of this, so that sets of nouns whose
# longest prompts differ by a token still share one compiled text tower.
_STEP = 8
# U+2581, by which sentence pieces mark where a word begins.
_WORD_BEGIN = "▁"
_CLIP_BEGIN = "<|startoftext|>"
_CLIP_END = "<|endoftext|>"
# What OpenAI's encoder takes for a word: letters, one digit, or other signs.
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class TextTokenizer(NamedTuple):
    """A tokenizer with what goes around a text.

    Attributes:
      split: Texts to the ids of their own tokens, as a list for each.
      prefix: Ids before each text.
      suffix: Ids after each text, which cutting keeps.
      pad_id: Fills a row up.
      pads_left: Whether filling goes before the text instead of behind it.
      max_length: Longest row; longer texts are cut.
      is_fixed: Whether every row has ``max_length`` ids, as SigLIP was trained,
        or just enough for the longest text, for CLIP ignores padding.
    """

    split: Callable[[Sequence[str]], list[list[int]]]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    pads_left: bool
    max_length: int
    is_fixed: bool

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the ids of some texts.

        Args:
          texts: Any texts, the empty one included.

        Returns:
          Ids int32 ``[b, t]``.
        """
        room = self.max_length - len(self.prefix) - len(self.suffix)
        rows = [(*self.prefix, *ids[:room], *self.suffix) for ids in self.split(texts)]
        width = self.max_length
        if not self.is_fixed:
            longest = max(map(len, rows), default=1)
            width = min(width, -(-longest // _STEP) * _STEP)
        tokens = np.full((len(rows), width), self.pad_id, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            if self.pads_left:
                row[width - len(ids) :] = ids
            else:
                row[: len(ids)] = ids
        return tokens


def load_tokenizer(
    folder: Path,
    *,
    family: str,
    max_length: int,
    clean: Callable[[str], str] | None = None,
) -> TextTokenizer:
    """Load the tokenizer of a checkpoint.

    CLIP's byte-pair encoding comes from tokenizer.json, or from vocab.json and
    merges.txt. SigLIP's sentence pieces come from tokenizer.json, or from
    spiece.model, which needs the package sentencepiece; its texts are lower-cased
    and lose their punctuation first. SigLIP 2's is Gemma's, whose texts are
    lower-cased as in training, whether or not the file says so.

    Args:
      folder: Local folder of the checkpoint.
      family: ``"clip"``, ``"siglip"``, ``"siglip2"`` or ``"bert"``, whose word pieces
        may come from vocab.txt too.
      max_length: Longest text in tokens, with all that goes around it.
      clean: What is done to a text first, in place of what the family does.

    Returns:
      The tokenizer.

    Raises:
      InputError: A file is absent or damaged, or sentencepiece is not installed.
    """
    config = _read_config(folder)
    pads_left = config.get("padding_side") == "left"
    is_siglip = family.startswith("siglip")
    if is_siglip and not (folder / "tokenizer.json").is_file():
        return _load_sentencepiece(folder, max_length, clean or _canonicalize)
    if family == "bert":
        library = read_bert_tokenizer(folder)
    elif (folder / "tokenizer.json").is_file():
        library = read_tokenizer(folder / "tokenizer.json")
    else:
        library = _build_clip_tokenizer(folder)

    def find(key: str, *names: str) -> int:
        """Id of a special token: as configured, else of the first known name."""
        given = config.get(key)
        given = given.get("content") if isinstance(given, dict) else given
        for name in (given, *names):
            token_id = None if name is None else library.token_to_id(str(name))
            if token_id is not None:
                return token_id
        raise InputError(f"No {key} ({names[0]}) in the tokenizer of {folder}")

    prefix: tuple[int, ...] = ()
    if family == "clip":
        prefix = (find("bos_token", _CLIP_BEGIN),)
        suffix = (find("eos_token", _CLIP_END),)
        pad_id = find("pad_token", _CLIP_END)
    elif family == "bert":
        prefix = (find("cls_token", "[CLS]"),)
        suffix = (find("sep_token", "[SEP]"),)
        pad_id = find("pad_token", "[PAD]")
    elif library.token_to_id("<eos>") is not None:
        # Gemma's vocabulary has "</s>" too, as a piece of HTML.
        suffix = (find("eos_token", "<eos>"),)
        pad_id = find("pad_token", "<pad>")
        if clean is None:
            # As in training, whatever the file says.
            lowercase_first(library)
    else:
        suffix = (find("eos_token", "</s>"),)
        pad_id = find("pad_token", "</s>")
        clean = clean or _canonicalize
    return TextTokenizer(
        split=_splitter(library, clean),
        prefix=prefix,
        suffix=suffix,
        pad_id=pad_id,
        pads_left=pads_left,
        max_length=max_length,
        is_fixed=is_siglip,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """Return the tokenizer's settings, empty if the folder has none."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            if not isinstance(content, dict):
                raise InputError(f"Expected an object in {folder / name}")
            settings |= {key: value for key, value in content.items() if value}
    return settings


def read_tokenizer(path: Path) -> Any:
    """Read tokenizer.json without the cut and padding that it was saved with.

    Args:
      path: The file.

    Returns:
      A ``tokenizers.Tokenizer``.

    Raises:
      InputError: It is no tokenizer.
    """
    # Imported here: runs with the embedded encoder need no tokenizer.
    from tokenizers import Tokenizer

    try:
        library = Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises bare exceptions.
        reason = printable(str(error).split("\n")[0])
        raise InputError(f"{path} is no tokenizer ({reason}); download it again") from (
            error
        )
    library.no_padding()
    library.no_truncation()
    return library


def read_bert_tokenizer(folder: Path) -> Any:
    """Read BERT's word pieces from tokenizer.json, or build them from vocab.txt.

    Returns:
      A ``tokenizers.Tokenizer``.

    Raises:
      InputError: There is neither, or it is damaged.
    """
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder / "tokenizer.json")
    path = folder / "vocab.txt"
    if not path.is_file():
        raise InputError(
            f"No tokenizer.json and no vocab.txt in {folder}; download the checkpoint "
            "again, or save its tokenizer with transformers' save_pretrained"
        )
    # Imported here: runs with the embedded encoder need no tokenizer.
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    names = path.read_text(encoding="utf-8").splitlines()
    ids = {name: place for place, name in enumerate(names)}
    missing = [name for name in ("[UNK]", "[CLS]", "[SEP]") if name not in ids]
    if missing:
        raise InputError(f"No {missing[0]} in {path}, which is no table of BERT's")
    settings = folder / "tokenizer_config.json"
    given = read_json(settings) if settings.is_file() else {}
    library = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(
        lowercase=bool(given.get("do_lower_case", True)),
        strip_accents=given.get("strip_accents"),
        handle_chinese_chars=bool(given.get("tokenize_chinese_chars", True)),
    )
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    library.add_special_tokens([name for name in special if name in ids])
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    return library


def _build_clip_tokenizer(folder: Path) -> Any:
    """Build CLIP's tokenizer from its two tables."""
    paths = folder / "vocab.json", folder / "merges.txt"
    for path in paths:
        if not path.is_file():
            raise InputError(
                f"No tokenizer.json and no {path.name} in {folder}; download the "
                "checkpoint again"
            )
    vocabulary = read_json(paths[0])
    lines = paths[1].read_text(encoding="utf-8").splitlines()
    pairs = (tuple(line.split()) for line in lines if line[:8] != "#version")
    # Whether each is a pair the library finds out.
    merges: Any = [pair for pair in pairs if pair]
    # Imported here: runs with the embedded encoder need no tokenizer.
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    try:
        model = models.BPE(
            vocab=vocabulary,
            merges=merges,
            end_of_word_suffix="</w>",
            unk_token=_CLIP_END,
        )
    except Exception as error:
        # The library raises bare exceptions.
        reason = printable(str(error).split("\n")[0])
        raise InputError(
            f"vocab.json and merges.txt in {folder} do not fit ({reason}); download "
            "them again"
        ) from error
    library = Tokenizer(model)
    library.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.add_special_tokens([_CLIP_BEGIN, _CLIP_END])
    return library


def lowercase_first(library: Any) -> None:
    """Lower-case texts before all else that a ``tokenizers.Tokenizer`` does."""
    from tokenizers import normalizers

    steps = [normalizers.Lowercase()]
    if library.normalizer is not None:
        steps.append(library.normalizer)
    library.normalizer = normalizers.Sequence(steps)


def _splitter(
    library: Any, clean: Callable[[str], str] | None
) -> Callable[[Sequence[str]], list[list[int]]]:
    """Return the function that splits texts by a loaded tokenizer."""

    def split(texts: Sequence[str]) -> list[list[int]]:
        cleaned = list(texts) if clean is None else [clean(text) for text in texts]
        encoded = library.encode_batch(cleaned, add_special_tokens=False)
        return [each.ids for each in encoded]

    return split


def _canonicalize(text: str) -> str:
    """Clean a text as SigLIP's training did: lower case, no punctuation.

    The mark of a word's begin is put in front before spaces are trimmed, as the
    reference does: a text that starts with a space keeps it.
    """
    text = _WORD_BEGIN + text.replace(_WORD_BEGIN, " ")
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    text = re.sub(r"\s+", " ", text).strip()
    return "" if text == _WORD_BEGIN else text


def _load_sentencepiece(
    folder: Path, max_length: int, clean: Callable[[str], str]
) -> TextTokenizer:
    """Load SigLIP's tokenizer from spiece.model."""
    path = folder / "spiece.model"
    if not path.is_file():
        raise InputError(
            f"No tokenizer.json and no spiece.model in {folder}; download the "
            "checkpoint again"
        )
    # Imported here: only such checkpoints need it, and not every system has it.
    try:
        from sentencepiece import (  # pyright: ignore[reportMissingImports]
            SentencePieceProcessor,
        )
    except ImportError as error:
        raise InputError(
            f"Reading {path} needs a package: pip install sentencepiece"
        ) from error
    pieces = SentencePieceProcessor()
    try:
        pieces.Load(str(path))
    except Exception as error:
        raise InputError(f"{path} is damaged; download it again") from error
    # Behind a lead no begin of a word is put in front of the text a second time.
    lead = "<unk>"
    skipped = len(pieces.EncodeAsIds(lead))

    def split(texts: Sequence[str]) -> list[list[int]]:
        return [pieces.EncodeAsIds(lead + clean(text))[skipped:] for text in texts]

    end = (pieces.eos_id(),)
    return TextTokenizer(
        split=split,
        prefix=(),
        suffix=end,
        pad_id=end[0],
        pads_left=False,
        max_length=max_length,
        is_fixed=True,
    )
