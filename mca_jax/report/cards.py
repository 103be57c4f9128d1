"""What the report says of each cluster, and labels against clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.host_tables import release
from mca_jax.model.result import Cluster, ClusterResult

__all__ = [
    "Contingency",
    "choose_rows",
    "make_cards",
    "make_matrix",
    "make_picture",
    "read_contingency",
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
# A table of more cells than this can't be read, and weighs on the page.
_MOST_CELLS = 12_000
_MOST_LABELS = 3


class Picture(NamedTuple):
    """An image as the report shows it.

    Attributes:
      path: Its path.
      uri: Address of its thumbnail, or empty for a placeholder.
      cluster: Its cluster.
      confidence: Probability of that one, in [0, 1].
      other: The second most probable cluster.
      other_confidence: Probability of that one, in [0, 1].
    """

    path: str
    uri: str
    cluster: Cluster
    confidence: float
    other: Cluster
    other_confidence: float


class PictureRows(NamedTuple):
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


class Contingency(NamedTuple):
    """Images by label and cluster: names of the labels, int64 ``[num_classes, k]``."""

    classes: tuple[str, ...]
    counts: np.ndarray


class Card(NamedTuple):
    """A cluster as the report shows it.

    Attributes:
      cluster: The cluster.
      exemplars: Pictures nearest to its centre.
      borderline: Its least confident pictures.
      nearest: The cluster whose mean image is the most similar, if any.
      second_choice: Number of its images whose second most probable cluster that
        is.
      only_here: Nouns that it has and that cluster has not, best first.
      only_there: The other way round.
      label: The label that most of its images have, or empty without labels.
      label_share: Share of its images that have it, in [0, 1].
      search: Lower-case text that the search box looks in.
    """

    cluster: Cluster
    exemplars: tuple[Picture, ...]
    borderline: tuple[Picture, ...]
    nearest: Cluster | None
    second_choice: int
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    label: str
    label_share: float
    search: str


class MatrixRow(NamedTuple):
    """One cluster in the table of labels against clusters.

    Attributes:
      cluster: The cluster.
      cells: Count and share of the cluster for each label; empty where the
        table is too large to show.
      top: Its most frequent labels with their counts.
    """

    cluster: Cluster
    cells: tuple[tuple[int, float], ...]
    top: tuple[tuple[str, int], ...]


class Matrix(NamedTuple):
    """Labels against clusters as the report shows them.

    Attributes:
      full: Whether every cell is shown, or the most frequent labels only.
      classes: Names of the labels in the order of the cells.
      rows: One a cluster.
    """

    full: bool
    classes: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def choose_rows(result: ClusterResult) -> PictureRows:
    """Choose the images to show, fewer a cluster where clusters are many.

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
    """Describe the image of a row; ``uris`` has the thumbnails by row."""
    own = int(result.assignments[row])
    others = result.probabilities[row].copy()
    others[own] = -1.0
    other = int(others.argmax())
    return Picture(
        path=result.paths[row],
        uri=uris.get(row, ""),
        cluster=result.clusters[own],
        confidence=float(result.probabilities[row, own]),
        other=result.clusters[other],
        other_confidence=float(result.probabilities[row, other]),
    )


def _nearest_clusters(result: ClusterResult) -> list[Cluster | None]:
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
    return [
        result.clusters[other]
        if sizes[index] and np.isfinite(similar[index, other])
        else None
        for index, other in enumerate(similar.argmax(axis=1).tolist())
    ]


def _telling_nouns(cluster: Cluster, other: Cluster | None) -> tuple[str, ...]:
    """The best nouns of a cluster that are none of the other's."""
    if other is None:
        return ()
    known = {(noun.synset, noun.name) for noun in other.nouns}
    own = [each for each in cluster.nouns if (each.synset, each.name) not in known]
    return tuple(noun.name for noun in own[:_TELLING_NOUNS])


