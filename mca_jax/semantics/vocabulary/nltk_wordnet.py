"""Reads WordNet's nouns through nltk, for those who have its corpus."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mca_jax.core.errors import InputError
from mca_jax.semantics.vocabulary.wordnet import Synset, definition, spaced

__all__ = ["read_nltk"]


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
        lemmas=tuple(spaced(name) for name in entry.lemma_names()),
        gloss=definition(entry.definition()),
        hypernyms=tuple(sorted(h.offset() for h in (*kinds, *instances))),
        instance=bool(instances),
        usages=tuple(sorted(usages)),
    )
