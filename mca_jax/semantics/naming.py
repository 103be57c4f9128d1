r"""Names for groups of images, from the nouns that are seen on them.

A noun's weight :math:`w_{cj}` is its share of the group's evidence. The headline is
the concept :math:`v` of the hierarchy, a noun or anything above one, that holds much
of the evidence, still says something, and is a word that people use:

.. math::
    \arg\max_v \; \Big( \sum_{j \le v} w_{cj} \Big) \cdot
    \Big( 1 - \frac{\log \mathrm{kinds}(v)}{\log M} \Big)^{7/4} \cdot
    \mathrm{familiarity}(v) \cdot \mathrm{basic}(v).

So a noun that dominates stands for itself, and where the evidence is spread over
many antelopes the name is "antelope". Familiarity makes it "elephant", not
"proboscidean"; a word at the level that people use is in the names of its own kinds
("bass guitar", "sheepdog"), as "ungulate" and "vehicle" hardly are, and what is violent
or unpleasant comes last. Where even the best concept holds little more of the evidence
than of all the nouns, the group is called a guess. Everything here is small and runs on
the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.semantics.vocabulary.basic import (
    named_after,
    unpleasant_mask,
    vague_mask,
)
from mca_jax.semantics.vocabulary.categories import people_mask
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable

__all__ = [
    "ClusterName",
    "Concepts",
    "name_clusters",
    "name_nodes",
    "summarize_evidence",
    "weigh_evidence",
]

# How much a noun loses to other clusters that use it. More would spoil the names
# of classes that are much alike, such as a cat's and a dog's.
_EXCLUSIVENESS = 0.25
# A user's dozen nouns count as part of this many: else the parent of three of them
# would look as general as "artifact".
_SMALL_VOCABULARY = 1000
# Mentions of a name beyond which it is as familiar as a name needs to be.
_FAMILIAR = 100
# How much it counts that a word is in the names of its own kinds.
_BASIC_POWER = 0.08
# A noun that outweighs the next one this much, and holds this share, is the name.
_DOMINANCE, _DOMINANT_SHARE = 2.0, 0.4
# A concept with less of the evidence than this, of what its name says, is a guess. Six
# of seven sets would have chosen 0.044 to 0.053 for the seventh.
_GUESS = 0.05
# What a guess is likened to: concepts at least as specific.
_LIKENESS = 0.6
# Coverage that is rounding.
_LEAST_COVERAGE = 1e-3
# A concept that covers so much beyond chance is what a group has in common.
_COMMON = 0.6
# Nouns that a list is made of; coverage of any cluster that tells clusters apart.
_LISTED = 400
_LEAST_SUMMARY = 0.02
# Factor of a word that nobody likes to see.
_UNPLEASANT = 0.8
# How much what a concept says counts.
_SPECIFICITY_POWER = 1.75


class ClusterName(NamedTuple):
    """The name of one cluster and what speaks for it.

    Attributes:
      name: Printable, and different from the other clusters' names.
      nouns: ``(row of the table, share of the evidence)``, best first, one for
        each displayed name; shares in [0, 1].
      confidence: Share of the cluster's evidence on nouns that are the headline,
        are below it or read the same, in [0, 1]; 0 for a cluster without
        evidence.
      headline: Row of the noun that the name is made of, -1 if of none; of a guess,
        of the concept that would have been the name.
      guess: Whether the evidence is too thin for a name.
    """

    name: str
    nouns: tuple[tuple[int, float], ...]
    confidence: float
    headline: int
    guess: bool = False


def _hypernym_closure(table: NounTable, rows: np.ndarray) -> Any:
    """Mark each noun and all above it: 0 or 1, ``[m, M]``, columns ascending."""
    count = len(table.names)
    links = np.ones(len(table.parents)), table.parents, table.parent_starts
    parents = csr_array(links, shape=(count, count))
    own = np.ones(len(rows)), rows, np.arange(len(rows) + 1)
    # Any: for the type checker the product of two sparse arrays may be dense.
    here: Any = csr_array(own, shape=(len(rows), count))
    found = here
    while here.nnz:
        here = here @ parents
        found = found + here
    found.data[:] = 1.0
    found.sort_indices()
    return found


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
        self._vague = vague_mask(table)
        self.barred = self.barred | self._vague
        self.min_specificity, self.min_depth = min_specificity, min_depth
        self.ancestors = cache(self._ancestors)
        self._closure = _hypernym_closure(table, rows)
        concepts, shape = self._closure.indices, self._closure.shape
        # Share of the nouns at or below each concept: what chance covers.
        everything = max(len(rows), _SMALL_VOCABULARY)
        self._chance = np.bincount(concepts, minlength=shape[1]) / everything
        self._below = self._closure.tocsc()
        count = max(len(table.names), _SMALL_VOCABULARY)
        self._specificity = 1.0 - np.log(table.kinds) / np.log(count)
        self._allowed = self._find_allowed()
        self._texts = [table.names[row].casefold() for row in rows.tolist()]
        self._text_ids = np.unique(np.array(self._texts, object), return_inverse=True)[
            1
        ]

    @cached_property
    def _merit(self) -> np.ndarray:
        """Factor of the coverage in a concept's score; a summary needs none."""
        return self._specificity**_SPECIFICITY_POWER * self._worth_of_words()

    def _worth_of_words(self) -> np.ndarray:
        """Measure how fit each noun's name is for a headline, in (0, 1]."""
        table = self.table
        mentions = np.minimum(table.familiarity, _FAMILIAR)
        familiar = np.sqrt((1 + np.log1p(mentions)) / (1 + np.log1p(_FAMILIAR)))
        nouns, concepts = self._closure.nonzero()
        named, kinds = named_after(table, self.rows[nouns], concepts)
        # Half of none: a noun without kinds is no worse than one of which some are.
        basic = ((1 + named) / (2 + np.maximum(kinds, 1))) ** _BASIC_POWER
        worth = familiar * basic * np.where(unpleasant_mask(table), _UNPLEASANT, 1.0)
        return np.where(table.category == USER_CATEGORY, 1.0, worth)

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

    def cover(self, weight: np.ndarray) -> dict[int, float]:
        """Sum the weights of a cluster's nouns at or below each concept.

        Returns:
          Share of the weight, in (0, 1], by the concept's row.
        """
        total = float(weight.sum())
        if total <= 0:
            return {}
        shares = (weight / total) @ self._closure
        found = np.flatnonzero(shares >= min(_LEAST_COVERAGE, shares.max()))
        return dict(zip(found.tolist(), shares[found].tolist(), strict=True))

    def specificity(self, concept: int) -> float:
        """Measure how much a concept says: ``1 - log(kinds) / log(M)``, in [0, 1]."""
        return float(self._specificity[concept])

    def _find_allowed(self) -> np.ndarray:
        """Mark the concepts that are fit for a name, and specific enough."""
        table = self.table
        fit = ~self.barred
        fit[self.rows] = True
        deep = (table.category == USER_CATEGORY) | (table.depth >= self.min_depth)
        return fit & ~self._vague & deep & (self._specificity >= self.min_specificity)

    def allows(self, concept: int) -> bool:
        """Whether a concept is fit for a name, and specific enough."""
        return bool(self._allowed[concept])

    def merit(self, concept: int, coverage: float) -> float:
        """Score a concept: coverage, specificity and worth of its word, in [0, 1]."""
        return coverage * float(self._merit[concept])

    def rank(
        self, coverage: Mapping[int, float], least: float = 0.0
    ) -> list[tuple[int, float]]:
        """Rank the concepts that are allowed and at least so specific, by merit."""
        concepts = np.fromiter(coverage, np.int64, len(coverage))
        shares = np.fromiter(coverage.values(), np.float64, len(coverage))
        apt = self._allowed[concepts] & (self._specificity[concepts] >= least)
        concepts, merits = concepts[apt], (shares * self._merit[concepts])[apt]
        order = np.lexsort((concepts, -merits))
        return list(zip(concepts[order].tolist(), merits[order].tolist(), strict=True))

    def trust(self, weight: np.ndarray, concept: int) -> float:
        """Measure how much of the evidence a name has beyond what chance gives it.

        The one place that says so: a measure of how well nouns and images fit, where
        there is one, belongs here.

        Returns:
          In [0, 1]; a name below 0.05 is a guess.
        """
        if concept < 0:
            return 0.0
        beyond = self.beyond_chance(concept, self.share_below(weight, concept))
        return self.merit(concept, max(0.0, beyond))

    def beyond_chance(self, concept: int, coverage: float) -> float:
        """Measure how much more a concept covers than of all nouns, at most 1."""
        chance = min(float(self._chance[concept]), 0.5)
        return (coverage - chance) / (1.0 - chance)

    def find_common(self, coverage: Mapping[int, float]) -> int:
        """Find what a mixed group has in common: the best that covers it, or -1."""
        for concept, _ in self.rank(coverage):
            if self.beyond_chance(concept, coverage[concept]) >= _COMMON:
                return concept
        return -1

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
        ranked = self.rank(coverage)
        return self.plain_word(ranked[0][0]) if ranked else first

    def plain_word(self, concept: int) -> int:
        """Say "bird" where the hierarchy says "aquatic bird": the word it ends in.

        That is another concept above it, which is allowed and so says enough.
        """
        last = self.table.names[concept].casefold().rpartition(" ")
        above = [
            each
            for each in sorted(self.ancestors(concept))
            if last[1] and self.table.names[each].casefold() == last[2]
        ]
        return next(filter(self.allows, above), concept)

    def liken(self, weight: np.ndarray, coverage: Mapping[int, float]) -> list[int]:
        """Choose two things that a group without a name is like, best first."""
        ranked = [concept for concept, _ in self.rank(coverage, _LIKENESS)]
        ranked = ranked or [row for row, _ in self.list_nouns(weight, 2)]
        chosen: list[int] = []
        for concept in ranked:
            apart = all(
                concept not in self.ancestors(other)
                and other not in self.ancestors(concept)
                and self.table.names[concept] != self.table.names[other]
                for other in chosen
            )
            if apart:
                chosen.append(concept)
            if len(chosen) == 2:
                break
        return chosen

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
            # Not by merit: the better word is no sign of the sense that is meant.
            key=lambda row: sum(
                coverage.get(concept, 0.0) * self.specificity(concept)
                for concept in self.ancestors(row)
            ),
        )

    def list_nouns(
        self, weight: np.ndarray, count: int
    ) -> tuple[tuple[int, float], ...]:
        """List ``(row, share)`` of the best nouns; those that read the same are one."""
        listed: dict[str, tuple[int, float]] = {}
        for noun in np.argsort(-weight, kind="stable")[:_LISTED].tolist():
            if weight[noun] <= 0:
                break
            row, text = int(self.rows[noun]), self._texts[noun]
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
        start, stop = self._below.indptr[headline : headline + 2]
        agree = np.zeros(len(self.rows), bool)
        agree[self._below.indices[start:stop]] = True
        text = self.table.names[headline].casefold()
        if text in self._texts:
            agree |= self._text_ids == self._text_ids[self._texts.index(text)]
        return float(min(weight[agree].sum(), 1.0))

    def summarize(self, weights: np.ndarray) -> np.ndarray:
        """Lay out what clusters have in common: roots of what concepts cover.

        Two clusters of dogs are near, dogs and cats less, dogs and lamps far: what
        says more counts more.

        Args:
          weights: Of each cluster, ``[k, m]``.

        Returns:
          One row a cluster; squared distances add up over concepts.
        """
        coverage = np.asarray(weights @ self._closure)
        used = np.flatnonzero(coverage.max(axis=0) > _LEAST_SUMMARY)
        worth = np.maximum(self._specificity[used], 0.05)
        return np.sqrt(coverage[:, used] * worth[None])


