"""The audit of a semantic space: which filter took each noun, why one stayed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mca_jax.semantics.vocabulary.nouns import NounTable

__all__ = ["AuditEntry", "Filter", "SpaceAudit"]


class Filter(enum.IntEnum):
    """What happened to a noun, in the order in which the filters run."""

    KEPT = 0
    UNRELATED = 1
    PEOPLE = 2
    OFFENSIVE = 3
    NOT_PHOTOGRAPHED = 4
    TOO_GENERAL = 5
    NOT_UNIQUE = 6
    NOT_RELEVANT = 7
    ANCESTOR = 8


class AuditEntry(NamedTuple):
    """One noun of the audit, as a line of a file.

    Attributes:
      name: The noun.
      synset: Its WordNet id, or empty.
      filter: Name of the filter that took it, or ``"kept"``.
      center: Nearest centre of the images.
      cosine: Cosine with that centre, in [-1, 1].
    """

    name: str
    synset: str
    filter: str
    center: int
    cosine: float


class SpaceAudit(NamedTuple):
    """Why each noun stayed or went.

    Attributes:
      codes: ``Filter`` of each noun of the table, int8 ``[M]``.
      center: Nearest centre of the images to each noun, int32 ``[M]``.
      cosine: Cosine with that centre, float32 ``[M]``.
    """

    codes: np.ndarray
    center: np.ndarray
    cosine: np.ndarray

    def counts(self) -> dict[str, int]:
        """Count the nouns that each filter took, in order, ``"kept"`` last."""
        tally = np.bincount(self.codes, minlength=len(Filter))
        taken = [code for code in Filter if code is not Filter.KEPT]
        return {code.name.lower(): int(tally[code]) for code in (*taken, Filter.KEPT)}

    def entries(self, table: NounTable) -> Iterator[AuditEntry]:
        """Go through all nouns of the table, the kept ones first, nearest first."""
        labels = {int(code): code.name.lower() for code in Filter}
        for row in np.lexsort((-self.cosine, self.codes)).tolist():
            yield AuditEntry(
                table.names[row],
                table.synsets[row],
                labels[int(self.codes[row])],
                int(self.center[row]),
                float(self.cosine[row]),
            )
