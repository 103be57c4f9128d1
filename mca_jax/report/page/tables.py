"""Tables of the report: scores, quality, the audit of the nouns, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from mca_jax.core.text import dump_json, plain_json, printable
from mca_jax.report.page.charts import short_number

__all__ = [
    "AuditRow",
    "Quantity",
    "ScoreRow",
    "audit_rows",
    "baseline_rows",
    "flat_settings",
    "label_free_rows",
    "score_rows",
]

_METHODS = {
    "mca": "This run",
    "ours": "This run",
    "kmeans": "k-means in the space of this run",
    "k_means": "k-means on the same embeddings",
    "spherical_kmeans": "k-means on the same embeddings",
    "consistency": "Image consistency only",
    "consistency_only": "Image consistency only",
    "kmeans_text": "k-means on images with retrieved nouns",
    "kmeans_raw": "k-means on the encoder's embeddings",
    "kmeans_image_text": "k-means on images with retrieved nouns",
    "sic_style": "Pseudo-labels in the manner of SIC",
    "zero_shot": "Zero-shot with the true names",
}
_OWN_METHODS = frozenset({"mca", "ours"})
_EXPLAINED = {
    "consistency": "How far neighbouring images agree on their cluster; 1 is best.",
    "confidence": "Mean probability of an image's own cluster as it was trained, "
    "before it was brought to what neighbours agree on; 1 is best.",
    "prior_gain": "How much further clusters of estimated sizes keep images and their "
    "nouns apart than even ones.",
    "prior_estimated": "1 where clusters were wanted of estimated sizes, 0 of even "
    "ones.",
    "imbalance": "How unevenly images serve as neighbours of others; 0 is best.",
    "size_entropy": "How evenly the clusters are filled; 1 is even, which is not "
    "always right.",
    "rate_exponent": "Slope of the mean squared gradient over steps, log-log; -0.5 or "
    "less fits the convergence result.",
}


_FILTERS = {
    "unrelated": ("Not a thing", "Nothing that a camera would see."),
    "people": ("People", "Left out unless asked for."),
    "offensive": ("Offensive", "On the list of words that no picture should get."),
    "too_general": ("Too general", "Too high up in the hierarchy of nouns."),
    "not_unique": ("Not unique", "Close to every other noun, so it says nothing."),
    "not_relevant": ("Not relevant", "Far from all of these images."),
    "ancestor": ("Ancestor", "A more specific noun below it is there."),
}


class ScoreRow(NamedTuple):
    """Scores of one method.

    Attributes:
      method: What made the clusters.
      own: Whether it is this run.
      texts: ACC, NMI and ARI in percent as text, or a dash.
      best: For each of them, whether no other method is above it.
    """

    method: str
    own: bool
    texts: tuple[str, ...]
    best: tuple[bool, ...]


class Quantity(NamedTuple):
    """A number with its name.

    Attributes:
      name: What it is.
      value: The number as text.
      note: How to read it, or empty.
    """

    name: str
    value: str
    note: str


class AuditRow(NamedTuple):
    """What one filter of the semantic space did.

    Attributes:
      name: The filter; the last row is what was kept.
      note: What it is about, or empty.
      taken: Nouns that it took, or that were kept.
      left: Nouns that were left after it.
      share: ``taken`` over all nouns, in [0, 1].
      kept: Whether this is the last row.
    """

    name: str
    note: str
    taken: int
    left: int
    share: float
    kept: bool


def _words(name: str) -> str:
    """Turn ``"grad_norm"`` into ``"Grad norm"``."""
    text = name.replace("_", " ").replace(".", ": ").strip()
    return printable(text[:1].upper() + text[1:])


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values as ``("training.epochs", 30)``."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown_value(value: Any) -> str:
    """A value as text; of a path no more than its end, which tells no names."""
    if not isinstance(value, str):
        return dump_json(value, indent=None)
    path = PureWindowsPath(value) if "\\" in value else PurePosixPath(value)
    if len(path.parts) > 1 and (path.is_absolute() or value.startswith("~")):
        return f"…/{path.name}"
    return value


def flat_settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List nested settings by their dotted names.

    Args:
      settings: Plain JSON.

    Returns:
      Pairs of name and value as printable text, in the order given; of an
      absolute path only the last part.
    """
    return [
        (printable(name), printable(_shown_value(value)))
        for name, value in _leaves(settings)
    ]


