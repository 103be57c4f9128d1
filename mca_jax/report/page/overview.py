"""Sentences, tiles and charts that sum a run up for the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mca_jax.core.text import printable
from mca_jax.model.result import ClusterResult
from mca_jax.report.page.charts import bar_chart, short_number
from mca_jax.report.page.counts import count_context

__all__ = ["overview_context", "percent"]

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


def percent(value: float) -> str:
    """Write a share in percent, all and nothing only where that is true.

    Args:
      value: A share in [0, 1].

    Returns:
      Text such as ``"91%"``, ``">99%"`` or ``"<1%"``.
    """
    if 0.99 < value < 1:
        return ">99%"
    if 0 < value < 0.01:
        return "<1%"
    return f"{100 * value:.0f}%"


def _count(number: int, noun: str) -> str:
    """Write ``"1 image"`` or ``"2,124 images"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _encoder_text(provenance: Mapping[str, Any]) -> str:
    """Say in a sentence what the encoder knows."""
    encoder = provenance.get("encoder", {})
    if not isinstance(encoder, Mapping):
        encoder = {"name": encoder}
    name = printable(str(encoder.get("name", "of your own")))
    domain = encoder.get("domain") or provenance.get("domain")
    if not domain:
        return f"Encoder: {name}."
    return (
        f"Encoder: {name}, trained on {printable(str(domain))}. Where images are of "
        "another kind, take groups and names as a first guess."
    )


def _training_text(result: ClusterResult) -> str:
    """Say in a sentence how training ended."""
    if not result.history:
        return "Nothing was recorded of the training."
    epochs = _count(len(result.history), "epoch")
    return f"Training {_ENDINGS.get(result.status, 'ran for')} {epochs}."


def _notices(result: ClusterResult) -> list[str]:
    """What a reader should know before relying on the clusters."""
    notices = [printable(warning) for warning in result.warnings]
    if result.status in _FAILURES:
        notices.insert(0, _FAILURES[result.status])
    empty = sum(not cluster.size for cluster in result.clusters)
    if empty:
        notices.append(
            f"{empty} of {_count(len(result.clusters), 'cluster')} "
            f"{'is' if empty == 1 else 'are'} empty: fewer clusters may fit better."
        )
    return notices


def _tiles(result: ClusterResult) -> list[tuple[str, str, str]]:
    """The numbers at the top: name, value, remark."""
    empty = sum(not cluster.size for cluster in result.clusters)
    mean = float(result.confidences.mean()) if result.paths else 0.0
    tiles = [
        ("Images", f"{len(result.paths):,}", ""),
        ("Clusters", f"{len(result.clusters):,}", f"{empty} empty" if empty else ""),
        ("Mean confidence", percent(mean), ""),
    ]
    scores = result.metrics.get("scores") or {}
    own = scores.get("mca") or scores.get("ours") or {}
    if "acc" in own:
        # Of a named data set, often images that were not clustered.
        split = (result.metrics.get("data") or {}).get("scored_split", "")
        remark = f"on split {printable(split)}" if split else ""
        tiles.append(("Accuracy by labels", f"{100 * own['acc']:.1f}%", remark))
    tiles.append(("Skipped files", f"{len(result.skipped):,}", ""))
    return tiles


def _size_context(result: ClusterResult) -> dict[str, Any]:
    """Chart of the cluster sizes, largest first."""
    ordered = sorted(result.clusters, key=lambda each: (-each.size, each.index))
    sizes = [cluster.size for cluster in ordered]
    even = len(result.paths) / max(len(ordered), 1)
    chart = bar_chart(
        sizes,
        [f"{printable(each.name)}: {_count(each.size, 'image')}" for each in ordered],
        [f"cluster-{each.index}" for each in ordered],
        mark=even,
    )
    return {
        "size_chart": chart,
        "size_aside": f"even share {short_number(round(even, 1))}",
        "size_text": f"Sizes of {_count(len(sizes), 'cluster')}, from "
        f"{max(sizes):,} down to {_count(min(sizes), 'image')}, median "
        f"{short_number(float(np.median(sizes)))}",
    }


def _confidence_context(result: ClusterResult) -> dict[str, Any]:
    """Histogram of the images' confidence."""
    confidences = np.nan_to_num(result.confidences)
    counts, edges = np.histogram(confidences, _CONFIDENCE_BINS, (0.0, 1.0))
    chart = bar_chart(
        counts.tolist(),
        [
            f"{100 * low:.0f}–{100 * high:.0f}%: {_count(int(count), 'image')}"
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ],
    )
    low = int((confidences < 0.5).sum())
    return {
        "confidence_chart": chart,
        "confidence_aside": f"{_count(low, 'image')} below 50%",
        "confidence_text": f"Images by confidence: {low:,} of {len(confidences):,} are "
        "below 50 percent",
    }


def _skipped_context(result: ClusterResult) -> dict[str, Any]:
    """The first skipped files, and how many of each kind there are."""
    rows = [
        (printable(image.path), printable(image.reason))
        for image in result.skipped[:_MOST_SKIPPED]
    ]
    text = f"{_count(len(result.skipped), 'file')} could not be read and took no part."
    if len(result.skipped) > _MOST_SKIPPED:
        reasons = Counter(printable(image.reason) for image in result.skipped)
        (reason, times), *_ = reasons.most_common(1)
        text += (
            f" Here are the first {_MOST_SKIPPED}; skipped.csv lists all. The most "
            f"frequent reason, {times:,} times: {reason}"
        )
    return {"skipped": rows, "skipped_text": text}


def _contents(result: ClusterResult) -> list[tuple[str, str]]:
    """Sections of the page and their names."""
    return [
        ("overview", "Overview"),
        ("map", "Map"),
        ("clusters", "Clusters"),
        ("uncertain", "Uncertain images"),
        ("outliers", "Likely outliers"),
        ("duplicates", "Duplicates"),
        ("quality", "Quality"),
        ("training", "Training"),
        *([("nouns", "Nouns")] if result.audit else []),
        ("skipped", "Skipped files"),
        ("reproduce", "Do it again"),
    ]


def _title(result: ClusterResult) -> str:
    """Name the page by its clusters and the folder; no more of the path."""
    folder = printable(os.path.basename(os.path.normpath(result.root)))
    where = f" in {folder}" if result.root and folder not in ("", ".", "..") else ""
    return f"{_count(len(result.clusters), 'cluster')}{where}"


def overview_context(result: ClusterResult) -> dict[str, Any]:
    """Collect what the report says of the run as a whole.

    Args:
      result: What a run returned.

    Returns:
      Values by the names that the templates use.
    """
    return {
        "title": _title(result),
        "lede": f"{_training_text(result)} {_encoder_text(result.provenance)}",
        "training_text": _training_text(result),
        "tiles": _tiles(result),
        "notices": _notices(result),
        "contents": _contents(result),
        "count": count_context(result.metrics.get("cluster_count")),
        **_size_context(result),
        **_confidence_context(result),
        **_skipped_context(result),
    }
