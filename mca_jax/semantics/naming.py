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
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.semantics.vocabulary.categories import people_mask
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable

__all__ = ["ClusterName", "Concepts", "name_clusters", "weigh_evidence"]

# How much a noun loses to other clusters that use it. More would spoil the names
# of classes that are much alike, such as a cat's and a dog's.
_EXCLUSIVENESS = 0.25
# A user's dozen nouns count as part of this many: else the parent of three of them
# would look as general as "artifact".
_SMALL_VOCABULARY = 1000
# Mentions of a name beyond which it is as familiar as a name needs to be.
_FAMILIAR = 20
# A noun that outweighs the next one this much, and holds this share, is the name.
_DOMINANCE, _DOMINANT_SHARE = 2.0, 0.25


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


class Concepts:
    """What can be said of the nouns of a space and of all that is above them.

    A weight vector gives each of the space's nouns its share of the evidence for
    one cluster, float ``[m]``; a coverage gives concepts (rows of the table) the
    sum of the weights at or below them.
    """

    def __init__(
        self,
        table: NounTable,
        rows: np.ndarray,
        *,
        min_specificity: float,
        min_depth: int,
    ) -> None:
        """Keep the table, the rows of the space in it, and the limits of a headline."""
        self.table, self.rows = table, rows
        self.own = frozenset(rows.tolist())
        people = people_mask(table)
        # Nouns for people in the space show that the user asked for them.
        asked = bool(people[rows].any())
        self.barred = table.offensive if asked else table.offensive | people
        self.min_specificity, self.min_depth = min_specificity, min_depth
        self.ancestors = cache(self._ancestors)

    def _ancestors(self, row: int) -> frozenset[int]:
        """Return a noun and all above it."""
        found, stack = {row}, [row]
        while stack:
            here = stack.pop()
            start, stop = self.table.parent_starts[here : here + 2]
            new = set(self.table.parents[start:stop].tolist()) - found
            found |= new
            stack += new
        return frozenset(found)

    def cover(self, weight: np.ndarray, breadth: int) -> dict[int, float]:
        """Sum the weights of a cluster's best nouns below each concept.

        Returns:
          Share of the ``breadth`` best nouns' weight, in (0, 1], by the concept's row.
        """
        best = np.argsort(-weight, kind="stable")[:breadth]
        total = float(weight[best].sum())
        coverage: dict[int, float] = {}
        for noun in best.tolist():
            if weight[noun] > 0:
                for concept in self.ancestors(int(self.rows[noun])):
                    share = float(weight[noun]) / total
                    coverage[concept] = coverage.get(concept, 0.0) + share
        return coverage

    def specificity(self, concept: int) -> float:
        """Measure how much a concept says: ``1 - log(kinds) / log(M)``, in [0, 1]."""
        count = max(len(self.table.names), _SMALL_VOCABULARY)
        return 1.0 - float(np.log(self.table.kinds[concept]) / np.log(count))

    def familiarity(self, concept: int) -> float:
        """Measure how well known a name is: the root of ``1 + log(1 + mentions)``.

        Returns:
          At most 1, which a user's own noun always has; 0.5 without a mention.
        """
        if self.table.category[concept] == USER_CATEGORY:
            return 1.0
        mentions = min(int(self.table.familiarity[concept]), _FAMILIAR)
        return float(np.sqrt((1 + np.log1p(mentions)) / (1 + np.log1p(_FAMILIAR))))

    def allows(self, concept: int) -> bool:
        """Whether a concept is fit for a name, and specific enough."""
        if self.barred[concept] and concept not in self.own:
            return False
        own_noun = self.table.category[concept] == USER_CATEGORY
        deep = own_noun or self.table.depth[concept] >= self.min_depth
        return deep and self.specificity(concept) >= self.min_specificity

    def merit(self, concept: int, coverage: float) -> float:
        """Score a concept: coverage times specificity times familiarity, in [0, 1]."""
        return coverage * self.specificity(concept) * self.familiarity(concept)

    def choose(self, weight: np.ndarray, coverage: Mapping[int, float]) -> int:
        """Choose the headline: the noun that dominates, or the best concept.

        Returns:
          The headline's row, or -1 without evidence.
        """
        if not coverage:
            return -1
        (first, share), *rest = self.list_nouns(weight, 2)
        if share >= max(_DOMINANT_SHARE, _DOMINANCE * sum(s for _, s in rest)):
            sense = self.pick_sense(first, weight, coverage)
            # A breed that comes in two colours is named by the breed.
            near = [v for v in self.ancestors(sense) if self.specificity(v) >= 0.9]
            allowed = [concept for concept in sorted(near) if self.allows(concept)]
            return max(
                allowed,
                key=lambda v: self.merit(v, coverage.get(v, 0.0)),
                default=sense,
            )
        allowed = [concept for concept in sorted(coverage) if self.allows(concept)]
        return max(allowed, key=lambda v: self.merit(v, coverage[v]), default=first)

    def pick_sense(
        self, first: int, weight: np.ndarray, coverage: Mapping[int, float]
    ) -> int:
        """Choose among nouns that read the same by what else the cluster has.

        A gun and a piece of armour are both a "cannon", and an encoder of names
        can't tell them apart; the tumbrel and the mortar beside them can.

        Returns:
          Row of the sense of ``first`` whose ancestors hold most of the evidence.
        """
        text = self.table.names[first].casefold()
        senses = [
            row
            for row in self.rows[weight > 0].tolist()
            if self.table.names[row].casefold() == text
        ]
        return max(
            senses,
            key=lambda row: sum(
                self.merit(concept, coverage.get(concept, 0.0))
                for concept in self.ancestors(row)
            ),
        )

    def list_nouns(
        self, weight: np.ndarray, count: int
    ) -> tuple[tuple[int, float], ...]:
        """List ``(row, share)`` of the best nouns; those that read the same are one."""
        listed: dict[str, tuple[int, float]] = {}
        for noun in np.argsort(-weight, kind="stable").tolist():
            if weight[noun] <= 0:
                break
            row = int(self.rows[noun])
            text = self.table.names[row].casefold()
            if text in listed:
                first, share = listed[text]
                listed[text] = (first, share + float(weight[noun]))
            elif len(listed) < 4 * count:
                listed[text] = (row, float(weight[noun]))
        return tuple(sorted(listed.values(), key=lambda pair: -pair[1])[:count])

    def share_below(self, weight: np.ndarray, headline: int) -> float:
        """Share of nouns that are the headline, below it or read the same."""
        if headline < 0:
            return 0.0
        text = self.table.names[headline].casefold()
        agree = [
            headline in self.ancestors(row) or self.table.names[row].casefold() == text
            for row in self.rows[weight > 0].tolist()
        ]
        return float(min(weight[weight > 0][agree].sum(), 1.0))


def weigh_evidence(evidence: Any, text_assignments: Any) -> np.ndarray:
    """Turn attention into weights of nouns that tell clusters apart.

    Arguments are those of :func:`name_clusters`.

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
