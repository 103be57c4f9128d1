"""The sub-commands that make a run: embed, train, and cluster for all in a row."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mca_jax.core.errors import InputError
from mca_jax.core.parallel import is_first_host, on_first_host
from mca_jax.core.progress import Clock
from mca_jax.core.text import printable
from mca_jax.data import ImageSource, SkippedImage, count_unread, describe_unread
from mca_jax.encoders import build_encoder
from mca_jax.encoders.device import choose_batch_size, choose_dtype
from mca_jax.encoders.embed_images import Embedded, embed_images
from mca_jax.encoders.registry import check_encoder
from mca_jax.evaluation.runs import score_held_out, score_result
from mca_jax.model.constraints import (
    close_constraints,
    name_constraints,
    read_constraints,
)
from mca_jax.model.predict import load_encoder
from mca_jax.model.result import ClusterResult, read_result
from mca_jax.pipeline.changes import (
    FolderChanges,
    compare_folder,
    reuse_pictures,
)
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.command_line.flags import check_present, read_config
from mca_jax.pipeline.command_line.inputs import RunInput, open_input
from mca_jax.pipeline.command_line.tensorboard import TensorBoard
from mca_jax.pipeline.command_line.terminal import Terminal
from mca_jax.pipeline.config import Config, config_from_dict
from mca_jax.pipeline.inputs import embed_source_views
from mca_jax.pipeline.num_clusters import (
    check_enough,
    parse_num_clusters,
    settle_num_clusters,
)
from mca_jax.report.charts import count_sentence
from mca_jax.report.images import ImageReader, read_small
from mca_jax.report.workdir import RunLog, prepare_workdir
from mca_jax.report.write import OUTPUT_FILES, write_outputs

__all__ = [
    "CACHE_FOLDER",
    "cluster_images",
    "embed",
    "print_result",
    "print_scores",
    "print_unread",
    "score_run",
    "train",
]

CACHE_FOLDER = "embeddings"
"""Where a workdir keeps the embeddings of images."""

# Unreadable files that are shown one by one.
_MOST_NAMED = 20
_COLUMNS = {
    "nmi_to_run": "NMI to run",
    "ari_to_run": "ARI to run",
    "neighbor_agreement": "neighbours agree",
    "compactness": "compactness",
    "size_entropy": "evenness",
    "empty_clusters": "empty",
}
_REPEATED = (
    *("images", "dataset", "data_dir", "num_clusters", "encoder", "seed", "labels"),
    *("image_encoder", "text_encoder", "config", "thumbnails", "constraints"),
)


def _check_encoder(config: Config) -> None:
    """Check the name of an encoder before anything costs time."""
    check_encoder(config.encoder.name)
    if config.encoder.image:
        check_encoder(config.encoder.image)


def _command(values: flags.FlagValues) -> str:
    """The command that repeats the run; any workdir will do."""
    parts = ["mca-jax cluster"]
    for name in _REPEATED:
        if values[name].value is not None:
            parts.append(f"--{name}={shlex.quote(str(values[name].value))}")
    parts += ["--baselines"] if values.baselines else []
    parts += [f"--set={shlex.quote(setting)}" for setting in values.set]
    return " ".join([*parts, "--workdir=OUT"])


def _embed_source(
    values: flags.FlagValues,
    config: Config,
    source: ImageSource,
    *,
    with_views: bool = False,
) -> tuple[Embedded, np.ndarray | None]:
    """Embed images, and views of some, into the cache of the workdir.

    What is there already is read.

    Returns:
      Both; None for views where none are wanted.
    """
    views = None
    encoder = build_encoder(
        config.encoder.name,
        dtype=choose_dtype(
            config.encoder.dtype, config.encoder.name, config.encoder.image
        ),
        revision=config.encoder.revision or None,
        image=config.encoder.image,
    )
    cache_dir = Path(values.workdir) / CACHE_FOLDER
    with Terminal() as terminal:
        terminal.start("Embedding", len(source.names))
        embedded = embed_images(
            encoder,
            source,
            batch_size=choose_batch_size(config.encoder.batch_size),
            cache_dir=cache_dir,
            dtype=config.encoder.store_dtype,
            threads=config.encoder.threads or None,
            progress=terminal.advance,
        )
        if with_views:
            views, _ = embed_source_views(
                source,
                encoder,
                embedded,
                config.encoder,
                Clock(terminal),
                cache_dir=cache_dir,
            )
    return embedded, views


def embed(values: flags.FlagValues) -> None:
    """Embed the images of a folder or data set into the cache of a workdir."""
    check_present(values, "workdir")
    config = read_config(values, need_clusters=False)
    _check_encoder(config)
    inputs = open_input(values, config)
    sources = [inputs.images, inputs.held_out]
    parts = []
    for source in filter(None, sources):
        embedded, _ = _embed_source(
            values, config, source, with_views=source is inputs.images
        )
        parts.append(embedded)
        for warning in embedded.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        unreadable = [each for each in embedded.skipped if each.kind == "unreadable"]
        for image in unreadable[:_MOST_NAMED]:
            print(f"Skipped {printable(image.path)}: {image.reason}", file=sys.stderr)
    skipped = [image for part in parts for image in part.skipped]
    print(
        f"{sum(len(part.paths) for part in parts)} images embedded, "
        f"{sum(part.num_computed for part in parts)} of them now, "
        f"{count_unread(skipped)} skipped"
    )
    print_unread(skipped)


def _with_constraints(values: flags.FlagValues, inputs: RunInput) -> RunInput:
    """Check the constraints before anything costs time; the workdir belongs to them.

    Raises:
      InputError: The file can't be read, names an image that is not there, or
        contradicts itself.
    """
    if values.constraints is None:
        return inputs
    names = inputs.images.names
    said = read_constraints(values.constraints, names)
    close_constraints(said, len(names))
    settings = {**inputs.settings, "constraints": name_constraints(said, names)}
    return inputs._replace(settings=settings)


def _settle_count(
    values: flags.FlagValues, inputs: RunInput
) -> tuple[RunInput, dict[str, Any]]:
    """Estimate the number of clusters, where that was asked for.

    This comes before the workdir is made: the number is one of the settings that
    the workdir belongs to, and the same images and settings give it again.
    """
    wanted = parse_num_clusters(values.num_clusters or inputs.config.num_clusters)
    if isinstance(wanted, int):
        return inputs, {}
    embedded, views = _embed_source(
        values, inputs.config, inputs.images, with_views=True
    )
    check_enough(len(embedded.paths), embedded.skipped, wanted)
    with Terminal() as terminal:
        config, counted = settle_num_clusters(
            embedded.embeddings, wanted, inputs.config, Clock(terminal), views=views
        )
    if is_first_host():
        print(count_sentence(counted["cluster_count"]))
    settings = {**inputs.settings, "num_clusters": config.num_clusters}
    return inputs._replace(config=config, settings=settings), counted


def _last_result(workdir: str) -> ClusterResult | None:
    """Read what the last run left in a workdir, if it left anything whole."""
    try:
        return read_result(workdir)
    except InputError:
        return None


def _compare(
    last: ClusterResult | None, inputs: RunInput, cache_dir: Path
) -> FolderChanges | None:
    """Tell what happened to the images since a run of the same folder."""
    if last is None or not inputs.images.root:
        return None
    if os.path.abspath(last.root) != inputs.images.root:
        return None
    return compare_folder(last, inputs.images, cache_dir)


def _print_changes(changes: FolderChanges | None, workdir: str) -> None:
    """Say what happened to the images, before anything costs time."""
    if changes is None:
        return
    sentence = changes.sentence()
    again = " and are not embedded again" if changes.any else ""
    print(f"{sentence[0].upper()}{sentence[1:]}{again}", flush=True)
    if changes.any:
        print(
            "All are grouped anew; to keep the groups that are there: mca-jax update "
            f"--run={shlex.quote(workdir)}",
            flush=True,
        )


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


def _train(values: flags.FlagValues, *, score: bool) -> None:
    """Cluster a folder or data set and write all files of the run.

    Where there are labels, the run without text is trained as well, to compare; the
    labels themselves are read after training, and only to score.
    """
    check_present(values, "workdir")
    config = read_config(values)
    _check_encoder(config)
    inputs = _with_constraints(values, open_input(values, config))
    wanted = parse_num_clusters(values.num_clusters or inputs.config.num_clusters)
    check_enough(len(inputs.images.names), inputs.images.skipped, wanted)
    cache_dir = Path(values.workdir) / CACHE_FOLDER
    last = _last_result(values.workdir) if is_first_host() else None
    changes = _compare(last, inputs, cache_dir)
    if not isinstance(wanted, int):
        _print_changes(changes, values.workdir)
    inputs, counted = _settle_count(values, inputs)
    checkpoint_dir = Path(values.workdir) / "checkpoints"
    own_workdir = partial(
        prepare_workdir,
        values.workdir,
        inputs.settings,
        overwrite=values.overwrite,
        outputs=OUTPUT_FILES,
        # In other images another number may be found.
        open_settings=["num_clusters"]
        if counted and last is not None and "cluster_count" in last.metrics
        else [],
    )
    on_first_host(own_workdir)
    if isinstance(wanted, int):
        _print_changes(changes, values.workdir)
    with _open_logs(values) as logs:
        for log in logs:
            if changes is not None:
                log.write("images", same=len(changes.same), **changes.counts())
        with Terminal(*logs) as terminal:
            result = cluster(
                inputs.images,
                config=inputs.config,
                cache_dir=cache_dir,
                checkpoint_dir=checkpoint_dir,
                constraints=values.constraints,
                # Scores are shown beside at least the same training without text.
                baselines=values.baselines
                or (["consistency_only"] if inputs.is_scored else False),
                callback=terminal,
            )
            # The images are part of what the workdir belongs to.
            about = {"data": inputs.about} if inputs.about else {}
            metrics = {**about, **counted, **result.metrics}
            result = replace(result, config=inputs.settings, metrics=metrics)
            if score:
                result = score_run(
                    result, inputs, cache_dir=cache_dir, terminal=terminal
                )
            load_image = inputs.thumbnails(result.paths)
            if is_first_host():
                result = reuse_pictures(result, last)
                terminal.start("Comparing pictures", len(result.paths))
                reader = ImageReader(result, load_image)
                pictures = read_small(result, reader, progress=terminal.advance)
                result = replace(result, pictures=pictures)
        write = partial(
            write_outputs,
            result,
            values.workdir,
            load_image=load_image,
            command=_command(values),
            thumbnails=values.thumbnails or "embed",
        )
        on_first_host(write)
        for log in logs:
            log.write("end", status=result.status, metrics=result.metrics)
    print_result(result, values.workdir)


def train(values: flags.FlagValues) -> None:
    """Train on the images of a folder or data set; write the model and the report."""
    _train(values, score=False)


def cluster_images(values: flags.FlagValues) -> None:
    """Embed, train and, where there are labels, evaluate."""
    _train(values, score=True)


def _score_held_out(
    result: ClusterResult,
    inputs: RunInput,
    cache_dir: str | os.PathLike[str],
    terminal: Terminal,
) -> ClusterResult:
    """Embed what was held out, and score it."""
    assert inputs.held_out is not None
    assert inputs.read_held_out is not None
    settings = config_from_dict(result.model.config).encoder
    terminal.start("Embedding", len(inputs.held_out.names))
    embedded = embed_images(
        load_encoder(result.model),
        inputs.held_out,
        batch_size=choose_batch_size(settings.batch_size),
        cache_dir=cache_dir,
        dtype=settings.store_dtype,
        threads=settings.threads or None,
        progress=terminal.advance,
    )
    terminal.close()
    labels, names = inputs.read_held_out(embedded.paths)
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
    inputs: RunInput,
    *,
    cache_dir: str | os.PathLike[str],
    terminal: Terminal,
) -> ClusterResult:
    """Read the labels and score a finished run.

    Args:
      result: The run.
      inputs: What it was made from.
      cache_dir: Embeddings of the images that were held out.
      terminal: Shows progress.

    Raises:
      InputError: Labels or images can't be read.
    """
    if inputs.read_labels is not None:
        result = score_result(result, *inputs.read_labels(result.paths))
    if inputs.held_out is not None:
        result = _score_held_out(result, inputs, cache_dir, terminal)
    return result


def _baseline_lines(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lay out how a run and simpler methods compare without labels."""
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


def print_unread(skipped: Iterable[SkippedImage]) -> None:
    """Print how many files of which kinds were not read, if any."""
    text = describe_unread(skipped)
    if text:
        print(text)


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """Print one line of scores a method."""
    for name, own in scores.items():
        print(f"  {name}: " + ", ".join(f"{m} {v:.3f}" for m, v in own.items()))


def print_result(result: ClusterResult, workdir: str) -> None:
    """Print what came out of a run, and where it is."""
    if not is_first_host():
        return
    for warning in result.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    count = count_unread(result.skipped)
    skipped = f", {count} skipped" if count else ""
    print(f"{len(result.paths)} images in {len(result.clusters)} clusters{skipped}")
    print_unread(result.skipped)
    print_scores(result.metrics.get("scores", {}))
    for line in _baseline_lines(result.metrics.get("baselines", {})):
        print(line)
    print(f"Report: {Path(workdir) / 'report.html'}")
