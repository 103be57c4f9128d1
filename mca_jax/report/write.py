"""Writes the files of a run: tables, JSON and the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from mca_jax.core.atomic_files import refused_by_system, write_file, write_parts
from mca_jax.core.errors import InputError
from mca_jax.core.text import (
    CSV_START,
    csv_lines,
    csv_table,
    dump_json,
    file_uri,
    path_cell,
    printable,
    text_cell,
)
from mca_jax.data.files import (
    SkippedImage,
    TooFewImagesError,
    count_unread,
    list_reasons,
)
from mca_jax.model.cluster_model import Prediction
from mca_jax.model.files import MODEL_FILES
from mca_jax.model.result import ClusterResult, write_result
from mca_jax.model.tree import ClusterTree, level_sizes
from mca_jax.report.duplicates import DuplicateGroup
from mca_jax.report.export import level_columns
from mca_jax.report.findings import Outlier
from mca_jax.report.images import Thumbnails
from mca_jax.report.page import Report, build_report
from mca_jax.report.workdir import CONFIG_FILE, LOG_FILE

__all__ = [
    "OUTPUT_FILES",
    "PREDICTION_FILES",
    "write_outputs",
    "write_predictions",
    "write_skipped",
]

OUTPUT_FILES = (
    "assignments.csv",
    "skipped.csv",
    "outliers.csv",
    "duplicates.csv",
    "baselines.csv",
    "update.csv",
    "clusters.json",
    "metrics.json",
    "report.html",
    *MODEL_FILES,
    LOG_FILE,
)
"""Names of the files of a run beside its settings."""

PREDICTION_FILES = ("assignments.csv", "skipped.csv", LOG_FILE)
"""Names of the files of a prediction beside its settings."""

_DIGITS = 6
_ORDER = {"unreadable": 0, "other": 1, "left_out": 2}


def _assignments(result: ClusterResult) -> str:
    """Table of images, in the order of the rows."""
    names = [text_cell(cluster.name) for cluster in result.clusters]
    columns = (result.assignments.tolist(), result.confidences.tolist())
    levels = level_columns(result.tree)
    # A few hundred names, many times each.
    shown = cache(text_cell)
    rows = (
        (
            path_cell(path),
            cluster,
            f"{confidence:.{_DIGITS}f}",
            names[cluster],
            *map(shown, more),
        )
        for path, cluster, confidence, *more in zip(
            result.paths, *columns, *levels.values(), strict=True
        )
    )
    header = ("path", "cluster", "confidence", "cluster_name", *levels)
    return csv_table(header, rows, paths=result.paths, root=result.root)


def _skipped(skipped: Iterable[SkippedImage], root: str | None) -> str:
    """Table of the files that were not read: images first, then all else."""
    ordered = sorted(skipped, key=lambda image: _ORDER[image.kind])
    rows = ((path_cell(image.path), text_cell(image.reason)) for image in ordered)
    paths = [image.path for image in ordered if root is not None]
    return csv_table(("path", "reason"), rows, paths=paths, root=root or "")


def write_skipped(
    skipped: Iterable[SkippedImage], workdir: str | os.PathLike[str]
) -> Path:
    """Write ``skipped.csv`` alone, for a run that ends for want of images.

    Args:
      skipped: The files that were not read.
      workdir: Folder, which is made if it isn't there.

    Returns:
      The path of the table.

    Raises:
      InputError: It can't be written.
    """
    folder = Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused_by_system("create workdir", folder, error) from error
    write_file(folder / PREDICTION_FILES[1], _skipped(skipped, None))
    return folder / PREDICTION_FILES[1]


def _outliers(result: ClusterResult, outliers: Sequence[Outlier]) -> str:
    """Table of the images that are most unlike any other, those first."""
    clusters = result.assignments
    rows = (
        (path_cell(result.paths[row]), f"{distance:.{_DIGITS}f}", clusters[row])
        for row, distance in outliers
    )
    paths = [result.paths[each.row] for each in outliers]
    header = ("path", "distance", "cluster")
    return csv_table(header, rows, paths=paths, root=result.root)


def _duplicates(result: ClusterResult, groups: Sequence[DuplicateGroup]) -> str:
    """Table of the images that show the same, group by group."""
    rows = (
        (
            *(number, group.kind, path_cell(result.paths[row])),
            *(result.assignments[row], "best" if row == group.best else "", *size),
        )
        for number, group in enumerate(groups)
        for row, size in zip(group.rows, group.sizes, strict=True)
    )
    paths = [result.paths[row] for group in groups for row in group.rows]
    header = ("group", "kind", "path", "cluster", "keep", "width", "height", "bytes")
    return csv_table(header, rows, paths=paths, root=result.root)


def _baselines(result: ClusterResult) -> str:
    """Table of the clusters that simpler methods put each image into."""
    columns = [result.assignments, *result.baselines.values()]
    rows = zip(
        map(path_cell, result.paths),
        *(column.tolist() for column in columns),
        strict=True,
    )
    header = ("path", "cluster", *result.baselines)
    return csv_table(header, rows, paths=result.paths, root=result.root)


def _clusters(result: ClusterResult) -> dict[str, Any]:
    """All clusters as JSON."""
    names = ("name", "score", "synset", "gloss")
    return {
        "num_images": len(result.paths),
        "num_clusters": len(result.clusters),
        "clusters": [
            {
                "index": cluster.index,
                "id": cluster.id,
                "name": cluster.name,
                "guess": cluster.guess,
                "size": cluster.size,
                "confidence": cluster.confidence,
                "nouns": [
                    {name: getattr(noun, name) for name in names}
                    for noun in cluster.nouns
                ],
                "exemplars": [result.paths[row] for row in cluster.exemplars],
            }
            for cluster in result.clusters
        ],
        **({} if result.tree is None else {"tree": _tree(result.tree)}),
    }


def _tree(tree: ClusterTree) -> dict[str, Any]:
    """The tree as JSON: its nodes, and the number of groups from which each is one."""
    sizes = tree.sizes().tolist()
    return {
        "num_groups": tree.num_groups,
        "levels": level_sizes(tree),
        "nodes": [
            {
                "node": node,
                "parent": tree.parent(node),
                "from": (node + 1) // 2 + 1,
                "name": tree.names[node],
                "guess": tree.guesses[node],
                "size": sizes[node],
            }
            for node in range(len(tree.names))
        ],
    }


def _metrics(result: ClusterResult) -> dict[str, Any]:
    """Counts, scores and the audit as JSON."""
    confidences = result.confidences
    return {
        "summary": {
            "num_images": len(result.paths),
            "num_skipped": count_unread(result.skipped),
            "num_clusters": len(result.clusters),
            "num_empty_clusters": sum(not each.size for each in result.clusters),
            "mean_confidence": float(confidences.mean()) if confidences.size else None,
            "status": result.status,
        },
        **result.metrics,
        "audit": result.audit,
        "warnings": result.warnings,
    }


def _write_pictures(pictures: Mapping[str, bytes], folder: Path) -> None:
    """Write the pictures beside the report."""
    for name, picture in pictures.items():
        path = folder / name
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Can't make {printable(str(path.parent))!r} for pictures: "
                f"{error.strerror or error}; move what is there, or take "
                "--thumbnails=embed"
            ) from error
        write_file(path, picture)


def write_outputs(
    result: ClusterResult,
    workdir: str | os.PathLike[str],
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    thumbnails: Thumbnails = "embed",
) -> dict[str, Path]:
    """Write all files of a run except its log.

    None holds a time, so two runs with one seed give identical files. In
    ``assignments.csv`` a path that a spreadsheet would take for a formula
    starts with ``./``, which names the same file; a cluster name or a reason
    starts with an apostrophe then. Characters of a path that can't be printed,
    and bytes of it that aren't UTF-8, are backslash escapes, so that a line is
    an image; a last column ``uri`` then has addresses that open the files.

    Args:
      result: What a run returned.
      workdir: Folder that exists, see ``prepare_workdir``.
      load_image: Returns the upright RGB picture of a row, for the report's
        thumbnails; None reads the files under ``result.root``. It may raise
        OSError or ValueError: the report shows a placeholder then.
      command: What to type to run it again, for the report and
        ``config.json``; leave the folder out, so that it doesn't tell two equal
        runs apart.
      thumbnails: ``"embed"`` puts the report's pictures into the page,
        ``"beside"`` into the folder ``report_files`` beside it.

    Returns:
      Path of each file by its name, in the order of writing.

    Raises:
      InputError: A file can't be written; it is named, and those before it
        are whole. Or ``thumbnails`` is neither of these.

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

    @cache
    def report() -> Report:
        return build_report(
            result, load_image=load_image, command=command, thumbnails=thumbnails
        )

    makers: dict[str, Callable[[], str]] = {
        # First: a folder without settings is nobody's.
        CONFIG_FILE: lambda: dump_json(config) + "\n",
        "assignments.csv": lambda: _assignments(result),
        "skipped.csv": lambda: _skipped(result.skipped, result.root),
        "clusters.json": lambda: dump_json(_clusters(result), digits=_DIGITS) + "\n",
        "metrics.json": lambda: dump_json(_metrics(result), digits=_DIGITS) + "\n",
        "outliers.csv": lambda: _outliers(result, report().outliers),
        "duplicates.csv": lambda: _duplicates(result, report().duplicates),
        "report.html": lambda: report().html,
    }
    if "baselines" in result.metrics:
        makers["baselines.csv"] = lambda: _baselines(result)
    else:
        # Those of an earlier run with --baselines are not of this one.
        (folder / "baselines.csv").unlink(missing_ok=True)
    if "update" not in result.metrics:
        (folder / "update.csv").unlink(missing_ok=True)
    for name, make in makers.items():
        write_file(folder / name, make())
    _write_pictures(report().files, folder)
    written = [*makers, *report().files]
    if result.model is not None:
        write_result(replace(result, pictures=report().pictures), folder)
        written += MODEL_FILES
    return {name: folder / name for name in written}


