"""Hands clusters to other tools: tables, folders, labelling tools, arrays."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from mca_jax.core.atomic_files import write_file
from mca_jax.core.errors import InputError
from mca_jax.core.text import csv_table, dump_json, path_cell, printable, text_cell
from mca_jax.data.own_folders import EXPORT_MARK
from mca_jax.model.cluster_model import NONE_OF_THESE, Prediction
from mca_jax.model.result import ClusterResult
from mca_jax.model.tree import ClusterTree, level_sizes

__all__ = [
    "EXPORTS",
    "Assigned",
    "assigned_images",
    "export_csv",
    "export_embeddings",
    "export_fiftyone",
    "export_folders",
    "export_label_studio",
    "export_parquet",
    "level_columns",
]

_COLUMNS = ("path", "cluster", "confidence", "cluster_name")
_LONGEST_NAME = 60
_LABEL_STUDIO_FILES = "/data/local-files/?d="


class Assigned(NamedTuple):
    """Images with their clusters, of a run or of a prediction.

    Attributes:
      root: Folder of the images, or empty for arrays.
      paths: One an image, relative to ``root``.
      clusters: Cluster of each image, -1 for none of these, int32 ``[n]``.
      confidences: Probability of it, float32 ``[n]`` in [0, 1].
      names: Name of each image's cluster.
      classes: Names of all clusters, in order of the index.
      levels: Name of each image's group, by the column of each level of the tree.
    """

    root: str
    paths: tuple[str, ...]
    clusters: np.ndarray
    confidences: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]
    levels: Mapping[str, list[str]] = MappingProxyType({})


def assigned_images(
    result: ClusterResult | Prediction, *, root: str | None = None
) -> Assigned:
    """Collect what is exported of a run or of a prediction.

    ``root`` is the folder of the images; None takes that of the run, and of a
    prediction the present folder.
    """
    if isinstance(result, ClusterResult):
        classes = tuple(cluster.name for cluster in result.clusters)
        names = tuple(classes[index] for index in result.assignments)
        # Of a review: a cluster of its own, so that the result has one of each image.
        gone = np.array([name == NONE_OF_THESE for name in classes])
        clusters = np.where(gone[result.assignments], -1, result.assignments)
        own_root = result.root
    else:
        names, clusters, own_root = result.names, result.clusters, "."
        classes = tuple(sorted(set(names)))
    return Assigned(
        own_root if root is None else root,
        result.paths,
        clusters,
        result.confidences,
        names,
        classes,
        level_columns(result.tree) if isinstance(result, ClusterResult) else {},
    )


def level_columns(tree: ClusterTree | None) -> dict[str, list[str]]:
    """Name of each image's group, by the column of each level that is written down.

    Example:
      >>> tree = ClusterTree(np.array([0]), np.array([1, 2]), ("all", "cup", "lamp"),
      ...                    (False,) * 3, 2)
      >>> level_columns(tree)
      {'level_2': ['cup', 'lamp']}
    """
    if tree is None:
        return {}
    columns = {}
    for count in level_sizes(tree):
        level = tree.cut(count)
        columns[f"level_{count}"] = [level.names[group] for group in level.groups]
    return columns


def export_csv(images: Assigned, path: str | os.PathLike[str]) -> None:
    """Write a table that a spreadsheet shows as it is.

    Raises:
      InputError: It can't be written.
    """
    columns = (images.paths, images.clusters, images.confidences, images.names)
    rows = (
        (path_cell(own), cluster, f"{confidence:.6f}", *map(text_cell, texts))
        for own, cluster, confidence, *texts in zip(
            *columns, *images.levels.values(), strict=True
        )
    )
    header = (*_COLUMNS, *images.levels)
    table = csv_table(header, rows, paths=images.paths, root=images.root)
    write_file(Path(path), table)


def export_parquet(images: Assigned, path: str | os.PathLike[str]) -> None:
    """Write the same table as Parquet, with the paths as they are.

    Raises:
      InputError: pyarrow isn't installed, or the file can't be written.
    """
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "Expected pyarrow for Parquet, found none; install it with "
            "pip install 'mca-jax[export]', or export csv"
        ) from error
    # Bytes of a name that aren't UTF-8 don't fit into a text column.
    paths = [_utf8(path) for path in images.paths]
    columns = (paths, images.clusters, images.confidences, list(images.names))
    named = dict(zip(_COLUMNS, columns, strict=True))
    table = pyarrow.table({**named, **images.levels})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    write_file(Path(path), buffer.getvalue())


def _utf8(text: str) -> str:
    """Text that encodes as UTF-8; only what doesn't becomes an escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable(text)
    return text


def export_label_studio(
    images: Assigned,
    path: str | os.PathLike[str],
    *,
    url_prefix: str = _LABEL_STUDIO_FILES,
) -> None:
    """Write tasks with pre-annotations for Label Studio.

    The labelling configuration needs ``<Image name="image" value="$image"/>`` and
    ``<Choices name="cluster" toName="image">`` with a choice for each cluster.

    Addresses of pictures begin with ``url_prefix``; the default is for local files
    under Label Studio's document root.

    Raises:
      InputError: It can't be written.
    """
    tasks = [
        {
            "data": {"image": url_prefix + quote(os.fsencode(own))},
            "predictions": [
                {
                    "model_version": "mca_jax",
                    "score": float(confidence),
                    "result": [
                        {
                            "from_name": "cluster",
                            "to_name": "image",
                            "type": "choices",
                            "value": {"choices": [name]},
                        }
                    ],
                }
            ],
        }
        for own, confidence, name in zip(
            images.paths, images.confidences, images.names, strict=True
        )
    ]
    write_file(Path(path), dump_json(tasks, digits=6) + "\n")