def weigh_evidence(evidence: Any, text_assignments: Any = None) -> np.ndarray:
    r"""Turn evidence into weights of nouns, which tell clusters apart.

    Without text assignments a weight is the share of the evidence; with them it is
    less if other clusters use the noun too:

    .. math::
        p_{cj} = e_{cj} / \sum_{j'} e_{cj'}, \qquad
        s_{cj} = \tfrac12 \Big( p_{cj} / \sum_{c'} p_{c'j} + q_{jc} \Big), \qquad
        w_{cj} \propto p_{cj}\, s_{cj}^{1/4}.

    Arguments are those of :func:`name_clusters`.

    Returns:
      Weights that sum to 1 for each cluster, or to 0 for one without evidence,
      float64 ``[k, m]``.

    Raises:
      InputError: Shapes don't agree, or a value is negative or not finite.
    """
    evidence = np.asarray(evidence, np.float64)
    own = np.zeros_like(evidence.T) if text_assignments is None else text_assignments
    texts = np.asarray(own, np.float64).T
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
    if text_assignments is None:
        return shares
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
    min_specificity: float = 0.39,
    min_depth: int = 4,
    sizes: Sequence[int] | np.ndarray | None = None,
) -> list[ClusterName]:
    r"""Name every cluster, each differently.

    Args:
      evidence: For noun ``j`` from the images of cluster ``c``, at least 0, float
        ``[k, m]``: mean votes, or attention.
      text_assignments: Probability of cluster ``c`` given noun ``j``, ``[m, k]``;
        None takes the evidence as it is.
      table: All the nouns.
      rows: Rows of the ``m`` nouns of the semantic space in the table.
      num_nouns: Most nouns to list for a cluster, at least 1.
      min_specificity: Least ``1 - log(kinds) / log(M)`` of a headline, with
        ``M`` at least 1000, in [0, 1]: 0.39 bars WordNet's concepts with more than
        990 kinds: "bird" has 871.
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
    coverages = [concepts.cover(weight) for weight in weights]
    headlines = [
        concepts.choose(weight, coverage)
        for weight, coverage in zip(weights, coverages, strict=True)
    ]
    guesses = [
        headline >= 0 and concepts.trust(weight, headline) < _GUESS
        for weight, headline in zip(weights, headlines, strict=True)
    ]
    names = _distinct_names(headlines, coverages, concepts, sizes)
    for index, guess in enumerate(guesses):
        if guess:
            like = concepts.liken(weights[index], coverages[index])
            texts = ", ".join(table.names[row] for row in like)
            names[index] = f"group {index}: like {texts}"
    return [
        ClusterName(
            name=name,
            nouns=concepts.list_nouns(weight, num_nouns),
            confidence=concepts.share_below(weight, headline),
            headline=headline,
            guess=guess,
        )
        for name, weight, headline, guess in zip(
            names, weights, headlines, guesses, strict=True
        )
    ]


def summarize_evidence(
    evidence: Any, table: NounTable, rows: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Lay clusters out by what is seen in them; see :func:`Concepts.summarize`.

    Args:
      evidence: As for :func:`name_clusters`, ``[k, m]``.
      table: All the nouns.
      rows: Rows of the ``m`` nouns in the table.

    Returns:
      Points, float ``[k, q]``.
    """
    own = np.asarray(rows, np.int64)
    concepts = Concepts(table, own, min_specificity=0.0, min_depth=0)
    return concepts.summarize(weigh_evidence(evidence))


