"""Writes the files of a run: tables, JSON and the report."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from mca_jax.plain import dump_json, printable
from mca_jax.report import render_report
from mca_jax.result import Cluster, ClusterResult
from mca_jax.workdir import CONFIG_FILE, LOG_FILE, write_file

__all__ = ["OUTPUT_FILES", "write_outputs"]

OUTPUT_FILES = (
    "assignments.csv",
    "skipped.csv",
    "clusters.json",
    "metrics.json",
    "report.html",
    LOG_FILE,
)
"""Names of the files of a run beside its settings."""

_DIGITS = 6
# What a spreadsheet takes for the start of a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV in UTF-8 with a newline after each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _path_cell(path: str) -> str:
    """A path that names the same file and is no formula in a spreadsheet."""
    shown = printable(path)
    return f"./{shown}" if shown.startswith(_FORMULA_START) else shown


def _text_cell(text: str) -> str:
    """Text that is no formula in a spreadsheet, by the customary apostrophe."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA_START) else shown


def _assignments(result: ClusterResult) -> str:
    """Table of images, in the order of the rows."""
    names = [_text_cell(cluster.name) for cluster in result.clusters]
    return _table(
        ("path", "cluster", "confidence", "cluster_name"),
        (
            (_path_cell(path), cluster, f"{confidence:.{_DIGITS}f}", names[cluster])
            for path, cluster, confidence in zip(
                result.paths,
                result.assignments.tolist(),
                result.confidences.tolist(),
                strict=True,
            )
        ),
    )


def _skipped(result: ClusterResult) -> str:
    """Table of the files that could not be read."""
    return _table(
        ("path", "reason"),
        (
            (_path_cell(image.path), _text_cell(image.reason))
            for image in result.skipped
        ),
    )


def _cluster_entry(cluster: Cluster, paths: tuple[str, ...]) -> dict[str, Any]:
    """One cluster as JSON."""
    return {
        "index": cluster.index,
        "name": cluster.name,
        "size": cluster.size,
        "confidence": cluster.confidence,
        "nouns": [
            {
                "name": noun.name,
                "score": noun.score,
                "synset": noun.synset,
                "gloss": noun.gloss,
            }
            for noun in cluster.nouns
        ],
        "exemplars": [printable(paths[row]) for row in cluster.exemplars],
    }


def _clusters(result: ClusterResult) -> dict[str, Any]:
    """All clusters as JSON."""
    return {
        "num_images": len(result.paths),
        "num_clusters": len(result.clusters),
        "clusters": [
            _cluster_entry(cluster, result.paths) for cluster in result.clusters
        ],
    }


def _metrics(result: ClusterResult) -> dict[str, Any]:
    """Counts, scores and the audit as JSON."""
    confidences = result.confidences
    return {
        "summary": {
            "num_images": len(result.paths),
            "num_skipped": len(result.skipped),
            "num_clusters": len(result.clusters),
            "num_empty_clusters": sum(not each.size for each in result.clusters),
            "mean_confidence": float(confidences.mean()) if confidences.size else None,
            "status": result.status,
        },
        **result.metrics,
        "audit": result.audit,
        "warnings": result.warnings,
    }


def write_outputs(
    result: ClusterResult,
    workdir: str | os.PathLike[str],
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
) -> dict[str, Path]:
    """Write all files of a run except its log.

    None holds a time, so two runs with one seed give identical files. In
    ``assignments.csv`` a path that a spreadsheet would take for a formula
    starts with ``./``, which names the same file; a cluster name or a reason
    starts with an apostrophe then. Characters of a path that can't be printed,
    and bytes of it that aren't UTF-8, are backslash escapes, so that a line is
    an image.

    Args:
      result: What a run returned.
      workdir: Folder that exists, see ``prepare_workdir``.
      load_image: Returns the upright RGB picture of a row, for the report's
        thumbnails; None reads the files under ``result.root``. It may raise
        OSError or ValueError: the report shows a placeholder then.
      command: What to type to run it again, for the report and
        ``config.json``; leave the folder out, so that it doesn't tell two equal
        runs apart.

    Returns:
      Path of each file by its name, in the order of writing.

    Raises:
      InputError: A file can't be written; it is named, and those before it
        are whole.

    Example:
      >>> import tempfile
      >>> import mca_jax
      >>> import numpy as np
      >>> result = mca_jax.cluster(
      ...     image_embeddings=np.repeat(np.eye(4)[:2], 20, axis=0),
      ...     noun_embeddings=np.eye(4), nouns=["cat", "boat", "tree", "lamp"],
      ...     num_clusters=2)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     files = write_outputs(result, folder)
      >>> "report.html" in files
      True
    """
    folder = Path(workdir)
    config: dict[str, Any] = {
        "settings": result.config,
        "provenance": result.provenance,
    }
    if command is not None:
        config["command"] = command
    makers: dict[str, Callable[[], str]] = {
        # First: a folder without settings is nobody's.
        CONFIG_FILE: lambda: dump_json(config) + "\n",
        "assignments.csv": lambda: _assignments(result),
        "skipped.csv": lambda: _skipped(result),
        "clusters.json": lambda: dump_json(_clusters(result), digits=_DIGITS) + "\n",
        "metrics.json": lambda: dump_json(_metrics(result), digits=_DIGITS) + "\n",
        "report.html": lambda: render_report(
            result, load_image=load_image, command=command
        ),
    }
    for name, make in makers.items():
        write_file(folder / name, make())
    return {name: folder / name for name in makers}
