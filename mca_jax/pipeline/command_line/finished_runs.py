"""The sub-commands that take a finished run: evaluate, predict and export."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mca_jax.core.atomic_files import write_file
from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.text import dump_json, load_json, needs_uris
from mca_jax.data import SkippedImage, find_images, folder_labels
from mca_jax.data.folder import ImageFolder
from mca_jax.evaluation import contingency_table, score_clustering
from mca_jax.evaluation.runs import score_result
from mca_jax.model.cluster_model import Prediction
from mca_jax.model.files import model_digest
from mca_jax.model.predict import Predictor, load
from mca_jax.model.result import read_result
from mca_jax.pipeline.command_line.flags import (
    EMBEDDINGS,
    check_apart,
    check_present,
)
from mca_jax.pipeline.command_line.inputs import (
    absolute_folder,
    print_left_out,
    reopen_input,
)
from mca_jax.pipeline.command_line.runs import (
    CACHE_FOLDER,
    print_result,
    print_scores,
    print_unread,
    score_run,
)
from mca_jax.pipeline.command_line.terminal import Terminal
from mca_jax.pipeline.edit.reviewed import chosen_groups, reviewed_images
from mca_jax.report import PICTURE_FOLDER
from mca_jax.report.export import EXPORTS, assigned_images, export_embeddings
from mca_jax.report.workdir import CONFIG_FILE, RunLog, prepare_workdir
from mca_jax.report.write import (
    PREDICTION_FILES,
    write_outputs,
    write_predictions,
)

__all__ = ["evaluate", "export", "predict", "stored_command"]

_SCORES = "metrics.json"


def stored_command(run: Path) -> str | None:
    """Return the command that the run's report shows."""
    try:
        return load_json((run / CONFIG_FILE).read_bytes()).get("command")
    except (OSError, ValueError, AttributeError):
        return None


def _score_run(run: Path, labels: str | None, data_dir: str | None) -> None:
    """Score a run, and add the scores to its files."""
    result = read_result(run)
    load_image = None
    if result.config.get("data", {}).get("dataset"):
        inputs = reopen_input(result.config, data_dir)
        load_image = inputs.thumbnails(result.paths)
        with Terminal() as terminal:
            result = score_run(
                result, inputs, cache_dir=run / CACHE_FOLDER, terminal=terminal
            )
    elif labels or result.config.get("labels"):
        labels_of_images, names = folder_labels(result.paths)
        result = score_result(result, np.asarray(labels_of_images), names)
    else:
        raise InputError("Expected --labels=folders: what to score against")
    command = stored_command(run)
    # As the run did it.
    beside = (run / PICTURE_FOLDER).is_dir()
    write_outputs(
        result,
        run,
        load_image=load_image,
        command=command,
        thumbnails="beside" if beside else "embed",
    )
    print_result(result, str(run))


def _uri_root(folder: ImageFolder) -> str | None:
    """The folder, if a table of its images needs addresses beside their paths."""
    names = (*folder.paths, *(each.path for each in folder.skipped))
    return folder.root if needs_uris(names) else None


def _score_others(values: flags.FlagValues, predictor: Predictor) -> None:
    """Assign other images, and score their clusters."""
    folder = find_images(values.images)
    print_left_out(folder)
    folder_labels(folder.paths)
    settings = {
        "model": model_digest(values.run),
        "images": absolute_folder(values.images),
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
    counts = write_predictions(parts, values.workdir, uri_root=_uri_root(folder))
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


def evaluate(values: flags.FlagValues) -> None:
    """Score the images of a run, or with ``--images`` other ones, against labels."""
    if values.run is None:
        # As the last of the stages in a row, with the flags of all.
        check_present(values, "workdir")
        _score_run(Path(values.workdir), values.labels, values.data_dir)
    elif values.images is None:
        check_present(values)
        _score_run(Path(values.run), values.labels, values.data_dir)
    else:
        check_present(values, "workdir", "labels")
        check_apart(values)
        _score_others(values, load(values.run))


def _collect(
    parts: Iterable[Prediction], skipped: list[SkippedImage]
) -> Iterator[Prediction]:
    """Pass the parts of a prediction on, and keep what was not read."""
    for part in parts:
        skipped.extend(part.skipped)
        yield part


def predict(values: flags.FlagValues) -> None:
    """Assign new images to the clusters of a run."""
    check_present(values, "run", "images", "workdir")
    check_apart(values)
    predictor = load(values.run)
    folder = find_images(values.images)
    print_left_out(folder)
    for note in folder.notes:
        print(f"Warning: {note}", file=sys.stderr)
    settings = {
        "model": model_digest(values.run),
        "images": absolute_folder(values.images),
        "outlier_quantile": values.outlier_quantile,
    }
    prepare_workdir(
        values.workdir, settings, overwrite=values.overwrite, outputs=PREDICTION_FILES
    )
    with RunLog(values.workdir) as log, Terminal(log) as terminal:
        terminal.start("Predicting", len(folder.paths))
        parts = predictor.stream(
            folder, outlier_quantile=values.outlier_quantile, progress=terminal.advance
        )
        skipped_files: list[SkippedImage] = []
        counts = write_predictions(
            _collect(parts, skipped_files), values.workdir, uri_root=_uri_root(folder)
        )
        terminal.close()
        log.write("end", **counts)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['images']} images, {counts['none']} none of these{skipped}")
    print_unread(skipped_files)
    print(f"Table: {values.workdir}/{PREDICTION_FILES[0]}")


def export(values: flags.FlagValues) -> None:
    """Write the clusters of a run in other formats."""
    check_present(values, "run", "workdir", "formats")
    check_apart(values)
    for name in values.formats:
        check_one_of("format", name, (*EXPORTS, EMBEDDINGS))
    result = read_result(values.run)
    # The folder may have moved since the run.
    images = assigned_images(result, root=values.images)
    found = None
    if values.reviewed or values.version is not None:
        found = chosen_groups(result, values.run, values.version)
    if found is not None:
        groups, history = found
        images = reviewed_images(result, groups, root=values.images)
        result = replace(result, assignments=images.clusters)
        if values.version:
            print(f"Version {values.version!r} of mca-jax review")
        else:
            print(
                f"With {len(history.edits)} edits of mca-jax review; --noreviewed "
                "leaves them out"
            )
    folder = Path(values.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    refused = []
    for name in dict.fromkeys(values.formats):
        missing = None
        try:
            if name == EMBEDDINGS:
                file = "embeddings.npz"
                export_embeddings(result, folder / file)
            else:
                file, write = EXPORTS[name]
                missing = write(images, folder / file)
        except (InputError, OSError) as error:
            # The others are written all the same.
            refused.append(f"{name}: {error}")
            continue
        note = ""
        if missing:
            note = f" without {missing} of {len(images.paths)} images, which are gone"
        print(f"{name}: {folder / file}{note}")
    print_unread(result.skipped)
    if refused:
        raise InputError("; ".join(refused))