def name_nodes(
    evidence: Any,
    table: NounTable,
    rows: Sequence[int] | np.ndarray,
    *,
    given: Mapping[int, tuple[str, bool]],
    min_specificity: float = 0.15,
    min_depth: int = 4,
) -> list[tuple[str, bool]]:
    """Name every node of a tree, no two alike: animal, dog, terrier.

    Args:
      evidence: Of each node, at least 0, float ``[2 g - 1, m]``.
      table: All the nouns.
      rows: Rows of the ``m`` nouns in the table.
      given: Names that some nodes have, and whether each is a guess.
      min_specificity: As for :func:`name_clusters`; less, for what holds much is
        called by what is general.
      min_depth: Fewest steps from WordNet's root to a name.

    Returns:
      Name of each node, and whether it is a guess.
    """
    weights = weigh_evidence(evidence)
    concepts = Concepts(
        table,
        np.asarray(rows, np.int64),
        min_specificity=min_specificity,
        min_depth=min_depth,
    )
    coverages = [concepts.cover(weight) for weight in weights]
    names: list[tuple[str, bool]] = []
    used = {name.casefold() for name, _ in given.values()}
    for node, (weight, coverage) in enumerate(zip(weights, coverages, strict=True)):
        if node in given:
            names.append(given[node])
            continue
        headline = concepts.choose(weight, coverage)
        guess = headline < 0 or concepts.trust(weight, headline) < _GUESS
        # What half of a mixed group shows is no name for all of it.
        mixed = guess or coverage.get(headline, 0.0) < _COMMON
        if mixed and (common := concepts.find_common(coverage)) >= 0:
            headline, guess = common, False
        if node == 0:
            names.append(("everything", False))
            continue
        choices: list[str] = []
        if guess:
            like = concepts.liken(weight, coverage)
            text = "like " + ", ".join(table.names[row] for row in like)
        else:
            text = table.names[headline]
            if text.casefold() in used:
                sibling = coverages[node + 1 if node % 2 else node - 1]
                shares = _largest_shares([coverage, sibling])
                choices = [
                    _qualified(text, table.names[each])
                    for each in _qualifiers(headline, coverage, shares, concepts)
                ]
        free = (each for each in (text, *choices) if each.casefold() not in used)
        name = next(free, "") or _numbered(text, used)
        used.add(name.casefold())
        names.append((name, guess))
    return names


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
        shares = _largest_shares([coverages[index] for index in members])
        for index in members:
            for qualifier in _qualifiers(
                headlines[index], coverages[index], shares, concepts
            ):
                name = _qualified(texts[index], concepts.table.names[qualifier])
                if name.casefold() not in used:
                    break
            else:
                name = _numbered(texts[index], used)
            names[index] = name
            used.add(name.casefold())
    return names


