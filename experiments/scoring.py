"""Scores finished runs: against folders' names, or a named data set's labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from experiments.inputs import RunInput
from experiments.terminal import Terminal
from mca_jax.encoders.embed_images import embed_images
from mca_jax.evaluation.runs import score_held_out, score_result
from mca_jax.model.predict import load_encoder
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.config import config_from_dict

__all__ = ["baseline_lines", "score_run"]

_COLUMNS = {
    "nmi_to_run": "NMI to run",
    "ari_to_run": "ARI to run",
    "neighbor_agreement": "neighbours agree",
    "compactness": "compactness",
    "size_entropy": "evenness",
    "empty_clusters": "empty",
}


def _score_held_out(
    result: ClusterResult,
    given: RunInput,
    cache_dir: str | os.PathLike[str],
    terminal: Terminal,
) -> ClusterResult:
    """Embed what was held out, and score it."""
    assert given.held_out is not None
    assert given.read_held_out is not None
    settings = config_from_dict(result.model.config).encoder
    terminal.start("Embedding", len(given.held_out.names))
    embedded = embed_images(
        load_encoder(result.model),
        given.held_out,
        batch_size=settings.batch_size,
        cache_dir=cache_dir,
        dtype=settings.store_dtype,
        threads=settings.threads or None,
        progress=terminal.advance,
    )
    terminal.close()
    labels, names = given.read_held_out(embedded.paths)
    if embedded.skipped:
        first = embedded.skipped[0]
        warning = (
            f"{len(embedded.skipped)} images to score could not be read and don't "
            f"count; the first, {first.path}: {first.reason}."
        )
        result = replace(result, warnings=(*result.warnings, warning))
    return score_held_out(result, embedded.embeddings, labels, names)


def score_run(
    result: ClusterResult,
    given: RunInput,
    *,
    cache_dir: str | os.PathLike[str],
    terminal: Terminal,
) -> ClusterResult:
    """Read the labels and score a finished run.

    Args:
      result: The run.
      given: What it was made from.
      cache_dir: Embeddings of images, for those that were held out.
      terminal: Shows progress.

    Returns:
      The same with scores among its metrics.

    Raises:
      InputError: Labels or images can't be read.
    """
    if given.read_labels is not None:
        result = score_result(result, *given.read_labels(result.paths))
    if given.held_out is not None:
        result = _score_held_out(result, given, cache_dir, terminal)
    return result


def baseline_lines(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lay out how a run and simpler methods compare without labels.

    Args:
      table: From ``compare_baselines``; may be empty.

    Returns:
      Lines for a terminal, none without baselines.
    """
    if not table:
        return []

    def cell(values: Mapping[str, float], name: str) -> str:
        if name not in values:
            return "-"
        return f"{values[name]:.{0 if name == 'empty_clusters' else 3}f}"

    rows = [["", *_COLUMNS.values()]]
    rows += [
        ["this run" if name == "mca" else name, *(cell(values, c) for c in _COLUMNS)]
        for name, values in table.items()
    ]
    first, *rest = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "Without labels, beside simpler methods on the same embeddings:",
        *(
            "  ".join(
                [
                    f"  {row[0]:<{first}}",
                    *(f"{x:>{w}}" for x, w in zip(row[1:], rest, strict=True)),
                ]
            )
            for row in rows
        ),
    ]
