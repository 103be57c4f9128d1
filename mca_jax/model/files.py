"""A model and a whole result as files, exact to the last bit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable
from mca_jax.data.files import SkippedImage
from mca_jax.model.artifact import (
    flatten_tree,
    nest_tree,
    read_artifact,
    write_artifact,
)
from mca_jax.model.cluster_model import ClusterModel, Memory, Network, Split
from mca_jax.model.result import Cluster, ClusterResult, ScoredNoun

__all__ = ["MODEL_FILES", "read_model", "read_result", "write_model", "write_result"]

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "result.safetensors",
    "result.json",
)
"""Names of the files that a run can be gone on with."""

_MODEL_ARRAYS = (
    "noun_rows",
    "noun_embeddings",
    "centers",
    "closeness",
    "groups",
)
_RESULT_TEXTS = (
    "root",
    "status",
    "metrics",
    "history",
    "audit",
    "warnings",
    "config",
    "provenance",
)

_T = TypeVar("_T")


def _network_arrays(network: Network, prefix: str) -> dict[str, np.ndarray]:
    own = network._asdict()
    del own["constants"]
    return flatten_tree(own, prefix)


def _read_network(
    arrays: Mapping[str, np.ndarray], constants: dict[str, Any], prefix: str
) -> Network:
    return Network(
        mean=arrays[f"{prefix}/mean"],
        axes=arrays[f"{prefix}/axes"],
        noun_mean=arrays[f"{prefix}/noun_mean"],
        params=nest_tree(arrays, f"{prefix}/params"),
        constants=constants,
    )


def _read_cluster(values: dict[str, Any]) -> Cluster:
    nouns = tuple(ScoredNoun(**noun) for noun in values["nouns"])
    return Cluster(
        **{**values, "nouns": nouns, "exemplars": tuple(values["exemplars"])}
    )


def write_model(model: ClusterModel, folder: str | os.PathLike[str]) -> None:
    """Write ``model.safetensors`` and ``model.json``.

    Args:
      model: The model.
      folder: Folder that exists.

    Raises:
      InputError: A file can't be written.
    """
    arrays = {name: vars(model)[name] for name in _MODEL_ARRAYS}
    arrays |= _network_arrays(model.network, "network")
    arrays["memory/projected"] = model.memory.projected
    arrays["memory/before"] = model.memory.before
    for index, split in enumerate(model.splits):
        arrays |= _network_arrays(split.network, f"split{index}")
        arrays[f"split{index}/members"] = split.members
    content = {
        "encoder": model.encoder,
        "config": model.config,
        "constants": model.network.constants,
        "split_constants": [split.network.constants for split in model.splits],
        "num_neighbors": model.num_neighbors,
        "num_near": model.memory.num_near,
        "clusters": [asdict(cluster) for cluster in model.clusters],
        "edits": model.edits,
        "nouns": model.nouns,
        "synsets": model.synsets,
        "glosses": model.glosses,
    }
    write_artifact(Path(folder), "model", content, arrays)


def read_model(folder: str | os.PathLike[str]) -> ClusterModel:
    """Read the model that a run wrote, and verify it.

    Args:
      folder: Workdir of the run.

    Returns:
      The model.

    Raises:
      InputError: The folder is not a run's, or a file is damaged.
    """
    content, arrays = read_artifact(folder, "model")

    def build() -> ClusterModel:
        splits = tuple(
            Split(
                arrays[f"split{index}/members"],
                _read_network(arrays, constants, f"split{index}"),
            )
            for index, constants in enumerate(content["split_constants"])
        )
        return ClusterModel(
            encoder=content["encoder"],
            config=content["config"],
            network=_read_network(arrays, content["constants"], "network"),
            memory=Memory(
                arrays["memory/projected"],
                arrays["memory/before"],
                content["num_near"],
            ),
            nouns=tuple(content["nouns"]),
            synsets=tuple(content["synsets"]),
            glosses=tuple(content["glosses"]),
            num_neighbors=content["num_neighbors"],
            splits=splits,
            clusters=tuple(_read_cluster(values) for values in content["clusters"]),
            edits=tuple(content["edits"]),
            **{name: arrays[name] for name in _MODEL_ARRAYS},
        )

    return _understood(build, Path(folder) / "model.json")


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    """Read numbers back; JSON has no NaN."""
    return {name: math.nan if v is None else v for name, v in values.items()}


def _understood(build: Callable[[], _T], path: Path) -> _T:
    """Build something from what was read.

    Raises:
      InputError: A part is missing.
    """
    try:
        return build()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"Expected all parts of a run in {printable(str(path))!r}, found none of "
            f"{error}; run it again into this workdir"
        ) from error


def write_result(result: ClusterResult, folder: str | os.PathLike[str]) -> None:
    """Write ``result.safetensors`` and ``result.json``, and the model.

    Everything but the times, so that two runs with one seed write equal files.

    Args:
      result: A result with a model.
      folder: Folder that exists.

    Raises:
      InputError: A file can't be written.
    """
    write_model(result.model, folder)
    arrays = {
        "embeddings": result.embeddings,
        "assignments": result.assignments,
        "probabilities": result.probabilities,
        **{
            f"baselines/{name}": np.asarray(each, np.int32)
            for name, each in result.baselines.items()
        },
    }
    if result.neighbors is not None:
        arrays["neighbors"] = np.asarray(result.neighbors, np.int32)
    content = {
        "paths": result.paths,
        "skipped": [asdict(image) for image in result.skipped],
        "baselines": list(result.baselines),
        **{name: vars(result)[name] for name in _RESULT_TEXTS},
    }
    write_artifact(Path(folder), "result", content, arrays)


def read_result(folder: str | os.PathLike[str]) -> ClusterResult:
    """Read the result that a run wrote, with its model.

    Args:
      folder: Workdir of the run.

    Returns:
      The result as it was, but without times; infinities have become NaN.

    Raises:
      InputError: The folder is not a run's, or a file is damaged.
    """
    model = read_model(folder)
    content, arrays = read_artifact(folder, "result")

    def build() -> ClusterResult:
        texts = {name: content[name] for name in _RESULT_TEXTS}
        texts["history"] = tuple(_numbers(row) for row in content["history"])
        if "label_free" in texts["metrics"]:
            texts["metrics"]["label_free"] = _numbers(texts["metrics"]["label_free"])
        texts["warnings"] = tuple(content["warnings"])
        return ClusterResult(
            **texts,
            paths=tuple(content["paths"]),
            assignments=arrays["assignments"],
            probabilities=arrays["probabilities"],
            clusters=model.clusters,
            skipped=tuple(SkippedImage(**image) for image in content["skipped"]),
            seconds={},
            embeddings=arrays["embeddings"],
            params=model.network.params,
            baselines={
                name: arrays[f"baselines/{name}"] for name in content["baselines"]
            },
            neighbors=arrays.get("neighbors"),
            model=model,
        )

    return _understood(build, Path(folder) / "result.json")
