"""Which pictures the report shows for each cluster, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mca_jax.core.host_tables import release
from mca_jax.core.text import printable
from mca_jax.model.result import Cluster, ClusterResult, ScoredNoun

__all__ = [
    "Card",
    "Picture",
    "PictureRows",
    "choose_rows",
    "make_cards",
    "make_picture",
]

_MOST_EXEMPLARS = 12
_LEAST_EXEMPLARS = 3
_EXEMPLAR_BUDGET = 2400
_MOST_BORDERLINE = 4
_BORDERLINE_BUDGET = 800
_MOST_UNCERTAIN = 32
_LEAST_UNCERTAIN = 8
_UNCERTAIN_PART = 20
_TELLING_NOUNS = 3


@dataclass(frozen=True)
class Picture:
    """An image as the report shows it.

    Attributes:
      path: Printable path.
      uri: Address of its thumbnail, or empty for a placeholder.
      cluster: Name of its cluster.
      target: Fragment of its cluster's card.
      confidence: Probability of its cluster, in [0, 1].
      other: Name of the second most probable cluster.
      other_confidence: Probability of that one, in [0, 1].
    """

    path: str
    uri: str
    cluster: str
    target: str
    confidence: float
    other: str
    other_confidence: float


@dataclass(frozen=True)
class PictureRows:
    """Rows of the images to show.

    Attributes:
      exemplars: By cluster, nearest to its centre first.
      borderline: By cluster, least confident first; none of the exemplars.
      uncertain: Least confident of all images.
    """

    exemplars: tuple[tuple[int, ...], ...]
    borderline: tuple[tuple[int, ...], ...]
    uncertain: tuple[int, ...]

    @property
    def all(self) -> list[int]:
        """Every row that is shown, once."""
        groups = [*self.exemplars, *self.borderline, self.uncertain]
        return sorted({row for group in groups for row in group})


@dataclass(frozen=True)
class Card:
    """A cluster as the report shows it.

    Attributes:
      index: Number of the cluster.
      target: Fragment that links to the card.
      name: Its printable name.
      size: Number of its images.
      share: Share of all images, in [0, 1].
      confidence: Mean confidence, in [0, 1].
      nouns: The nouns behind the name, best first.
      exemplars: Pictures nearest to its centre.
      borderline: Its least confident pictures.
      nearest: Name of the cluster whose mean image is the most similar, or
        empty.
      nearest_target: Fragment of that cluster's card.
      second_choice: Number of its images whose second most probable cluster that
        is.
      only_here: Nouns that it has and that cluster has not, best first.
      only_there: The other way round.
      label: The label that most of its images have, or empty without labels.
      label_share: Share of its images that have it, in [0, 1].
      search: Lower-case text that the search box looks in.
    """

    index: int
    target: str
    name: str
    size: int
    share: float
    confidence: float
    nouns: tuple[ScoredNoun, ...]
    exemplars: tuple[Picture, ...]
    borderline: tuple[Picture, ...]
    nearest: str
    nearest_target: str
    second_choice: int
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    label: str
    label_share: float
    search: str


def _target(index: int) -> str:
    """Fragment of a cluster's card."""
    return f"cluster-{index}"