def score_rows(scores: Mapping[str, Mapping[str, float]]) -> list[ScoreRow]:
    """Lay out the scores of each method beside those of this run.

    Args:
      scores: By method, ``acc``, ``nmi`` and ``ari`` in [0, 1].

    Returns:
      This run first, then the others in the order given.
    """
    names = ("acc", "nmi", "ari")
    table: dict[str, list[Any]] = {
        method: [plain_json(values[name]) if name in values else None for name in names]
        for method, values in scores.items()
    }
    best = [
        max([row[i] for row in table.values() if row[i] is not None], default=None)
        for i in range(len(names))
    ]
    rows = [
        ScoreRow(
            method=_METHODS.get(method) or _words(method),
            own=method in _OWN_METHODS,
            texts=tuple("–" if x is None else f"{100 * x:.1f}" for x in values),
            best=tuple(
                x is not None and x == top for x, top in zip(values, best, strict=True)
            ),
        )
        for method, values in table.items()
    ]
    return sorted(rows, key=lambda row: not row.own)


_COMPARED = (
    ("nmi_to_run", "share"),
    ("ari_to_run", "share"),
    ("neighbor_agreement", "share"),
    ("compactness", "share"),
    ("size_entropy", "share"),
    ("empty_clusters", "count"),
)


def baseline_rows(table: Mapping[str, Mapping[str, Any]]) -> list[ScoreRow]:
    """Lay out how simpler methods compare with the run, without labels.

    Args:
      table: By method, quantities by name; see ``compare_baselines``.

    Returns:
      This run first. Nothing is marked as best: none of these numbers says which
      clusters are right.
    """
    rows = []
    for method, values in table.items():
        texts = []
        for name, kind in _COMPARED:
            value = plain_json(values.get(name))
            if value is None:
                texts.append("–")
            else:
                texts.append(f"{value:.0f}" if kind == "count" else f"{value:.3f}")
        rows.append(
            ScoreRow(
                method=_METHODS.get(method) or _words(method),
                own=method in _OWN_METHODS,
                texts=tuple(texts),
                best=(False,) * len(texts),
            )
        )
    return sorted(rows, key=lambda row: not row.own)


def label_free_rows(quantities: Mapping[str, Any]) -> list[Quantity]:
    """List what was measured without labels.

    Args:
      quantities: Numbers, possibly nested; what is no number is left out.

    Returns:
      One entry a number, in the order given.
    """
    rows = []
    for name, value in _leaves(quantities):
        number = plain_json(value)
        if number is None:
            number = float("nan")
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        note = _EXPLAINED.get(name.rpartition(".")[2], "")
        rows.append(Quantity(_words(name), short_number(number), note))
    return rows


def audit_rows(audit: Mapping[str, int]) -> list[AuditRow]:
    """Follow the nouns through the filters.

    Args:
      audit: Nouns that each filter took, in order, ending in ``kept``.

    Returns:
      One row a filter; ``left`` falls to the number kept.
    """
    total = sum(audit.values())
    left, rows = total, []
    for name, taken in audit.items():
        kept = name == "kept"
        left -= 0 if kept else taken
        title, note = _FILTERS.get(name, (_words(name), ""))
        rows.append(
            AuditRow(
                name=title,
                note=note,
                taken=taken,
                left=left,
                share=taken / max(total, 1),
                kept=kept,
            )
        )
    return rows
