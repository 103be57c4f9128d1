"""Turns WordNet's table into plain arrays and back: the embedded asset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mca_jax.semantics.vocabulary.nouns import NounTable

__all__ = ["pack_table", "unpack_table"]


def pack_table(table: NounTable) -> dict[str, np.ndarray]:
    """Turn WordNet's table into plain arrays, to be saved without pickles.

    Args:
      table: Nouns, all of WordNet.

    Returns:
      Arrays by name; strings are UTF-8 bytes joined by newlines (rows) and tabs
      (lemmas of a row), neither of which occurs in WordNet.
    """
    shown = [
        row.index(name) for row, name in zip(table.lemmas, table.names, strict=True)
    ]
    return {
        "offsets": np.array([int(synset[1:]) for synset in table.synsets], np.int32),
        "lemmas": _pack_text("\n".join("\t".join(row) for row in table.lemmas)),
        "shown": np.array(shown, np.uint8),
        "glosses": _pack_text("\n".join(table.glosses)),
        "parent_starts": table.parent_starts,
        "parents": table.parents,
        "depth": table.depth,
        "kinds": table.kinds,
        "familiarity": table.familiarity,
        "category": table.category,
        "instance": table.instance,
        "offensive": table.offensive,
    }


def unpack_table(arrays: Mapping[str, np.ndarray]) -> NounTable:
    """Undo ``pack_table``.

    Args:
      arrays: Mapping of names to arrays, such as an open npz file.

    Returns:
      The table.
    """
    rows = _unpack_text(arrays["lemmas"])
    lemmas = tuple(tuple(row.split("\t")) for row in rows)
    return NounTable(
        names=tuple(
            row[i] for row, i in zip(lemmas, arrays["shown"].tolist(), strict=True)
        ),
        synsets=tuple(f"n{offset:08d}" for offset in arrays["offsets"].tolist()),
        lemmas=lemmas,
        glosses=tuple(_unpack_text(arrays["glosses"])),
        parent_starts=arrays["parent_starts"],
        parents=arrays["parents"],
        depth=arrays["depth"],
        kinds=arrays["kinds"],
        familiarity=arrays["familiarity"],
        category=arrays["category"],
        instance=arrays["instance"],
        offensive=arrays["offensive"],
    )


def _pack_text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8"), np.uint8)


def _unpack_text(data: np.ndarray) -> list[str]:
    return data.tobytes().decode("utf-8").split("\n")
