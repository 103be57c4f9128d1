r"""Names for clusters, from the nouns that their images attended to.

A noun counts for a cluster by its share of the cluster's evidence, less if other
clusters use it too:

.. math::
    p_{cj} = e_{cj} / \sum_{j'} e_{cj'}, \qquad
    s_{cj} = \tfrac12 \Big( p_{cj} / \sum_{c'} p_{c'j} + q_{jc} \Big), \qquad
    w_{cj} \propto p_{cj}\, s_{cj}^{1/4}.

The headline is the concept :math:`v` of the hierarchy, a noun or anything above
one, that holds much of the evidence and still says something:

.. math::
    \arg\max_v \Big( \sum_{j \le v} w_{cj} \Big) \cdot
    \Big( 1 - \frac{\log \mathrm{kinds}(v)}{\log M} \Big) \cdot
    \mathrm{familiarity}(v).

So a noun that dominates stands for itself, and where the evidence is spread over
many antelopes the name is "antelope". Familiarity makes it "elephant", not
"proboscidean". Everything here is small and runs on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.semantics import NounTable
from mca_jax.semantics.concepts import Concepts

__all__ = ["ClusterName", "name_clusters", "weigh_evidence"]

# How much a noun loses to other clusters that use it. More would spoil the names
# of classes that are much alike, such as a cat's and a dog's.
_EXCLUSIVENESS = 0.25


class ClusterName(NamedTuple):
    """The name of one cluster and what speaks for it.

    Attributes:
      name: Printable, and different from the other clusters' names.
      nouns: ``(row of the table, share of the evidence)``, best first, one for
        each displayed name; shares in [0, 1].
      confidence: Share of the cluster's evidence on nouns that are the headline,
        are below it or read the same, in [0, 1]; 0 for a cluster without
        evidence. With the embedded encoder on Caltech-40, k-means over 3 seeds,
        8 % of the headlines under 0.2 were related to the true class, 47 %
        between 0.2 and 0.4, and 90 % above.
      headline: Row of the noun that the name is made of, -1 if of none.
    """

    name: str
    nouns: tuple[tuple[int, float], ...]
    confidence: float
    headline: int


def weigh_evidence(evidence: Any, text_assignments: Any) -> np.ndarray:
    """Turn attention into weights of nouns that tell clusters apart.

    Args:
      evidence: Attention on noun ``j`` summed over the images of cluster ``c``,
        at least 0, float ``[k, m]``.
      text_assignments: Probability of cluster ``c`` given noun ``j``, ``[m, k]``.

    Returns:
      Weights that sum to 1 for each cluster, or to 0 for one without evidence,
      float64 ``[k, m]``.

    Raises:
      InputError: Shapes don't agree, or a value is negative or not finite.
    """
    evidence = np.asarray(evidence, np.float64)
    texts = np.asarray(text_assignments, np.float64).T
    if evidence.ndim != 2 or texts.shape != evidence.shape:
        raise InputError(
            f"Expected evidence [k, m] and text assignments [m, k], found "
            f"{list(evidence.shape)} and {list(texts.T.shape)}"
        )
    if not (np.isfinite(evidence).all() and (evidence >= 0).all()):
        raise InputError("Expected finite evidence of at least 0, found other values")
    if not (np.isfinite(texts).all() and (texts >= 0).all()):
        raise InputError("Expected text assignments in [0, 1], found other values")
    shares = _divide(evidence, evidence.sum(1, keepdims=True))
    exclusive = _divide(shares, shares.sum(0, keepdims=True))
    weights = shares * ((exclusive + texts) / 2) ** _EXCLUSIVENESS
    return _divide(weights, weights.sum(1, keepdims=True))


def _divide(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    # Where the sum is 0 so are the values.
    return values / np.where(by > 0, by, 1.0)


def name_clusters(
    evidence: Any,
    text_assignments: Any,
    table: NounTable,
    rows: Sequence[int] | np.ndarray,
    *,
    num_nouns: int = 10,
    breadth: int = 100,
    min_specificity: float = 0.42,
    min_depth: int = 4,
    sizes: Sequence[int] | np.ndarray | None = None,
) -> list[ClusterName]:
    r"""Name every cluster, each differently.

    Args:
      evidence: Attention on noun ``j`` summed over the images of cluster ``c``,
        at least 0, float ``[k, m]``.
      text_assignments: Probability of cluster ``c`` given noun ``j``, ``[m, k]``.
      table: All the nouns.
      rows: Rows of the ``m`` nouns of the semantic space in the table.
      num_nouns: Most nouns to list for a cluster, at least 1.
      breadth: Nouns of a cluster that the headline is found from, at least 1.
      min_specificity: Least ``1 - log(kinds) / log(M)`` of a headline, with
        ``M`` at least 1000, in [0, 1]: 0.42 bars WordNet's concepts with more than
        708 kinds.
      min_depth: Fewest steps from WordNet's root to a headline, at least 0.
      sizes: Images of each cluster, if known: one that has images but no
        evidence is then called unnamed, not empty.

    Returns:
      One name a cluster, in order. A noun on the block list is used only if it
      is among ``rows``, where it is only if the user allowed it.

    Raises:
      InputError: Shapes don't agree, or a value is out of range.

    Example:
      >>> from mca_jax.semantics.vocabulary.text_file import parse_vocabulary
      >>> table = parse_vocabulary("terrier,dog\npoodle,dog\nrock")
      >>> evidence = np.array([[5.0, 4.0, 0.0], [0.0, 0.0, 9.0]])
      >>> texts = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> [n.name for n in name_clusters(evidence, texts, table, [0, 1, 2])]
      ['dog', 'rock']
    """
    check_in_range("num_nouns", num_nouns, low=1)
    check_in_range("breadth", breadth, low=1)
    check_in_range("min_specificity", min_specificity, low=0, high=1)
    check_in_range("min_depth", min_depth, low=0)
    weights = weigh_evidence(evidence, text_assignments)
    rows = np.asarray(rows, np.int64)
    if rows.shape != weights.shape[1:]:
        raise InputError(
            f"Expected {weights.shape[1]} rows of nouns, as the evidence has, found "
            f"{list(rows.shape)}"
        )
    concepts = Concepts(
        table, rows, min_specificity=min_specificity, min_depth=min_depth
    )
    coverages = [concepts.cover(weight, breadth) for weight in weights]
    headlines = [
        concepts.choose(weight, coverage)
        for weight, coverage in zip(weights, coverages, strict=True)
    ]
    names = _distinct_names(headlines, coverages, concepts, sizes)
    return [
        ClusterName(
            name=name,
            nouns=concepts.list_nouns(weight, num_nouns),
            confidence=concepts.share_below(weight, headline),
            headline=headline,
        )
        for name, weight, headline in zip(names, weights, headlines, strict=True)
    ]


def _distinct_names(
    headlines: Sequence[int],
    coverages: Sequence[Mapping[int, float]],
    concepts: Concepts,
    sizes: Sequence[int] | np.ndarray | None,
) -> list[str]:
    """Print the headlines, and tell apart those that read the same."""
    texts = []
    for index, headline in enumerate(headlines):
        if headline >= 0:
            texts.append(concepts.table.names[headline])
        else:
            state = "unnamed" if sizes is not None and sizes[index] > 0 else "empty"
            texts.append(f"{state} cluster {index}")
    alike: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        alike.setdefault(text.casefold(), []).append(index)
    used = {text for text, members in alike.items() if len(members) == 1}
    names = list(texts)
    for members in alike.values():
        if len(members) < 2:
            continue
        for index in members:
            others = [coverages[other] for other in members if other != index]
            for qualifier in _qualifiers(
                headlines[index], coverages[index], others, concepts
            ):
                name = f"{texts[index]} ({concepts.table.names[qualifier]})"
                if name.casefold() not in used:
                    break
            else:
                name = _numbered(texts[index], used)
            names[index] = name
            used.add(name.casefold())
    return names


def _qualifiers(
    headline: int,
    coverage: Mapping[int, float],
    others: Sequence[Mapping[int, float]],
    concepts: Concepts,
) -> list[int]:
    """Return concepts that a cluster has and its namesakes have less, best first.

    Those below the headline come first, since "ungulate (rhinoceros)" reads
    better than "ungulate (mammoth grass)".
    """
    ranked = []
    text = concepts.table.names[headline].casefold() if headline >= 0 else ""
    above = concepts.ancestors(headline) if headline >= 0 else frozenset()
    for concept, share in sorted(coverage.items()):
        named_alike = concepts.table.names[concept].casefold() == text
        if concept in above or named_alike or not concepts.allows(concept):
            continue
        contrast = share - max(other.get(concept, 0.0) for other in others)
        if contrast > 0:
            below = headline in concepts.ancestors(concept)
            ranked.append((not below, -concepts.merit(concept, contrast), concept))
    return [concept for _, _, concept in sorted(ranked)]


def _numbered(text: str, used: set[str]) -> str:
    number = 1
    while f"{text} {number}".casefold() in used:
        number += 1
    return f"{text} {number}"