def _qualified(text: str, qualifier: str) -> str:
    """Put a qualifier to a name: a sailing vessel is no "vessel (sailing vessel)"."""
    if qualifier.casefold().endswith(f" {text.casefold()}"):
        return qualifier
    return f"{text} ({qualifier})"


def _largest_shares(
    coverages: Sequence[Mapping[int, float]],
) -> dict[int, tuple[float, float]]:
    """Largest and second largest share of every concept among some clusters.

    Of a cluster's rivals the largest is the one of both that is not its own: hundreds
    of clusters that read the same are not compared in pairs.
    """
    largest: dict[int, tuple[float, float]] = {}
    for coverage in coverages:
        for concept, share in coverage.items():
            first, second = largest.get(concept, (0.0, 0.0))
            if share > first:
                largest[concept] = share, first
            elif share > second:
                largest[concept] = first, share
    return largest


def _qualifiers(
    headline: int,
    coverage: Mapping[int, float],
    shares: Mapping[int, tuple[float, float]],
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
        first, second = shares.get(concept, (0.0, 0.0))
        contrast = share - (second if share == first else first)
        if contrast > 0:
            below = headline in concepts.ancestors(concept)
            ranked.append((not below, -concepts.merit(concept, contrast), concept))
    return [concept for _, _, concept in sorted(ranked)]


def _numbered(text: str, used: set[str]) -> str:
    number = 1
    while f"{text} {number}".casefold() in used:
        number += 1
    return f"{text} {number}"