def choose_rows(result: ClusterResult) -> PictureRows:
    """Choose the images to show, fewer a cluster where clusters are many.

    Args:
      result: What a run returned.

    Returns:
      Up to 12 exemplars and 4 borderline images a cluster, 3 and none at 1000
      clusters, and 8 to 32 uncertain ones by the size of the set.
    """
    clusters = max(len(result.clusters), 1)
    exemplar_count = int(
        np.clip(_EXEMPLAR_BUDGET // clusters, _LEAST_EXEMPLARS, _MOST_EXEMPLARS)
    )
    borderline_count = min(_BORDERLINE_BUDGET // clusters, _MOST_BORDERLINE)
    # Stable, so that ties come out the same in every run.
    doubtful = np.argsort(result.confidences, kind="stable")
    by_cluster: list[list[int]] = [[] for _ in result.clusters]
    for row in doubtful.tolist():
        by_cluster[int(result.assignments[row])].append(row)
    exemplars = tuple(
        tuple(cluster.exemplars[:exemplar_count]) for cluster in result.clusters
    )
    borderline = tuple(
        tuple([row for row in rows if row not in set(shown)][:borderline_count])
        for rows, shown in zip(by_cluster, exemplars, strict=True)
    )
    uncertain = int(
        np.clip(len(doubtful) // _UNCERTAIN_PART, _LEAST_UNCERTAIN, _MOST_UNCERTAIN)
    )
    return PictureRows(exemplars, borderline, tuple(doubtful[:uncertain].tolist()))


def make_picture(result: ClusterResult, row: int, uris: Mapping[int, str]) -> Picture:
    """Describe one image.

    Args:
      result: What a run returned.
      row: Row of the image.
      uris: Thumbnails by row.

    Returns:
      What the report shows of it.
    """
    own = int(result.assignments[row])
    others = result.probabilities[row].copy()
    others[own] = -1.0
    other = int(others.argmax())
    return Picture(
        path=printable(result.paths[row]),
        uri=uris.get(row, ""),
        cluster=printable(result.clusters[own].name),
        target=_target(own),
        confidence=float(result.probabilities[row, own]),
        other=printable(result.clusters[other].name),
        other_confidence=float(result.probabilities[row, other]),
    )


def _nearest_clusters(result: ClusterResult) -> list[int | None]:
    """For each cluster the one whose mean embedding is the most similar."""
    sizes = np.bincount(result.assignments, minlength=len(result.clusters))
    order = np.argsort(result.assignments, kind="stable")
    means = np.zeros((len(sizes), result.embeddings.shape[1]), np.float32)
    for index, rows in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
        if rows.size:
            mean = result.embeddings[rows].mean(axis=0)
            means[index] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    similar = means @ means.T
    np.fill_diagonal(similar, -np.inf)
    similar[:, sizes == 0] = -np.inf
    found = similar.argmax(axis=1).tolist()
    return [
        other if sizes[index] and np.isfinite(similar[index, other]) else None
        for index, other in enumerate(found)
    ]


def _telling_nouns(cluster: Cluster, other: Cluster) -> tuple[str, ...]:
    """The best nouns of a cluster that are none of the other's."""
    known = {(noun.synset, noun.name) for noun in other.nouns}
    own = [each for each in cluster.nouns if (each.synset, each.name) not in known]
    return tuple(printable(noun.name) for noun in own[:_TELLING_NOUNS])


def _count_second_choices(result: ClusterResult, index: int, other: int) -> int:
    """Count images of one cluster that would go to another one next."""
    others = result.probabilities[result.assignments == index]
    others[:, index] = -1.0
    release(result.probabilities)
    return int((others.argmax(axis=1) == other).sum())


def _difference(result: ClusterResult, index: int, other: int | None) -> dict[str, Any]:
    """What a card says of the cluster nearest to its own."""
    if other is None:
        return {
            "nearest": "",
            "nearest_target": "",
            "second_choice": 0,
            "only_here": (),
            "only_there": (),
        }
    here, there = result.clusters[index], result.clusters[other]
    return {
        "nearest": printable(there.name),
        "nearest_target": _target(other),
        "second_choice": _count_second_choices(result, index, other),
        "only_here": _telling_nouns(here, there),
        "only_there": _telling_nouns(there, here),
    }


def _majority(
    counts: np.ndarray | None, classes: Sequence[str], index: int
) -> tuple[str, float]:
    """Most frequent label of a cluster and its share."""
    if counts is None or index >= counts.shape[1] or not counts[:, index].sum():
        return "", 0.0
    column = counts[:, index]
    best = int(column.argmax())
    return classes[best], float(column[best] / column.sum())


def _search_text(cluster: Cluster, label: str) -> str:
    """Text that the search box looks in."""
    words = [str(cluster.index), cluster.name, label]
    words += [noun.name for noun in cluster.nouns]
    return printable(" ".join(words).casefold())


def make_cards(
    result: ClusterResult,
    rows: PictureRows,
    uris: Mapping[int, str],
    *,
    classes: Sequence[str] = (),
    counts: np.ndarray | None = None,
) -> list[Card]:
    """Describe every cluster.

    Args:
      result: What a run returned.
      rows: Rows to show.
      uris: Thumbnails by row.
      classes: Names of the labels, if any.
      counts: Images by label and cluster, ``[num_classes, k]``, or None.

    Returns:
      One card a cluster, in the order of the clusters.
    """
    nearest = _nearest_clusters(result)
    cards = []
    for cluster, other in zip(result.clusters, nearest, strict=True):
        index = cluster.index
        label, label_share = _majority(counts, classes, index)
        cards.append(
            Card(
                index=index,
                target=_target(index),
                name=printable(cluster.name),
                size=cluster.size,
                share=cluster.size / max(len(result.paths), 1),
                confidence=cluster.confidence,
                nouns=cluster.nouns,
                exemplars=tuple(
                    make_picture(result, row, uris) for row in rows.exemplars[index]
                ),
                borderline=tuple(
                    make_picture(result, row, uris) for row in rows.borderline[index]
                ),
                **_difference(result, index, other),
                label=label,
                label_share=label_share,
                search=_search_text(cluster, label),
            )
        )
    return cards