def _predicted_rows(part: Prediction, root: str | None) -> Iterator[tuple[Any, ...]]:
    """Lines of ``assignments.csv`` for some images."""
    for row, path in enumerate(part.paths):
        uri = () if root is None else (file_uri(root, path),)
        yield (
            path_cell(path),
            part.clusters[row],
            f"{part.confidences[row]:.{_DIGITS}f}",
            text_cell(part.names[row]),
            part.nearest[row],
            f"{part.closeness[row]:.{_DIGITS}f}",
            text_cell("; ".join(part.nouns[row])),
            *uri,
        )


def write_predictions(
    parts: Iterable[Prediction],
    workdir: str | os.PathLike[str],
    *,
    uri_root: str | None = None,
) -> dict[str, int]:
    """Write ``assignments.csv`` and ``skipped.csv`` while the parts come in.

    The first four columns are those of a run; ``nearest_cluster``, ``closeness``
    and ``nouns`` follow. An image that is none of these has cluster -1, and its
    confidence is that of the nearest cluster. The files are whole or absent.

    Args:
      parts: What was predicted.
      workdir: Folder that exists.
      uri_root: Folder of the images, for a column ``uri`` with addresses that open
        the files, whatever their names; None leaves it out.

    Returns:
      Number of images under ``"images"``, of those that are none of these under
      ``"none"``, and of files that were not read under ``"skipped"``, without those
      left out on purpose.

    Raises:
      InputError: A file can't be written, or no image could be read.
    """
    folder = Path(workdir)
    skipped: list[SkippedImage] = []
    counts = {"images": 0, "none": 0}
    header = ("path", "cluster", "confidence", "cluster_name", "nearest_cluster")

    def lines() -> Iterator[str]:
        uri = () if uri_root is None else ("uri",)
        yield CSV_START + csv_lines([(*header, "closeness", "nouns", *uri)])
        for part in parts:
            skipped.extend(part.skipped)
            counts["images"] += len(part.paths)
            counts["none"] += int((part.clusters < 0).sum())
            yield csv_lines(_predicted_rows(part, uri_root))
        if not counts["images"]:
            raise TooFewImagesError(
                f"No readable image among {len(skipped)}: {list_reasons(skipped)}",
                skipped,
            )

    write_parts(folder / PREDICTION_FILES[0], lines())
    write_file(folder / PREDICTION_FILES[1], _skipped(skipped, uri_root))
    return {**counts, "skipped": count_unread(skipped)}
