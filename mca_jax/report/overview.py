"""What the report says of the run as a whole: sentences, charts and tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.text import dump_json, plain_json
from mca_jax.data import describe_unread
from mca_jax.model.result import ClusterResult
from mca_jax.report.charts import (
    bar_chart,
    count_chart,
    history_charts,
    short_number,
)

__all__ = [
    "audit_rows",
    "baseline_rows",
    "counted",
    "flat_settings",
    "label_free_rows",
    "overview_context",
    "percent",
    "score_rows",
]

_MOST_SKIPPED = 200
_CONFIDENCE_BINS = 20

_ENDINGS = {
    "converged": "converged after",
    "step_limit": "used all of its",
    "diverged": "diverged after",
    "non_finite": "stopped at a value that is not finite after",
    "best_checkpoint": "is shown as its best checkpoint has it, after",
}
_FAILURES = {
    "diverged": "Training diverged: the loss rose and the clusters may be no better "
    "than chance. Another seed or a lower learning rate usually helps.",
    "non_finite": "Training met a value that is not finite and stopped: the clusters "
    "are those of the last valid epoch at best.",
}
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
_SCORES = ("acc", "nmi", "ari")
_COMPARED = (
    *("nmi_to_run", "ari_to_run", "neighbor_agreement", "compactness"),
    *("size_entropy", "empty_clusters"),
)
_EXPLAINED = {
    "consistency": "How far neighbouring images agree on their cluster; 1 is best.",
    "confidence": "Mean probability of an image's own cluster as it was trained, "
    "before it was brought to what neighbours agree on; 1 is best.",
    "merged_evenness": "How even the sizes of clusters are that were merged of finer "
    "ones; below 0.88 classes count as uneven.",
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
    "not_photographed": ("Not photographed", "Hardly a picture of it is known."),
    "too_general": ("Too general", "Too high up in the hierarchy of nouns."),
    "not_unique": ("Not unique", "Close to every other noun, so it says nothing."),
    "not_relevant": ("Not relevant", "Far from all of these images."),
    "ancestor": ("Ancestor", "A more specific noun below it is there."),
}


class ScoreRow(NamedTuple):
    """Scores of one method as text, and whether it is this run.

    ``best`` says of each score whether no other method is above it.
    """

    method: str
    own: bool
    texts: tuple[str, ...]
    best: tuple[bool, ...]


class Quantity(NamedTuple):
    """A number with its name, and how to read it."""

    name: str
    value: str
    note: str


class AuditRow(NamedTuple):
    """What one filter of the semantic space took, left, and its share in [0, 1].

    The last row is what was ``kept``.
    """

    name: str
    note: str
    taken: int
    left: int
    share: float
    kept: bool


def percent(value: float) -> str:
    """Write a fraction in percent, all and nothing only where that is true.

    Example:
      >>> percent(0.914), percent(0.999), percent(0.001)
      ('91%', '>99%', '<1%')
    """
    if 0.99 < value < 1:
        return ">99%"
    if 0 < value < 0.01:
        return "<1%"
    return f"{100 * value:.0f}%"


def counted(number: int, noun: str) -> str:
    """Write ``"1 image"`` or ``"2,124 images"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _words(name: str) -> str:
    """Turn ``"grad_norm"`` into ``"Grad norm"``."""
    text = name.replace("_", " ").replace(".", ": ").strip()
    return text[:1].upper() + text[1:]


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
    """List nested settings by their dotted names; of absolute paths only the end."""
    return [(name, _shown_value(value)) for name, value in _leaves(settings)]


def _score_row(
    method: str, texts: tuple[str, ...], best: tuple[bool, ...] | None = None
) -> ScoreRow:
    name = _METHODS.get(method) or _words(method)
    return ScoreRow(name, method in _OWN_METHODS, texts, best or (False,) * len(texts))


def score_rows(scores: Mapping[str, Mapping[str, float]]) -> list[ScoreRow]:
    """Lay out ACC, NMI and ARI in percent of each method, this run first.

    Args:
      scores: By method, ``acc``, ``nmi`` and ``ari`` in [0, 1].
    """
    table = {
        method: [plain_json(values.get(name)) for name in _SCORES]
        for method, values in scores.items()
    }
    tops = [
        max((value for value in column if value is not None), default=None)
        for column in zip(*table.values(), strict=True)
    ]
    rows = [
        _score_row(
            method,
            tuple("–" if x is None else f"{100 * x:.1f}" for x in values),
            tuple(
                x is not None and x == top for x, top in zip(values, tops, strict=True)
            ),
        )
        for method, values in table.items()
    ]
    return sorted(rows, key=lambda row: not row.own)


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
        for name in _COMPARED:
            value = plain_json(values.get(name))
            form = ".0f" if name == "empty_clusters" else ".3f"
            texts.append("–" if value is None else format(value, form))
        rows.append(_score_row(method, tuple(texts)))
    return sorted(rows, key=lambda row: not row.own)


