"""Tells what runs and exports wrote from the images of a folder around it."""

from __future__ import annotations

import os
from collections.abc import Collection

from mca_jax.core.text import load_json

__all__ = [
    "EXPORT_MARK",
    "LEFT_OUT_REASONS",
    "RUN_FILES",
    "left_out_reason",
    "own_entries",
]

EXPORT_MARK = ".mca_jax-export"
"""Name of the empty file in a folder of exported links or copies."""

RUN_FILES = frozenset(
    {
        *("assignments.csv", "skipped.csv", "outliers.csv", "duplicates.csv"),
        *("baselines.csv", "update.csv", "clusters.json", "metrics.json"),
        *("report.html", "log.jsonl", "config.json", "model.json", "result.json"),
        *("model.safetensors", "result.safetensors"),
        *("report_files", "embeddings", "checkpoints"),
    }
)
"""Names of all files and folders that a run or a prediction writes."""

LEFT_OUT_REASONS = (
    "files of a run of mca_jax, left out",
    "an export of mca_jax, left out",
)
"""What is said of a run's own files, and of an export."""

_CONFIG = "config.json"
# Settings of a run have these, those of a prediction those.
_KNOWN = ({"num_clusters", "encoder"}, {"model", "outlier_quantile"})


def own_entries(folder: str, names: Collection[str]) -> frozenset[str]:
    """Pick what is ours among the entries of a folder.

    Args:
      folder: The folder.
      names: Names of all that is in it.

    Returns:
      All names of an export; those that a run wrote into its workdir, and not what
      else is there; none elsewhere.
    """
    if EXPORT_MARK in names:
        return frozenset(names)
    if _CONFIG in names and _is_settings(os.path.join(folder, _CONFIG)):
        return RUN_FILES.intersection(names)
    return frozenset()


def _is_settings(path: str) -> bool:
    """Whether a file holds the settings of a run."""
    try:
        with open(path, "rb") as file:
            settings = load_json(file.read())["settings"]
        return any(settings.keys() >= known for known in _KNOWN)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def left_out_reason(names: Collection[str]) -> str:
    """Say why what is ours among the entries of a folder is left out."""
    return LEFT_OUT_REASONS[EXPORT_MARK in names]