def _count_second_choices(
    result: ClusterResult, cluster: Cluster, other: Cluster | None
) -> int:
    """Count images of one cluster that would go to another one next."""
    if other is None:
        return 0
    others = result.probabilities[result.assignments == cluster.index]
    others[:, cluster.index] = -1.0
    release(result.probabilities)
    return int((others.argmax(axis=1) == other.index).sum())


def _majority(table: Contingency | None, index: int) -> tuple[str, float]:
    """Most frequent label of a cluster and its share."""
    if table is None or not table.counts[:, index].sum():
        return "", 0.0
    column = table.counts[:, index]
    best = int(column.argmax())
    return table.classes[best], float(column[best] / column.sum())


def make_cards(
    result: ClusterResult,
    rows: PictureRows,
    uris: Mapping[int, str],
    *,
    table: Contingency | None = None,
) -> list[Card]:
    """Describe every cluster.

    Args:
      result: What a run returned.
      rows: Rows to show.
      uris: Thumbnails by row.
      table: Images by label and cluster, if there are labels.

    Returns:
      One card a cluster, in the order of the clusters.
    """
    cards = []
    for cluster, other in zip(result.clusters, _nearest_clusters(result), strict=True):
        label, label_share = _majority(table, cluster.index)
        exemplars, borderline = (
            tuple(make_picture(result, row, uris) for row in group[cluster.index])
            for group in (rows.exemplars, rows.borderline)
        )
        words = [str(cluster.index), cluster.name, label]
        words += [noun.name for noun in cluster.nouns]
        cards.append(
            Card(
                cluster=cluster,
                exemplars=exemplars,
                borderline=borderline,
                nearest=other,
                second_choice=_count_second_choices(result, cluster, other),
                only_here=_telling_nouns(cluster, other),
                only_there=() if other is None else _telling_nouns(other, cluster),
                label=label,
                label_share=label_share,
                search=" ".join(words).casefold(),
            )
        )
    return cards


def read_contingency(value: Any, num_clusters: int) -> Contingency | None:
    """Read the table of labels against clusters.

    Args:
      value: ``{"classes": names, "counts": table}`` with a row a class and a
        column a cluster, or the table alone, or None.
      num_clusters: Columns that the table must have.

    Returns:
      The table with names, or None where there is none of this shape.
    """
    named = isinstance(value, Mapping)
    table = value.get("counts") if named else value
    counts = np.asarray([] if table is None else table)
    if counts.ndim != 2 or counts.shape[1] != num_clusters or not counts.size:
        return None
    names = value.get("classes") if named else None
    classes = tuple(map(str, range(len(counts)) if names is None else names))
    if len(classes) != len(counts):
        return None
    return Contingency(classes, counts.astype(np.int64))


def make_matrix(table: Contingency, clusters: Sequence[Cluster]) -> Matrix:
    """Lay out labels against clusters, whole where that can be read.

    Labels are ordered so that a good clustering fills the diagonal: each by the
    cluster that holds the most of it, the larger first.

    Args:
      table: Images by label and cluster.
      clusters: In the order in which they are shown, which is that of the rows.

    Returns:
      The table.
    """
    shown = table.counts[:, [cluster.index for cluster in clusters]]
    order = np.lexsort(
        (np.arange(len(shown)), -shown.max(axis=1), shown.argmax(axis=1))
    )
    full = shown.size <= _MOST_CELLS
    rows = []
    for cluster, column in zip(clusters, shown.T, strict=True):
        total = max(int(column.sum()), 1)
        best = np.argsort(-column, kind="stable")[:_MOST_LABELS]
        cells = [(int(n), round(float(n / total), 3)) for n in column[order]]
        rows.append(
            MatrixRow(
                cluster=cluster,
                cells=tuple(cells if full else ()),
                top=tuple(
                    (table.classes[i], int(column[i])) for i in best if column[i]
                ),
            )
        )
    return Matrix(full, tuple(table.classes[i] for i in order), tuple(rows))