def label_free_rows(quantities: Mapping[str, Any]) -> list[Quantity]:
    """List what was measured without labels; what is no number is left out."""
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
    """Follow the nouns through the filters, one row each; the last is ``kept``."""
    total = sum(audit.values())
    left, rows = total, []
    for name, taken in audit.items():
        kept = name == "kept"
        left -= 0 if kept else taken
        title, note = _FILTERS.get(name, (_words(name), ""))
        rows.append(AuditRow(title, note, taken, left, taken / max(total, 1), kept))
    return rows


def _notices(result: ClusterResult, num_empty: int) -> list[str]:
    """What a reader should know before relying on the clusters."""
    notices = list(result.warnings)
    if result.status in _FAILURES:
        notices.insert(0, _FAILURES[result.status])
    if num_empty:
        notices.append(
            f"{num_empty} of {counted(len(result.clusters), 'cluster')} "
            f"{'is' if num_empty == 1 else 'are'} empty: fewer clusters may fit better."
        )
    return notices


def _size_context(result: ClusterResult) -> dict[str, Any]:
    """Chart of the cluster sizes, largest first."""
    ordered = sorted(result.clusters, key=lambda each: (-each.size, each.index))
    sizes = [cluster.size for cluster in ordered]
    even = len(result.paths) / max(len(ordered), 1)
    return {
        "size_chart": bar_chart(
            sizes,
            [f"{each.name}: {counted(each.size, 'image')}" for each in ordered],
            [f"cluster-{each.index}" for each in ordered],
            mark=even,
        ),
        "size_aside": f"even share {short_number(round(even, 1))}",
        "size_text": f"Sizes of {counted(len(sizes), 'cluster')}, from "
        f"{max(sizes):,} down to {counted(min(sizes), 'image')}, median "
        f"{short_number(float(np.median(sizes)))}",
    }


def _confidence_context(result: ClusterResult) -> dict[str, Any]:
    """Histogram of the images' confidence."""
    confidences = np.nan_to_num(result.confidences)
    counts, edges = np.histogram(confidences, _CONFIDENCE_BINS, (0.0, 1.0))
    low = int((confidences < 0.5).sum())
    return {
        "confidence_chart": bar_chart(
            counts.tolist(),
            [
                f"{100 * low:.0f}–{100 * high:.0f}%: {counted(int(count), 'image')}"
                for low, high, count in zip(edges, edges[1:], counts, strict=False)
            ],
        ),
        "confidence_aside": f"{counted(low, 'image')} below 50%",
        "confidence_text": f"Images by confidence: {low:,} of {len(confidences):,} are "
        "below 50 percent",
    }


def _skipped_context(result: ClusterResult) -> dict[str, Any]:
    """The first skipped files, and how many of each kind there are."""
    unread = [image for image in result.skipped if image.kind != "left_out"]
    # Images before all else.
    unread.sort(key=lambda image: image.kind != "unreadable")
    said = describe_unread(result.skipped)
    text = f"{said}." if said else "Every file was read."
    if len(unread) > _MOST_SKIPPED:
        text += f" Here are the first {_MOST_SKIPPED}; skipped.csv lists all."
    return {
        "skipped": unread[:_MOST_SKIPPED],
        "num_skipped": len(unread),
        "skipped_text": text,
    }


def overview_context(result: ClusterResult) -> dict[str, Any]:
    """Collect what the report says of the run as a whole, for the templates."""
    metrics, clusters = result.metrics, result.clusters
    num_empty = sum(not cluster.size for cluster in clusters)
    scores = metrics.get("scores") or {}
    encoder = result.provenance.get("encoder", {})
    if not isinstance(encoder, Mapping):
        encoder = {"name": encoder}
    training_text = "Nothing was recorded of the training."
    if result.history:
        ending = _ENDINGS.get(result.status, "ran for")
        training_text = f"Training {ending} {counted(len(result.history), 'epoch')}."
    return {
        # No more than the last part of the path.
        "folder": os.path.basename(os.path.normpath(result.root))
        if result.root
        else "",
        "training_text": training_text,
        "encoder_name": str(encoder.get("name", "of your own")),
        "domain": encoder.get("domain") or result.provenance.get("domain"),
        "num_images": len(result.paths),
        "num_clusters": len(clusters),
        "num_empty": num_empty,
        "mean_confidence": float(result.confidences.mean()) if result.paths else 0.0,
        "accuracy": (scores.get("mca") or scores.get("ours") or {}).get("acc"),
        # Of a named data set, often images that were not clustered.
        "scored_split": (metrics.get("data") or {}).get("scored_split", ""),
        "notices": _notices(result, num_empty),
        "scores": score_rows(scores),
        "baselines": baseline_rows(metrics.get("baselines") or {}),
        "label_free": label_free_rows(metrics.get("label_free") or {}),
        "history": history_charts(result.history),
        "audit": audit_rows(result.audit),
        "audit_total": sum(result.audit.values()),
        "audit_kept": result.audit.get("kept", 0),
        "settings": flat_settings(result.config),
        "provenance": flat_settings(result.provenance),
        "count": count_chart(metrics.get("cluster_count")),
        **_size_context(result),
        **_confidence_context(result),
        **_skipped_context(result),
    }
