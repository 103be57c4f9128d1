"""The variants of the sweep: each a name and what it changes in the settings."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from mca_jax.pipeline.config import LossConfig

__all__ = ["ALL_LEVELS", "LEVELS", "VARIANTS", "Variant"]

LEVELS = ("instance", "prototype", "semantic")
"""The levels of alignment, each with a weight of its own."""

ALL_LEVELS = "all"
"""The variant that the others are compared with: every level on."""


class Variant(NamedTuple):
    """One line of the sweep: settings as ``name=value``, and what it shows."""

    overrides: tuple[str, ...]
    about: str


def _levels(*on: str) -> tuple[str, ...]:
    """Weights that switch just these levels on."""
    defaults = LossConfig()
    # A level that is off by default is still tried here, at the plain weight.
    weights = {
        "instance": defaults.instance or 1.0,
        "prototype": defaults.prototype or 1.0,
        "semantic": defaults.semantic or 1.0,
    }
    return tuple(
        f"losses.{level}={weights[level] if level in on else 0.0}" for level in LEVELS
    )


def _ablations() -> dict[str, Variant]:
    """All levels, with one other piece of the method changed."""
    changes = {
        "no-attention": (
            ("heads.attention=false",),
            "all nouns of an image weigh the same and are trusted fully",
        ),
        "no-uniqueness": (
            ("semantics.min_uniqueness=0",),
            "nouns that are near every noun stay",
        ),
        "no-hierarchy": (
            ("semantics.drop_ancestors=false", "semantics.min_depth=0"),
            "general nouns stay, also above others that are kept",
        ),
        "wide-relevance": (
            ("semantics.nouns_per_center=5000",),
            "ten times as many nouns around each centre",
        ),
        "uniform-prior": (
            ("losses.prior=uniform",),
            "clusters are wanted of one size, whatever the set",
        ),
        "estimated-prior": (
            ("losses.prior=estimated",),
            "clusters are wanted of the sizes that merging finds, whatever the set",
        ),
        "no-smoothing": (
            ("retrieval.smoothing_steps=0",),
            "images are not moved towards their neighbours",
        ),
        "no-views": (
            ("encoder.views=0",),
            "principal axes, partly whitened, in place of those that ignore views",
        ),
        "no-whitening": (
            ("encoder.views=0", "encoder.whitening=0"),
            "principal axes that keep their variances",
        ),
        "images-first": (
            ("retrieval.text_weight=0",),
            "training begins with k-means of the images alone",
        ),
        "ten-restarts": (
            ("retrieval.kmeans_restarts=10",),
            "the best of ten restarts of k-means, not of fifty",
        ),
    }
    return {
        name: Variant((*_levels(*LEVELS), *overrides), about)
        for name, (overrides, about) in changes.items()
    }


def _table() -> dict[str, Variant]:
    """All variants, the ablation of the levels first."""
    # The choice of another start reads the nouns; this line is to be free of them.
    free = (*_levels(), "losses.prior=uniform")
    table = {"none": Variant(free, "consistency and balance alone, no text")}
    for count in (1, 2):
        for chosen in combinations(LEVELS, count):
            about = f"{' and '.join(chosen)} level, the others off"
            table["+".join(chosen)] = Variant(_levels(*chosen), about)
    table[ALL_LEVELS] = Variant(_levels(*LEVELS), "all three levels")
    return {**table, **_ablations()}


VARIANTS = _table()
"""Every variant by its name, in the order of the page."""
