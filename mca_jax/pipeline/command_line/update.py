"""The sub-command that brings a finished run to what its folder holds now."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

from mca_jax.core.atomic_files import write_file
from mca_jax.core.progress import Clock
from mca_jax.core.text import csv_table, path_cell, text_cell
from mca_jax.model.result import read_result
from mca_jax.pipeline.command_line.finished_runs import stored_command
from mca_jax.pipeline.command_line.flags import check_present
from mca_jax.pipeline.command_line.inputs import absolute_folder
from mca_jax.pipeline.command_line.runs import CACHE_FOLDER
from mca_jax.pipeline.command_line.terminal import Terminal
from mca_jax.pipeline.edit.lessons import reviewed_result
from mca_jax.pipeline.edit.update import Update, update_result
from mca_jax.report import PICTURE_FOLDER
from mca_jax.report.review import REVIEW_FOLDER, put_aside
from mca_jax.report.workdir import RunLog, prepare_workdir
from mca_jax.report.write import OUTPUT_FILES, write_outputs

__all__ = ["update"]

_TABLE = "update.csv"
_HEADER = ("path", "change", "was", "cluster", "cluster_name", "confidence", "fits")
# Groups that a line names.
_MOST_NAMED = 8


def _print_update(found: Update, run: str) -> None:
    """Say what an update changed, and when training anew may be better."""
    sentence = found.changes.sentence()
    print(f"{sentence[0].upper()}{sentence[1:]}")
    names = [cluster.name for cluster in found.result.clusters]
    taken = Counter(found.result.assignments[found.new].tolist()).most_common()
    if taken:
        named = ", ".join(f"{names[i]} {count}" for i, count in taken[:_MOST_NAMED])
        more = ", ..." if len(taken) > _MOST_NAMED else ""
        print(f"{len(found.new)} put into the groups that are there: {named}{more}")
    if len(found.nowhere):
        print(f"{len(found.nowhere)} of them fit none of the groups; see {_TABLE}")
    if found.train_anew:
        command = stored_command(Path(run)) or (
            f"mca-jax cluster --images={shlex.quote(found.result.root)} "
            f"--num_clusters={len(names)} --workdir=OUT"
        )
        other = shlex.quote(run.rstrip("/") + "-new")
        command = command.replace("--workdir=OUT", f"--workdir={other}")
        print(
            f"Many fit nowhere: groups that are made anew may serve better:\n{command}"
        )


def _table(found: Update) -> str:
    """What happened to each image that is not as it was."""
    result, changes = found.result, found.changes
    kinds = dict.fromkeys(changes.added, "added")
    kinds |= dict.fromkeys(changes.changed, "changed")
    kinds |= dict.fromkeys(changes.renamed, "renamed")
    new, far = {*found.new.tolist()}, {*found.nowhere.tolist()}
    confidences = result.confidences
    paths: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for row, path in enumerate(result.paths):
        if path not in kinds and row not in new:
            continue
        cluster = int(result.assignments[row])
        paths.append(path)
        rows.append(
            (
                *(path_cell(path), kinds.get(path, "could not be read")),
                *(path_cell(changes.renamed.get(path, "")), cluster),
                text_cell(result.clusters[cluster].name),
                f"{confidences[row]:.6f}",
                "no" if row in far else "yes",
            )
        )
    rows += [(path_cell(path), "deleted", *[""] * 5) for path in changes.deleted]
    return csv_table(_HEADER, rows, paths=[*paths, *changes.deleted], root=result.root)


def update(values: flags.FlagValues) -> None:
    """Bring a run to what its folder holds now, in its workdir or in another."""
    check_present(values, "run")
    run, workdir = Path(values.run), Path(values.workdir or values.run)
    trained = read_result(run)
    result = reviewed_result(trained, run)
    with Terminal() as terminal:
        found = update_result(
            result,
            values.images and absolute_folder(values.images),
            cache_dir=run / CACHE_FOLDER,
            outlier_quantile=values.outlier_quantile,
            clock=Clock(terminal),
        )
    if not found.changes.any and not len(found.new):
        print("All images are as they were in the last run: nothing to do")
        return
    if workdir.resolve() != run.resolve():
        prepare_workdir(
            workdir, result.config, overwrite=values.overwrite, outputs=OUTPUT_FILES
        )
    _print_update(found, values.run)
    write_outputs(
        found.result,
        workdir,
        command=stored_command(run),
        thumbnails="beside" if (run / PICTURE_FOLDER).is_dir() else "embed",
    )
    write_file(workdir / _TABLE, _table(found))
    if result is not trained:
        where = run / REVIEW_FOLDER
        if workdir.resolve() == run.resolve():
            # They are of the images of before.
            where = put_aside(where)
        print(
            f"The edits of mca-jax review are in its groups now, their file in {where}"
        )
    with RunLog(workdir) as log:
        log.write("update", **found.result.metrics["update"])
    print(f"Report: {workdir / 'report.html'}")
