"""Edits of a finished clustering: rename, merge, split, run again, save.

What someone does after looking at the report. Each edit takes a result and returns
another one; nothing is changed in place, and no image is embedded again. The model
of the new result places new images by the edited clusters, and holds the list of
all edits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mca_jax.core.arrays import as_whole_number
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.progress import Callback
from mca_jax.core.random import RunKeys, make_keys
from mca_jax.core.text import printable
from mca_jax.core.types import PRNGKey
from mca_jax.model.calibration import calibrate
from mca_jax.model.cluster_model import NONE_OF_THESE, ClusterModel, Network, Split
from mca_jax.model.predict import project_images
from mca_jax.model.result import ClusterResult, read_result
from mca_jax.pipeline.assembly import host_network
from mca_jax.pipeline.cluster import cluster as run_clustering
from mca_jax.pipeline.config import (
    Config,
    Overrides,
    apply_overrides,
    config_from_dict,
    config_to_dict,
    list_overrides,
)
from mca_jax.pipeline.edit.describe_again import describe_again, model_nouns
from mca_jax.pipeline.edit.lessons import reviewed_result
from mca_jax.pipeline.stages import (
    build_setup,
    cluster_images,
    gather_data,
    project,
    train_heads,
)
from mca_jax.report.workdir import prepare_workdir
from mca_jax.report.write import OUTPUT_FILES, write_outputs

__all__ = [
    "load_result",
    "merge_clusters",
    "rename_cluster",
    "rerun",
    "save_version",
    "split_cluster",
]

_LONGEST_NAME = 100
# Ids that a message names.
_MOST_NAMED = 12


def load_result(
    folder: str | os.PathLike[str],
    *,
    reviewed: bool = True,
    version: str | None = None,
) -> ClusterResult:
    """Load the result of a finished run, to edit it.

    Args:
      folder: Workdir of the run, or of a saved version.
      reviewed: Whether the edits that were made with ``mca-jax review`` count.
      version: Name that they were kept under there; None takes the last ones.

    Returns:
      The result as it was, but without times, or as it was edited.

    Raises:
      InputError: The folder is not a finished run's, a file of it is damaged, the
        edits are of another state of the run, or no version has the name.

    Example:
      >>> import tempfile
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     files = write_outputs(result, folder)
      ...     again = load_result(folder)
      >>> bool((again.assignments == result.assignments).all())
      True
    """
    result = read_result(folder)
    if not reviewed and version is None:
        return result
    return reviewed_result(result, folder, version=version)


def _model_of(result: ClusterResult) -> ClusterModel:
    """Return the model of a result.

    Raises:
      InputError: It has none.
    """
    if result.model is None:
        raise InputError(
            "Expected a result from mca_jax.cluster or mca_jax.load, found one "
            "without a model"
        )
    return result.model


def _find(result: ClusterResult, cluster: int) -> int:
    """Find the index of a cluster by its id.

    Raises:
      InputError: No cluster has the id, or none has it any more.
    """
    for each in result.clusters:
        if each.id == cluster:
            return each.index
    known = ", ".join(str(each.id) for each in result.clusters[:_MOST_NAMED])
    known += ", ..." if len(result.clusters) > _MOST_NAMED else ""
    message = f"Expected the id of a cluster, one of {known}; found {cluster}"
    for edit in reversed(_model_of(result).edits):
        into = edit.get("into")
        if edit["action"] == "merge" and cluster in edit["clusters"]:
            message += f", which was merged into {into}"
            break
        if edit["action"] == "split" and cluster == edit["cluster"]:
            message += f", which was split into {into}"
            break
    raise InputError(message)


def _free_id(result: ClusterResult) -> int:
    """An id that no cluster ever had: beyond all columns, and what a review made."""
    model = _model_of(result)
    return max(len(model.groups), 1 + max(each.id for each in result.clusters))


def _check_name(name: str, others: Sequence[str]) -> str:
    """Check a name that a user gives to a cluster.

    Raises:
      InputError: It can't be printed, or another cluster has it.
    """
    if not isinstance(name, str):
        raise InputError(f"Expected a name as text, found {name!r:.80}")
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or printable(name) != name:
        raise InputError(
            f"Expected a printable name of 1 to {_LONGEST_NAME} characters, found "
            f"{printable(name)[:_LONGEST_NAME]!r}"
        )
    if name.casefold() in {NONE_OF_THESE, *(each.casefold() for each in others)}:
        raise InputError(f"Expected a name that nothing else has, found {name!r}")
    return name


def rename_cluster(result: ClusterResult, cluster: int, name: str) -> ClusterResult:
    """Give a cluster another name.

    Args:
      result: A result with a model.
      cluster: Id of the cluster.
      name: Its new name, unlike all others.

    Returns:
      A new result; images and nouns stay.

    Raises:
      InputError: There is no such cluster, or the name won't do.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> rename_cluster(result, 0, "my pets").clusters[0].name
      'my pets'
    """
    model, index = _model_of(result), _find(result, cluster)
    before = result.clusters[index].name
    others = [each.name for each in result.clusters if each.index != index]
    name = _check_name(name, others)
    if name == before:
        return result
    clusters = list(result.clusters)
    clusters[index] = replace(clusters[index], name=name, guess=False)
    tree = result.tree and result.tree.rename(before, name)
    edit = {"action": "rename", "cluster": cluster, "from": before, "to": name}
    edited = replace(model, clusters=tuple(clusters), edits=(*model.edits, edit))
    return replace(result, clusters=tuple(clusters), model=edited, tree=tree)


def merge_clusters(
    result: ClusterResult, clusters: Sequence[int], *, name: str | None = None
) -> ClusterResult:
    """Make one cluster of several.

    It keeps the lowest of their ids, and all others keep theirs; indices have no
    gaps, so those behind move up. Its images are exactly theirs, and its probability
    is the sum of theirs.

    Args:
      result: A result with a model.
      clusters: Ids of at least two clusters.
      name: Name of the new cluster; None names it by its images' nouns.

    Returns:
      A new result. Scores against labels are left out: score it again.

    Raises:
      InputError: There are fewer than two, one is no cluster or stands there
        twice, all would become one, or the name won't do.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> merged = merge_clusters(result, [0, 1], name="both")
      >>> [(each.id, each.size) for each in merged.clusters]
      [(0, 40), (2, 20)]
    """
    model, count = _model_of(result), len(result.clusters)
    if isinstance(clusters, str | bytes) or not isinstance(clusters, Iterable):
        raise InputError(f"Expected clusters as a list of ids, found {clusters!r:.80}")
    ids = sorted(as_whole_number("the id of a cluster", each) for each in clusters)
    wanted = sorted(_find(result, cluster) for cluster in ids)
    if len(wanted) < 2 or len(set(wanted)) < len(wanted):
        raise InputError(f"Expected two or more different clusters, found {ids}")
    if len(wanted) == count:
        raise InputError(f"Expected some of the clusters, found all {len(wanted)}")
    first, others = wanted[0], set(wanted[1:])
    staying = [index for index in range(count) if index not in others]
    if name is not None:
        kept = [result.clusters[index].name for index in staying if index != first]
        name = _check_name(name, kept)
    moved = np.array(
        [staying.index(first if i in others else i) for i in range(count)], np.int32
    )
    edit = {
        "action": "merge",
        "clusters": ids,
        "names": [result.clusters[_find(result, each)].name for each in ids],
        "into": ids[0],
    }
    return describe_again(
        result,
        replace(
            model,
            groups=np.where(model.groups < 0, -1, moved[model.groups]).astype(np.int32),
            edits=(*model.edits, edit),
        ),
        origins=[None if index == first else index for index in staying],
        ids={staying.index(first): ids[0]},
        names={staying.index(first): name},
    )


@overload
def split_cluster(
    result: ClusterResult,
    cluster: int,
    /,
    *,
    seed: int,
    num_parts: int = 2,
    overrides: Overrides = (),
) -> ClusterResult: ...


@overload
def split_cluster(
    key: PRNGKey,
    result: ClusterResult,
    cluster: int,
    /,
    *,
    num_parts: int = 2,
    overrides: Overrides = (),
) -> ClusterResult: ...


def split_cluster(
    *arguments: Any,
    seed: int | None = None,
    num_parts: int = 2,
    overrides: Overrides = (),
) -> ClusterResult:
    """Cut one cluster into parts, by running the method inside of it.

    Called as ``split_cluster(result, cluster, seed=0)``, or with a key of one's own in
    front: ``split_cluster(key, result, cluster)``. All parts have new ids, which no
    cluster had before. The first part keeps the index; the others come behind all
    clusters. Together the parts hold exactly its images.

    Args:
      *arguments: A result with a model and the id of the cluster, behind the key if
        there is no seed.
      seed: Seed of all that is random, at least 0.
      num_parts: Number of parts, at least 2.
      overrides: Settings other than those of the run, such as
        ``{"train.epochs": 10}`` or ``["train.epochs=10"]``.

    Returns:
      A new result. Scores against labels are left out: score it again.

    Raises:
      InputError: There is no such cluster, it has fewer images than parts, or a
        setting is wrong.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> merged = merge_clusters(result, [0, 2])
      >>> parts = split_cluster(merged, 0, seed=0)
      >>> [(each.id, each.size) for each in parts.clusters]
      [(3, 20), (1, 20), (4, 20)]
    """
    if len(arguments) != (3 if seed is None else 2):
        raise TypeError(
            "Expected split_cluster(result, cluster, seed=0) or split_cluster(key, "
            f"result, cluster), found {len(arguments)} arguments and seed={seed}"
        )
    key = arguments[0] if seed is None else jax.random.key(seed)
    result, cluster = arguments[-2:]
    model, index = _model_of(result), _find(result, cluster)
    rows = np.flatnonzero(result.assignments == index)
    num_parts = as_whole_number("num_parts", num_parts)
    check_in_range("num_parts", num_parts, 2, max(len(rows), 1))
    config = apply_overrides(config_from_dict(model.config), overrides)
    config = replace(config, num_clusters=num_parts)
    split = _train_inside(make_keys(key), model, result.embeddings[rows], config)
    members, count = model.groups == index, len(result.clusters)
    ids = [_free_id(result) + part for part in range(num_parts)]
    indices = [index, *range(count, count + num_parts - 1)]
    edit = {
        "action": "split",
        "cluster": cluster,
        "name": result.clusters[index].name,
        "into": ids,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "overrides": list_overrides(overrides),
    }
    groups = np.concatenate([np.where(members, -1, model.groups), indices])
    return describe_again(
        result,
        replace(
            model,
            splits=(*model.splits, Split(members, split)),
            groups=groups.astype(np.int32),
            edits=(*model.edits, edit),
        ),
        origins=[
            None if each in indices else each for each in range(count + num_parts - 1)
        ],
        ids=dict(zip(indices, ids, strict=True)),
        names={},
    )


def _train_inside(
    keys: RunKeys, model: ClusterModel, embeddings: np.ndarray, config: Config
) -> Network:
    """Run the method on the images of one cluster."""
    images = jnp.asarray(project_images(model, embeddings))
    # All its nouns passed the filters of the run already.
    inside = project(images, model_nouns(model), config)
    kmeans = cluster_images(keys.kmeans, inside.images, config)
    prepared = gather_data(keys, inside.images, kmeans, inside.nouns, config)
    data, setup = prepared.data, build_setup(prepared.data, config)
    fit = train_heads(
        *(keys.training, setup, data, prepared.initialization, config),
        text_share=prepared.text_share,
    )
    params = calibrate(
        keys.calibration,
        setup.heads,
        fit.params,
        images=data.images,
        image_neighbors=data.image_neighbors,
        assignments=fit.assignments,
    )
    return host_network(inside, setup, params)


def rerun(
    result: ClusterResult,
    overrides: Overrides,
    *,
    images: str | os.PathLike[str] | np.ndarray | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    callback: Callback | None = None,
) -> ClusterResult:
    """Cluster the same images again with other settings.

    Args:
      result: A result with a model.
      overrides: What to change, such as ``{"num_clusters": 30, "seed": 1}`` or
        ``["num_clusters=30", "seed=1"]``.
      images: Folder or pixels; None takes the folder of ``result``.
      cache_dir: Folder with embeddings, such as ``embeddings`` in the workdir of
        the run; None embeds all images again.
      callback: Told about progress.

    Returns:
      A new result. The earlier edits are in its history, not in its clusters.

    Raises:
      InputError: A setting is wrong, or there are no images to read.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> rerun(example_result(), {"num_clusters": 2})
      Traceback (most recent call last):
      mca_jax.core.errors.InputError: Expected images, found none: this run was made \