def export_fiftyone(images: Assigned, path: str | os.PathLike[str]) -> None:
    """Write ``labels.json`` of FiftyOne's image classification data sets.

    ``fiftyone.Dataset.from_dir(dataset_type=fiftyone.types.
    FiftyOneImageClassificationDataset, data_path=ROOT, labels_path=PATH)`` reads
    it, where ``ROOT`` is the folder of the images.

    Raises:
      InputError: Two images differ in nothing but the ends of their names, which
        FiftyOne leaves out, or the file can't be written.
    """
    classes = list(dict.fromkeys((*images.classes, *images.names)))
    number = {name: index for index, name in enumerate(classes)}
    labels: dict[str, int] = {}
    for own, name in zip(images.paths, images.names, strict=True):
        stem = os.path.splitext(own)[0]
        if stem in labels:
            raise InputError(
                f"Expected images with names apart but for their ends, found two of "
                f"{printable(stem)!r}; rename one, or export csv"
            )
        labels[stem] = number[name]
    write_file(Path(path), dump_json({"classes": classes, "labels": labels}) + "\n")


def export_embeddings(result: ClusterResult, path: str | os.PathLike[str]) -> None:
    """Write embeddings, paths and clusters as a NumPy archive without pickles.

    ``numpy.load`` reads ``embeddings`` float32 ``[n, d]``, ``paths`` and ``clusters``.

    Raises:
      InputError: It can't be written.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        embeddings=result.embeddings,
        paths=np.array(result.paths, np.str_),
        clusters=result.assignments,
    )
    write_file(Path(path), buffer.getvalue())


def _folder_name(index: int, name: str) -> str:
    """A name for a folder on any system; the number keeps them apart."""
    if index < 0:
        return "none-of-these"
    safe = re.sub(r"[^\w-]+", "-", name).strip("-_")[:_LONGEST_NAME]
    return f"{index:04d}-{safe or 'cluster'}"


def _target_names(images: Assigned) -> list[str]:
    """Where each image goes, relative to the export; no two to one path."""
    used: set[str] = set()
    targets = []
    for own, index, name in zip(
        images.paths, images.clusters, images.names, strict=True
    ):
        stem, suffix = os.path.splitext(os.path.basename(own))
        target, number = f"{stem}{suffix}", 1
        folder = _folder_name(int(index), name)
        # Without case, as the file systems of Windows and macOS compare.
        while f"{folder}/{target}".casefold() in used:
            number += 1
            target = f"{stem}-{number}{suffix}"
        used.add(f"{folder}/{target}".casefold())
        targets.append(f"{folder}/{target}")
    return targets


def export_folders(
    images: Assigned, folder: str | os.PathLike[str], *, copy: bool = False
) -> int:
    """Make a folder a cluster, with links to its images or copies of them.

    The folder appears when all is done. Links are relative: the images and the
    export can be moved together. Nothing that exists is overwritten.

    Args:
      images: The images, from files.
      folder: Folder to make; it must not exist, or be empty.
      copy: Whether to copy files in place of linking them.

    Returns:
      Number of images that are gone, for which there is nothing in the export.

    Raises:
      InputError: The images are no files or all gone, the folder holds something, or
        the system refuses.
    """
    target, root = Path(folder), os.path.abspath(images.root)
    if not images.root and not any(map(os.path.isfile, images.paths)):
        raise InputError(
            "Expected images from files, found arrays; export csv or parquet"
        )
    unfinished = target.with_name(f".{target.name}.tmp")
    gone = sum(not os.path.isfile(os.path.join(root, own)) for own in images.paths)
    if gone and gone == len(images.paths):
        raise InputError(
            f"No image of the run is in {printable(root)!r} any more; name the folder "
            "that they are in now with --images=DIR"
        )
    try:
        if target.exists() and any(target.iterdir()):
            raise InputError(
                f"Expected an empty or new folder, found files in "
                f"{printable(str(target))!r}; name another"
            )
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        # A run over a folder around it leaves it out.
        (unfinished / EXPORT_MARK).touch()
        for own, name in zip(images.paths, _target_names(images), strict=True):
            source = os.path.join(root, own)
            if not os.path.isfile(source):
                continue
            (unfinished / name).parent.mkdir(exist_ok=True)
            if copy:
                shutil.copyfile(source, unfinished / name)
            else:
                # As deep as where it is moved to.
                start = os.path.realpath((unfinished / name).parent)
                link = os.path.relpath(os.path.realpath(source), start)
                os.symlink(link, unfinished / name)
        if target.exists():
            target.rmdir()
        os.replace(unfinished, target)
    except OSError as error:
        advice = "choose another folder" if copy else "try copies in place of links"
        raise InputError(
            f"Can't export to {printable(str(target))!r}: "
            f"{(error.strerror or str(error)).lower()}; {advice}"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return gone


_Writer = Callable[[Assigned, Path], object]

EXPORTS: Mapping[str, tuple[str, _Writer]] = {
    "csv": ("assignments.csv", export_csv),
    "parquet": ("assignments.parquet", export_parquet),
    "labelstudio": ("label_studio.json", export_label_studio),
    "fiftyone": ("labels.json", export_fiftyone),
    "links": ("clusters", export_folders),
    "copies": ("copies", partial(export_folders, copy=True)),
}
"""Name of each format -> name of its file or folder, and what writes it."""
