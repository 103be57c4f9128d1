"""WordNet's nouns, from its own file or through nltk, as one table."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.semantics.vocabulary.blocklist import screen_synsets
from mca_jax.semantics.vocabulary.nouns import NounTable, Synset, assemble_table

__all__ = ["Synset", "build_table", "parse_data_noun", "read_nltk"]

_HYPERNYM = ("@", "@i")
_INSTANCE_HYPERNYM = "@i"
_USAGE = ";u"


def parse_data_noun(lines: Iterable[str]) -> list[Synset]:
    """Parse the lines of WordNet's ``data.noun`` (format: wndb(5WN)).

    Returns:
      One entry a synset, in the file's order, which is that of the offsets.

    Raises:
      InputError: A line is not in WordNet's format, or there is no synset.
    """
    synsets = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("  ") or not line.strip():
            continue
        try:
            synsets.append(_parse_line(line))
        except (ValueError, IndexError) as error:
            raise InputError(
                f"Expected WordNet's data.noun, found at line {number}: {line[:40]!r}"
            ) from error
    if not synsets:
        raise InputError("Expected WordNet's data.noun, found no synset in it")
    return synsets


def _parse_line(line: str) -> Synset:
    data, _, gloss = line.partition("|")
    fields = data.split()
    word_count = int(fields[3], 16)
    pointers_at = 4 + 2 * word_count
    pointer_count = int(fields[pointers_at])
    hypernyms, usages, instance = [], [], False
    for index in range(pointer_count):
        at = pointers_at + 1 + 4 * index
        symbol, target, source = fields[at], int(fields[at + 1]), fields[at + 3]
        if symbol in _HYPERNYM:
            hypernyms.append(target)
            instance |= symbol == _INSTANCE_HYPERNYM
        elif symbol == _USAGE:
            usages.append((int(source[:2], 16) - 1, target))
    return Synset(
        offset=int(fields[0]),
        category=int(fields[1]),
        lemmas=tuple(_spaced(word) for word in fields[4:pointers_at:2]),
        gloss=_definition(gloss),
        hypernyms=tuple(sorted(hypernyms)),
        instance=instance,
        usages=tuple(sorted(usages)),
    )


def _spaced(lemma: str) -> str:
    return lemma.replace("_", " ")


def _definition(gloss: str) -> str:
    """The definition of a gloss, on one line."""
    # WordNet puts example sentences, in quotation marks, behind the definition.
    without_examples = re.sub(r'".*?"', "", gloss)
    return " ".join(without_examples.split()).strip("; ")


def build_table(synsets: Sequence[Synset]) -> NounTable:
    """Put synsets into one table, with depths and the offensive ones marked.

    Returns:
      The table, row ``i`` for ``synsets[i]``; synsets are in ascending order of the
      offsets.

    Raises:
      InputError: A hypernym is not among the synsets.
    """
    offsets = np.array([synset.offset for synset in synsets], np.int64)
    counts = [len(synset.hypernyms) for synset in synsets]
    wanted = np.array([h for synset in synsets for h in synset.hypernyms], np.int64)
    parents = np.searchsorted(offsets, wanted)
    known = parents < len(offsets)
    known &= offsets[np.minimum(parents, len(offsets) - 1)] == wanted
    if not known.all():
        raise InputError(
            f"Expected every hypernym among the nouns, found none with offset "
            f"{wanted[~known][0]:08d}; the WordNet files don't belong together"
        )
    children = np.repeat(np.arange(len(synsets)), counts)
    shown, offensive = screen_synsets(synsets, children, parents)
    return assemble_table(
        names=[s.lemmas[i] for s, i in zip(synsets, shown, strict=True)],
        synsets=[f"n{offset:08d}" for offset in offsets],
        lemmas=[synset.lemmas for synset in synsets],
        glosses=[synset.gloss for synset in synsets],
        children=children,
        parents=parents,
        category=np.array([synset.category for synset in synsets], np.uint8),
        instance=np.array([synset.instance for synset in synsets], bool),
        offensive=offensive,
    )


def read_nltk(folder: str | Path | None = None) -> list[Synset]:
    """Read the nouns through nltk's WordNet 3.0 corpus.

    Args:
      folder: Folder with WordNet's files (``data.noun``, ``lexnames``, ...), or
        None for the corpus that ``nltk.download("wordnet")`` installs.

    Returns:
      One entry a synset, in ascending order of the offsets.

    Raises:
      InputError: nltk has no such corpus, or it is not WordNet 3.0.
    """
    # nltk pulls in scikit-learn and pandas where they are installed: seconds.
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Nouns(WordNetCorpusReader):
        # The parent maps other versions' offsets to 3.0's here, which needs files
        # (index.sense, a second corpus) that nouns don't.
        def map_wn(self, version: str = "wordnet") -> None:
            return None

    try:
        root = str(folder) if folder else _find_corpus(nltk.data.find)
        with warnings.catch_warnings():
            # It warns that there are no other languages, which nobody asked for.
            warnings.simplefilter("ignore", UserWarning)
            reader: Any = Nouns(root, omw_reader=None)
    except (LookupError, OSError) as error:
        where = folder or "nltk's data folders"
        raise InputError(
            f"Expected a WordNet corpus in {where}, found none that nltk may read; "
            "run nltk.download('wordnet') or use the embedded nouns"
        ) from error
    version = reader.get_version()
    if version != "3.0":
        raise InputError(
            f"Expected WordNet 3.0 in nltk's corpus, found {version}; use the "
            "embedded nouns"
        )
    lexnames = reader._lexnames
    synsets = [_from_nltk(entry, lexnames) for entry in reader.all_synsets("n")]
    return sorted(synsets, key=lambda synset: synset.offset)


def _find_corpus(find: Callable[[str], Any]) -> Any:
    try:
        return find("corpora/wordnet")
    except LookupError:
        # nltk.download leaves this corpus in its zip file, and reads it from there.
        return find("corpora/wordnet.zip/wordnet/")


def _from_nltk(entry: Any, lexnames: Sequence[str]) -> Synset:
    kinds, instances = entry.hypernyms(), entry.instance_hypernyms()
    usages = [(-1, domain.offset()) for domain in entry.usage_domains()]
    for index, lemma in enumerate(entry.lemmas()):
        usages += [(index, d.synset().offset()) for d in lemma.usage_domains()]
    return Synset(
        offset=entry.offset(),
        category=lexnames.index(entry.lexname()),
        lemmas=tuple(_spaced(name) for name in entry.lemma_names()),
        gloss=_definition(entry.definition()),
        hypernyms=tuple(sorted(h.offset() for h in (*kinds, *instances))),
        instance=bool(instances),
        usages=tuple(sorted(usages)),
    )
