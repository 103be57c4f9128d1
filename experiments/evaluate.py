"""Score a finished run against labels that are the names of sub-folders.

python -m experiments.evaluate --checkpoint=OUT --labels=folders

scores the images of the run and adds the scores to its files. Other images are
placed among its clusters first, and their scores are written to another folder:

python -m experiments.evaluate --checkpoint=OUT --images=NEW --labels=folders \
    --workdir=DIR
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.flags import check_apart, define_checkpoint_flags, define_run_flags
from experiments.inputs import reopen_input
from experiments.jobs import (
    CACHE_FOLDER,
    check_given,
    print_result,
    print_scores,
    score_by_folders,
)
from experiments.scoring import score_run
from experiments.terminal import Terminal, parse_flags, run_job
from mca_jax.core.atomic_files import write_file
from mca_jax.core.errors import InputError
from mca_jax.core.text import dump_json
from mca_jax.data import find_images, folder_labels
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.model.files import model_digest, read_result
from mca_jax.model.predict import Predictor, load
from mca_jax.report import PICTURE_FOLDER
from mca_jax.report.workdir import CONFIG_FILE, prepare_workdir
from mca_jax.report.write import PREDICTION_FILES, write_outputs, write_predictions

__all__ = ["main"]

_SCORES = "metrics.json"


def _stored_command(checkpoint: Path) -> str | None:
    """The command that the run's report shows."""
    try:
        return json.loads((checkpoint / CONFIG_FILE).read_bytes()).get("command")
    except (OSError, ValueError, AttributeError):
        return None


def _score_run(checkpoint: Path, labels: str | None, data_dir: str | None) -> None:
    """Score a run, and add the scores to its files."""
    result = read_result(checkpoint)
    load_image = None
    if result.config.get("data", {}).get("dataset"):
        given = reopen_input(result.config, data_dir)
        load_image = given.thumbnails(result.paths)
        with Terminal() as terminal:
            result = score_run(
                result, given, cache_dir=checkpoint / CACHE_FOLDER, terminal=terminal
            )
    elif labels or result.config.get("labels"):
        result = score_by_folders(result)
    else:
        raise InputError("Expected --labels=folders: what to score against")
    command = _stored_command(checkpoint)
    # As the run did it.
    beside = (checkpoint / PICTURE_FOLDER).is_dir()
    write_outputs(
        result,
        checkpoint,
        load_image=load_image,
        command=command,
        thumbnails="beside" if beside else "embed",
    )
    print_result(result, str(checkpoint))


def _score_others(values: flags.FlagValues, predictor: Predictor) -> None:
    """Place other images, and score where they came."""
    folder = find_images(values.images)
    folder_labels(folder.paths)
    settings = {
        "model": model_digest(values.checkpoint),
        "images": values.images,
        "labels": values.labels,
        "outlier_quantile": values.outlier_quantile,
    }
    prepare_workdir(
        values.workdir,
        settings,
        overwrite=values.overwrite,
        outputs=(*PREDICTION_FILES, _SCORES),
    )
    with Terminal() as terminal:
        terminal.start("Predicting", len(folder.paths))
        parts = list(
            predictor.stream(
                folder,
                outlier_quantile=values.outlier_quantile,
                progress=terminal.advance,
            )
        )
    counts = write_predictions(parts, values.workdir)
    labels, names = folder_labels([path for part in parts for path in part.paths])
    nearest = np.concatenate([part.nearest for part in parts])
    scores = {"mca": score_clustering(labels, nearest)._asdict()}
    clusters = predictor.model.clusters
    table = contingency_table(labels, nearest, len(names), len(clusters))
    content: dict[str, Any] = {
        "summary": counts,
        "scores": scores,
        "contingency": {
            "classes": list(names),
            "clusters": [cluster.name for cluster in clusters],
            "counts": table.tolist(),
        },
    }
    write_file(Path(values.workdir) / _SCORES, dump_json(content, digits=6) + "\n")
    print(f"{counts['images']} images, {counts['none']} none of these")
    print_scores(scores)
    print(f"Scores: {values.workdir}/{_SCORES}")


def _run(values: flags.FlagValues) -> None:
    if values.checkpoint is None:
        # As the last of the stages in a row, with the flags of all.
        check_given(values, "workdir")
        _score_run(Path(values.workdir), values.labels, values.data_dir)
    elif values.images is None:
        check_given(values)
        _score_run(Path(values.checkpoint), values.labels, values.data_dir)
    else:
        check_given(values, "workdir", "labels")
        check_apart(values)
        _score_others(values, load(values.checkpoint))


def main(argv: list[str]) -> int:
    """Run the job; bad input is one line and exit status 2.

    Args:
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    return run_job(_run, argv)


if __name__ == "__main__":
    define_run_flags()
    define_checkpoint_flags()
    app.run(main, flags_parser=parse_flags)
