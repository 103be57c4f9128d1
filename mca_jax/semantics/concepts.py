"""What stands above the nouns of a space, and what would make a good name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from mca_jax.semantics.vocabulary.categories import people_mask
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable

__all__ = ["Concepts"]

# A user's dozen nouns count as part of this many: else the parent of three of them
# would look as general as "artifact".
_SMALL_VOCABULARY = 1000
# Mentions of a name beyond which it is as familiar as a name needs to be.
_FAMILIAR = 20
# A noun that outweighs the next one this much, and holds this share, is the name.
_DOMINANCE, _DOMINANT_SHARE = 2.0, 0.25


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
        """Keep the table and the limits.

        Args:
          table: All the nouns.
          rows: Rows of the ``m`` nouns of the space, int ``[m]``.
          min_specificity: Least specificity of a headline, in [0, 1].
          min_depth: Fewest steps from WordNet's root to a headline.
        """
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

        Args:
          weight: Weights of the cluster, float ``[m]``.
          breadth: How many of the best nouns to use, at least 1.

        Returns:
          Share of those nouns' weight, in (0, 1], by the concept's row.
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
        """Measure how much a concept says: ``1 - log(kinds) / log(M)``.

        Args:
          concept: Its row.

        Returns:
          1 for a concept without kinds, 0 for one above all of WordNet.
        """
        count = max(len(self.table.names), _SMALL_VOCABULARY)
        return 1.0 - float(np.log(self.table.kinds[concept]) / np.log(count))

    def familiarity(self, concept: int) -> float:
        """Measure how well known a name is: the root of ``1 + log(1 + mentions)``.

        Args:
          concept: Its row.

        Returns:
          At most 1, which a user's own noun always has; 0.5 without a mention.
        """
        if self.table.category[concept] == USER_CATEGORY:
            return 1.0
        mentions = min(int(self.table.familiarity[concept]), _FAMILIAR)
        return float(np.sqrt((1 + np.log1p(mentions)) / (1 + np.log1p(_FAMILIAR))))

    def allows(self, concept: int) -> bool:
        """Tell whether a concept may be a name.

        Args:
          concept: Its row.

        Returns:
          False if it is unfit, or too general to say anything.
        """
        if self.barred[concept] and concept not in self.own:
            return False
        own_noun = self.table.category[concept] == USER_CATEGORY
        deep = own_noun or self.table.depth[concept] >= self.min_depth
        return deep and self.specificity(concept) >= self.min_specificity

    def merit(self, concept: int, coverage: float) -> float:
        """Score a concept as a name.

        Args:
          concept: Its row.
          coverage: Share of the evidence at or below it, in [0, 1].

        Returns:
          Coverage times specificity times familiarity, in [0, 1].
        """
        return coverage * self.specificity(concept) * self.familiarity(concept)

    def choose(self, weight: np.ndarray, coverage: Mapping[int, float]) -> int:
        """Choose the headline: the noun that dominates, or the best concept.

        Args:
          weight: Weights of the cluster, float ``[m]``.
          coverage: What ``cover`` returns for them.

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
        puts them in one place; the tumbrel and the mortar beside them tell.

        Args:
          first: Row of one of the nouns.
          weight: Weights of the cluster, float ``[m]``.
          coverage: What ``cover`` returns for them.

        Returns:
          Row of the sense whose ancestors hold most of the evidence.
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
        """List the best nouns; those that read the same are counted as one.

        Args:
          weight: Weights of the cluster, float ``[m]``.
          count: Most nouns to list, at least 1.

        Returns:
          ``(row, share)`` of each, best first.
        """
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
        """Sum the evidence that agrees with a headline.

        Args:
          weight: Weights of the cluster, float ``[m]``.
          headline: Its row, or -1.

        Returns:
          Share of nouns that are the headline, are below it or read the same, in
          [0, 1].
        """
        if headline < 0:
            return 0.0
        text = self.table.names[headline].casefold()
        agree = [
            headline in self.ancestors(row) or self.table.names[row].casefold() == text
            for row in self.rows[weight > 0].tolist()
        ]
        return float(min(weight[weight > 0][agree].sum(), 1.0))
