"""Reference lines that use what clustering may not: class names or labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sets import Answers, SweepSet
from mca_jax.core.errors import InputError
from mca_jax.evaluation import (
    Scores,
    adjusted_rand_index,
    normalized_mutual_information,
    rows_of_label,
)
from mca_jax.semantics import NounTable

__all__ = ["class_rows", "linear_probe", "score_classes", "zero_shot"]

_SYNSETS = Path(__file__).with_name("class_synsets.json")
_MOST_STEPS = 1000
# Unit vectors are short features: the usual strength would hardly fit at all.
_INVERSE_STRENGTH = 100.0


def _listed_synsets(class_names: Sequence[str]) -> dict[str, list[str]]:
    """The list of ``class_synsets.json`` that has all these classes, if any."""
    for listed in json.loads(_SYNSETS.read_text(encoding="utf-8")).values():
        if set(class_names) <= listed.keys():
            return listed
    return {}


def class_rows(
    table: NounTable, class_names: Sequence[str]
) -> list[tuple[int, ...]] | None:
    """Find rows of the nouns of each class: by WordNet id where listed, else by name.

    None if a class has no noun.
    """
    listed = _listed_synsets(class_names)
    row_of = {synset: row for row, synset in enumerate(table.synsets) if synset}
    found: list[tuple[int, ...]] = []
    for name in class_names:
        rows = [row_of[synset] for synset in listed.get(name, ()) if synset in row_of]
        # The first noun of a name is its most usual sense.
        found.append(tuple(rows) or rows_of_label(table, name)[:1])
    return found if all(found) else None


def zero_shot(given: SweepSet, rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Give each image the class whose name is nearest, by :func:`class_rows`."""
    names = np.stack([given.nouns[list(each)].mean(axis=0) for each in rows])
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    return np.argmax(given.embeddings @ names.T, axis=1)


def linear_probe(
    embeddings: np.ndarray, answers: Answers, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic regression on one half of the labels, apply it to the other.

    The split, which ``seed`` draws, keeps the shares of the classes.

    Returns:
      Rows of the half that was not fitted, and the class predicted for each.

    Raises:
      InputError: A class has a single image.
    """
    # Imported here: the page is made without it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    if np.bincount(answers.labels).min() < 2:
        raise InputError("Expected at least two images of each class for the probe")
    rows = np.arange(len(embeddings))
    fitted, held = train_test_split(
        rows, test_size=0.5, random_state=seed, stratify=answers.labels
    )
    probe: Any = LogisticRegression(C=_INVERSE_STRENGTH, max_iter=_MOST_STEPS)
    probe.fit(embeddings[fitted], answers.labels[fitted])
    held = np.asarray(held)
    return held, probe.predict(embeddings[held])


def score_classes(labels: np.ndarray, predicted: np.ndarray) -> Scores:
    """Score predicted classes: the share that is right, without matching."""
    return Scores(
        float(np.mean(labels == predicted)),
        normalized_mutual_information(labels, predicted),
        adjusted_rand_index(labels, predicted),
    )
