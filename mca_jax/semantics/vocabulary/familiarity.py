"""How well known a noun is, as far as WordNet's own text tells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

__all__ = ["count_mentions"]

_WORD = re.compile(r"[\w'-]+")
_MOST = np.iinfo(np.uint16).max


def count_mentions(
    names: Sequence[str], lemmas: Sequence[Sequence[str]], glosses: Sequence[str]
) -> np.ndarray:
    """Count the other nouns whose names or definition mention a noun's name.

    A name that everybody knows serves to explain others: "elephant" is mentioned
    39 times ("Indian elephant", "elephant's-foot", "... of elephants"), and
    "proboscidean", the order that elephants belong to, never. Singular and
    plural are one word; senses of one word are not told apart.

    Args:
      names: Displayed name of each noun.
      lemmas: All the names of each noun.
      glosses: Definition of each noun.

    Returns:
      Number of other nouns, uint16 ``[M]``, at most 65535.
    """
    words = [_words(name) for name in names]
    wanted = set(words)
    longest = max((len(phrase) for phrase in wanted), default=0)
    # Few names start with any given word, which spares most of the slices.
    starts = {phrase[0]: 0 for phrase in wanted if phrase}
    for phrase in wanted:
        if phrase:
            starts[phrase[0]] = max(starts[phrase[0]], len(phrase))
    mentions: Counter[tuple[str, ...]] = Counter()
    for row_lemmas, gloss in zip(lemmas, glosses, strict=True):
        found: set[tuple[str, ...]] = set()
        for text in (gloss, *row_lemmas):
            tokens = _words(text)
            for at, token in enumerate(tokens):
                reach = min(starts.get(token, 0), longest)
                found.update(tokens[at : at + size] for size in range(1, reach + 1))
        mentions.update(found & wanted)
    counts = [
        mentions[phrase] - _mentions_itself(phrase, row_lemmas, gloss)
        for phrase, row_lemmas, gloss in zip(words, lemmas, glosses, strict=True)
    ]
    return np.clip(counts, 0, _MOST).astype(np.uint16)


def _mentions_itself(
    phrase: tuple[str, ...], lemmas: Sequence[str], gloss: str
) -> bool:
    size = len(phrase)
    texts = [_words(text) for text in (gloss, *lemmas)]
    return size > 0 and any(
        text[at : at + size] == phrase for text in texts for at in range(len(text))
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(_singular(word) for word in _WORD.findall(text.casefold()))


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