from arrays, which are not kept; pass them, or call cluster with the embeddings
    """
    model = _model_of(result)
    config = apply_overrides(config_from_dict(model.config), overrides)
    if images is None:
        images = result.root
    if isinstance(images, str) and not images:
        raise InputError(
            "Expected images, found none: this run was made from arrays, which are "
            "not kept; pass them, or call cluster with the embeddings"
        )
    again = run_clustering(
        images,
        config=config,
        cache_dir=cache_dir,
        baselines=[name for name in result.baselines if name != "kmeans"],
        callback=callback,
    )
    edit = {"action": "rerun", "overrides": list_overrides(overrides)}
    edited = replace(_model_of(again), edits=(*model.edits, edit))
    # What a launcher noted beside the settings goes with the images.
    noted = {name: v for name, v in result.config.items() if name not in model.config}
    return replace(again, model=edited, config={**config_to_dict(config), **noted})


def save_version(
    result: ClusterResult,
    workdir: str | os.PathLike[str],
    *,
    load_image: Callable[[int], Image.Image] | None = None,
    command: str | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write an edited result to a folder of its own, with its report.

    Args:
      result: A result with a model.
      workdir: Folder of the version; parents are created.
      load_image: As for ``write_outputs``.
      command: As for ``write_outputs``.
      overwrite: Whether a folder of another version is taken over.

    Returns:
      Path of each file by its name.

    Raises:
      InputError: The folder belongs to another version, or can't be written.

    Example:
      >>> import tempfile
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     files = save_version(rename_cluster(result, 0, "pets"), folder)
      ...     load_result(folder).model.edits[0]["to"]
      'pets'
    """
    model = _model_of(result)
    settings = result.config
    if model.edits:
        settings = {**settings, "edits": [_sentence(edit) for edit in model.edits]}
    prepare_workdir(workdir, settings, overwrite=overwrite, outputs=OUTPUT_FILES)
    return write_outputs(
        replace(result, config=settings),
        workdir,
        load_image=load_image,
        command=command,
    )


def _sentence(edit: dict[str, Any]) -> str:
    """Say in one line what an edit did."""
    details = ", ".join(
        f"{name} {printable(str(value))}"
        for name, value in edit.items()
        if name != "action" and value != []
    )
    return f"{edit['action']}: {details}"
