"""The stages of the main job, as the launchers put them in a row."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.flags import read_config
from experiments.inputs import RunInput, open_input
from experiments.scoring import baseline_lines, score_run
from experiments.tensorboard import TensorBoard
from experiments.terminal import Terminal
from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.parallel import is_first_host, on_first_host
from mca_jax.core.progress import Clock
from mca_jax.data import ImageSource, folder_labels
from mca_jax.encoders import ENCODERS, build_encoder
from mca_jax.encoders.embed_images import Embedded, embed_images
from mca_jax.evaluation.runs import score_result
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.num_clusters import parse_num_clusters, settle_num_clusters
from mca_jax.report.charts import count_sentence
from mca_jax.report.workdir import RunLog, prepare_workdir
from mca_jax.report.write import OUTPUT_FILES, write_outputs

__all__ = [
    "CACHE_FOLDER",
    "check_given",
    "embed",
    "print_result",
    "print_scores",
    "score_by_folders",
    "train",
]

CACHE_FOLDER = "embeddings"
"""Where a workdir keeps the embeddings of images."""

_REPEATED = (
    *("images", "dataset", "data_dir", "num_clusters", "encoder", "seed", "labels"),
    *("text_encoder", "config", "thumbnails"),
)


def check_given(values: flags.FlagValues, *names: str) -> None:
    """Check that flags were given, and that ``--labels`` has a meaning.

    Args:
      values: Parsed flags.
      *names: Names of the flags without dashes.

    Raises:
      InputError: One is missing, or the labels are of an unknown kind.
    """
    for name in names:
        if not values[name].value:
            raise InputError(f"Expected --{name}, found nothing")
    if values.labels is not None:
        check_one_of("--labels", values.labels, ("folders",))


def _check_encoder(config: Config) -> None:
    """Check the name of an encoder before anything costs time.

    Raises:
      InputError: There is no encoder of that name.
    """
    name = config.encoder.name
    if "/" not in name and not Path(name).expanduser().is_dir():
        check_one_of("encoder", name, ENCODERS)


def _command(values: flags.FlagValues) -> str:
    """What to type again; the workdir is left open, it says nothing of the run."""
    parts = ["python -m experiments.cluster"]
    for name in _REPEATED:
        if values[name].value is not None:
            parts.append(f"--{name}={shlex.quote(str(values[name].value))}")
    parts += ["--baselines"] if values.baselines else []
    parts += [f"--set={shlex.quote(setting)}" for setting in values.set]
    return " ".join([*parts, "--workdir=OUT"])


def _embed_source(
    values: flags.FlagValues, config: Config, source: ImageSource
) -> Embedded:
    """Embed images into the cache of the workdir, or read them from there."""
    encoder = build_encoder(config.encoder.name, dtype=config.encoder.dtype)
    with Terminal() as terminal:
        terminal.start("Embedding", len(source.names))
        return embed_images(
            encoder,
            source,
            batch_size=config.encoder.batch_size,
            cache_dir=Path(values.workdir) / CACHE_FOLDER,
            dtype=config.encoder.store_dtype,
            threads=config.encoder.threads or None,
            progress=terminal.advance,
        )


def embed(values: flags.FlagValues) -> None:
    """Embed the images of a folder or data set into the cache of a workdir.

    Args:
      values: Parsed flags.

    Raises:
      InputError: A flag or the input is wrong, or nothing can be written.
    """
    check_given(values, "workdir")
    config = read_config(values, need_clusters=False)
    _check_encoder(config)
    given = open_input(values, config)
    sources = [given.images, given.held_out]
    parts = []
    for source in filter(None, sources):
        embedded = _embed_source(values, config, source)
        parts.append(embedded)
        for warning in embedded.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        for image in embedded.skipped:
            print(f"Skipped {image.path}: {image.reason}", file=sys.stderr)
    print(
        f"{sum(len(part.paths) for part in parts)} images embedded, "
        f"{sum(part.num_computed for part in parts)} of them now, "
        f"{sum(len(part.skipped) for part in parts)} skipped"
    )


def _settle_count(
    values: flags.FlagValues, given: RunInput
) -> tuple[RunInput, dict[str, Any]]:
    """Estimate the number of clusters, where that was asked for.

    This comes before the workdir is made: the number is one of the settings that
    the workdir belongs to, and the same images and settings give it again.
    """
    wanted = parse_num_clusters(values.num_clusters or given.config.num_clusters)
    if isinstance(wanted, int):
        return given, {}
    embedded = _embed_source(values, given.config, given.images)
    with Terminal() as terminal:
        config, counted = settle_num_clusters(
            embedded.embeddings, wanted, given.config, Clock(terminal)
        )
    if is_first_host():
        print(count_sentence(counted["cluster_count"]))
    settings = {**given.settings, "num_clusters": config.num_clusters}
    return given._replace(config=config, settings=settings), counted


def _own_workdir(
    values: flags.FlagValues, settings: dict[str, Any], checkpoints: Path
) -> None:
    """Make the workdir that of this run; of other settings it loses its files."""
    was = prepare_workdir(
        values.workdir, settings, overwrite=values.overwrite, outputs=OUTPUT_FILES
    )
    if was == "replaced" and checkpoints.exists():
        shutil.rmtree(checkpoints)


@contextmanager
def _open_logs(values: flags.FlagValues) -> Iterator[list[RunLog | TensorBoard]]:
    """Open what keeps the events of a run; of several hosts the first keeps them.

    Raises:
      InputError: One can't be written.
    """
    with ExitStack() as stack:
        logs: list[RunLog | TensorBoard] = []
        if is_first_host():
            logs.append(stack.enter_context(RunLog(values.workdir)))
            if values.tensorboard:
                logs.append(stack.enter_context(TensorBoard(values.tensorboard)))
        yield logs


def train(values: flags.FlagValues, *, score: bool) -> ClusterResult:
    """Cluster a folder or data set and write all files of the run.

    Args:
      values: Parsed flags. Where there are labels, the run without text is trained
        as well, to compare; the labels themselves are not read.
      score: Whether the run is scored at the end, if there are labels.

    Returns:
      What was written.

    Raises:
      InputError: A flag or the input is wrong, or nothing can be written.
    """
    check_given(values, "workdir")
    config = read_config(values)
    _check_encoder(config)
    given, counted = _settle_count(values, open_input(values, config))
    cache_dir = Path(values.workdir) / CACHE_FOLDER
    checkpoint_dir = Path(values.workdir) / "checkpoints"
    on_first_host(lambda: _own_workdir(values, given.settings, checkpoint_dir))
    with _open_logs(values) as logs:
        with Terminal(*logs) as terminal:
            result = cluster(
                given.images,
                config=given.config,
                cache_dir=cache_dir,
                checkpoint_dir=checkpoint_dir,
                # Beside scores stands at least the same training without text.
                baselines=values.baselines
                or (["consistency_only"] if given.is_scored else False),
                callback=terminal,
            )
            # The images are part of what the workdir belongs to.
            about = {"data": given.about} if given.about else {}
            metrics = {**about, **counted, **result.metrics}
            result = replace(result, config=given.settings, metrics=metrics)
            if score:
                result = score_run(
                    result, given, cache_dir=cache_dir, terminal=terminal
                )
        write = partial(
            write_outputs,
            result,
            values.workdir,
            load_image=given.thumbnails(result.paths),
            command=_command(values),
            thumbnails=values.thumbnails or "embed",
        )
        on_first_host(write)
        for log in logs:
            log.write("end", status=result.status, metrics=result.metrics)
    return result


def score_by_folders(result: ClusterResult) -> ClusterResult:
    """Score a result against the names of its images' folders.

    Args:
      result: A finished run.

    Returns:
      The same with scores among its metrics.
    """
    labels, names = folder_labels(result.paths)
    return score_result(result, np.asarray(labels), names)


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """Print one line of scores a method.

    Args:
      scores: Scores by method.
    """
    for name, own in scores.items():
        print(f"  {name}: " + ", ".join(f"{m} {v:.3f}" for m, v in own.items()))


def print_result(result: ClusterResult, workdir: str) -> None:
    """Print what came out of a run, and where it is.

    Args:
      result: The run.
      workdir: Its folder.
    """
    if not is_first_host():
        return
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"{len(result.paths)} images in {len(result.clusters)} clusters{skipped}")
    print_scores(result.metrics.get("scores", {}))
    for line in baseline_lines(result.metrics.get("baselines", {})):
        print(line)
    print(f"Report: {Path(workdir) / 'report.html'}")
