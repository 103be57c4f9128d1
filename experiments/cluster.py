"""Cluster a folder of images into named groups.

python -m experiments.cluster --images=DIR --num_clusters=K --workdir=OUT
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import replace
from typing import Any

import numpy as np
from absl import app, flags

from experiments.flags import define_run_flags, read_config
from mca_jax.checks import InputError, check_one_of
from mca_jax.clustering import cluster, score_result
from mca_jax.config import config_to_dict
from mca_jax.data import find_images, folder_labels
from mca_jax.encoders import ENCODERS
from mca_jax.outputs import OUTPUT_FILES, write_outputs
from mca_jax.progress import Progress
from mca_jax.result import ClusterResult
from mca_jax.workdir import RunLog, prepare_workdir

__all__ = ["main"]

_UNITS = {"Embedding": "images", "Training": "passes"}


class _Terminal:
    """Shows progress on a terminal and writes the log."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._bar: Progress | None = None

    def start(self, stage: str, total: int | None) -> None:
        self.close()
        self._bar = Progress(stage, total, unit=_UNITS.get(stage, "parts"))

    def advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def log(self, event: str, values: dict[str, Any]) -> None:
        self._log.write(event, **values)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _check_flags(values: flags.FlagValues) -> None:
    for name in ("images", "workdir"):
        if not values[name].value:
            raise InputError(f"Expected --{name}, found nothing")
    if values.labels is not None:
        check_one_of("--labels", values.labels, ("folders",))


def _command(values: flags.FlagValues) -> str:
    """What to type again; the workdir is left open, it says nothing of the run."""
    parts = ["python -m experiments.cluster"]
    for name in ("images", "num_clusters", "encoder", "seed", "labels", "config"):
        if values[name].value is not None:
            parts.append(f"--{name}={shlex.quote(str(values[name].value))}")
    parts += [f"--set={shlex.quote(setting)}" for setting in values.set]
    return " ".join([*parts, "--workdir=OUT"])


def _score(result: ClusterResult) -> ClusterResult:
    labels, names = folder_labels(result.paths)
    return score_result(result, np.asarray(labels), names)


def _run(values: flags.FlagValues) -> None:
    _check_flags(values)
    config = read_config(values)
    if "/" not in config.encoder.name:
        check_one_of("encoder", config.encoder.name, ENCODERS)
    folder = find_images(values.images)
    if values.labels:
        folder_labels(folder.paths)
    settings = {**config_to_dict(config), "images": values.images}
    settings["labels"] = values.labels or ""
    prepare_workdir(
        values.workdir, settings, overwrite=values.overwrite, outputs=OUTPUT_FILES
    )
    with RunLog(values.workdir) as log:
        terminal = _Terminal(log)
        try:
            result = cluster(
                values.images,
                config=config,
                cache_dir=f"{values.workdir}/embeddings",
                baselines=bool(values.labels),
                listener=terminal,
            )
        finally:
            terminal.close()
        if values.labels:
            result = _score(result)
        # The folder of images is part of what the workdir belongs to.
        result = replace(result, config=settings)
        files = write_outputs(result, values.workdir, command=_command(values))
        log.write("end", status=result.status, metrics=result.metrics)
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"{len(result.paths)} images in {len(result.clusters)} clusters{skipped}")
    for name, scores in result.metrics.get("scores", {}).items():
        print(f"  {name}: " + ", ".join(f"{m} {v:.3f}" for m, v in scores.items()))
    print(f"Report: {files['report.html']}")


def main(argv: list[str]) -> int:
    """Run the job; bad input is one line and exit status 2.

    Args:
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    # jax tells at level INFO which accelerators it did not find.
    logging.getLogger("jax").setLevel(logging.WARNING)
    try:
        if len(argv) > 1:
            raise InputError(f"Unknown argument {argv[1]!r}; every flag starts with --")
        _run(flags.FLAGS)
    except (InputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        notes = getattr(error, "__notes__", None)
        kept = "; ".join(notes or ["embeddings so far are kept in the workdir"])
        print(f"\nInterrupted: {kept}; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    define_run_flags()
    app.run(main, flags_parser=_parse)
