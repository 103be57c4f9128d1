"""Nouns, and the semantic space that they form for a set of images."""

from __future__ import annotations

from mca_jax.semantics.audit import AuditEntry, Filter, SpaceAudit
from mca_jax.semantics.space import SemanticSpace, build_semantic_space
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable
from mca_jax.semantics.vocabulary.sources import load_nouns, name_synsets

__all__ = [
    "USER_CATEGORY",
    "AuditEntry",
    "Filter",
    "NounTable",
    "SemanticSpace",
    "SpaceAudit",
    "build_semantic_space",
    "load_nouns",
    "name_synsets",
]
