"""A model and a whole result as files, exact to the last bit and verified when read.

Each is two files of one name, JSON and safetensors. The JSON holds the format's
version and checksums of both contents, so a file that was damaged, cut off, or left
over from another run is told from a good one. Nothing is a pickle: reading one runs
no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mca_jax.core.atomic_files import refused_by_system, write_file, write_parts
from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.text import dump_json, fingerprint, load_json, plain_json, printable
from mca_jax.model.cluster_model import (
    Cluster,
    ClusterModel,
    Memory,
    Network,
    ScoredNoun,
    Split,
)

__all__ = [
    "MODEL_FILES",
    "model_digest",
    "read_artifact",
    "read_model",
    "write_artifact",
    "write_model",
    "understood",
]

MODEL_FILES = (
    "model.safetensors",
    "model.json",
    "result.safetensors",
    "result.json",
)
"""Names of the files that a run can be resumed with."""

_VERSION = 1
_IN_MEMORY_BYTES = 2**28
_DTYPES = {
    "<f2": "F16",
    "<f4": "F32",
    "<f8": "F64",
    "<i4": "I32",
    "<i8": "I64",
    "|b1": "BOOL",
    "|u1": "U8",
}
_MODEL_ARRAYS = (
    "noun_rows",
    "noun_embeddings",
    "centers",
    "closeness",
    "groups",
)
_UNREADABLE = "name another folder, or make it readable"

_T = TypeVar("_T")


def _serialized(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file without a second copy of the arrays.

    The library would hold the file in memory; of embeddings that is gigabytes.
    """
    # The widest types first, as the library does: all are aligned then.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8)
        for part in row_blocks(flat):
            yield flat[part].data


def write_artifact(
    folder: Path, name: str, content: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Write ``name.safetensors`` and then ``name.json``.

    Args:
      folder: Folder that exists.
      name: Name of both files.
      content: What is not an array, anything that ``plain_json`` takes.
      arrays: Floats, int32, int64 or bool.

    Raises:
      InputError: A file can't be written. A ``name.json`` that is left from
        before doesn't fit the arrays then, which reading tells.
    """
    hasher = hashlib.sha256()

    def parts() -> Iterator[bytes | memoryview]:
        for part in _serialized({key: np.asarray(a) for key, a in arrays.items()}):
            hasher.update(part)
            yield part

    write_parts(folder / f"{name}.safetensors", parts())
    plain = plain_json(content)
    stored = {
        "format": f"mca_jax {name}",
        "format_version": _VERSION,
        "arrays_sha256": hasher.hexdigest(),
        "content_fingerprint": fingerprint(plain),
        "content": plain,
    }
    write_file(folder / f"{name}.json", dump_json(stored) + "\n")


def _damaged(path: Path) -> InputError:
    return InputError(
        f"Damaged file {printable(str(path))!r}: it is not what the run wrote; run it "
        "again into this workdir, its embeddings are kept"
    )


def _read_header(folder: Path, name: str) -> dict[str, Any]:
    """Read and check the JSON of an artifact.

    Raises:
      InputError: It is missing, damaged, or of another format.
    """
    path, shown = folder / f"{name}.json", printable(str(folder))
    try:
        text = path.read_bytes()
    # A ValueError is a name that no file can have.
    except (FileNotFoundError, ValueError) as error:
        if not folder.is_dir():
            raise InputError(f"No such folder: {shown!r}") from error
        raise InputError(
            f"Expected the workdir of a finished run at {shown!r}, found no "
            f"{path.name}; name the --workdir of mca-jax cluster"
        ) from error
    except OSError as error:
        raise refused_by_system("read", path, error, advice=_UNREADABLE) from error
    try:
        stored = load_json(text)
        kind, version = stored["format"], stored["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if kind != f"mca_jax {name}" or version != _VERSION:
        raise InputError(
            f"Expected {printable(str(path))!r} in format 'mca_jax {name}' version "
            f"{_VERSION}, found {printable(str(kind))!r} version {version!r}; use the "
            "version of mca_jax that wrote it"
        )
    if stored.get("content_fingerprint") != fingerprint(stored.get("content")):
        raise _damaged(path)
    return stored


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a verified safetensors file; large ones stay where they are."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    kinds = {kind: np.dtype(name) for name, kind in _DTYPES.items()}
    arrays: dict[str, np.ndarray] = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        kind, shape = kinds[about["dtype"]], tuple(about["shape"])
        if end - start > _IN_MEMORY_BYTES:
            arrays[name] = np.memmap(path, kind, "r", 8 + length + start, shape)
        else:
            count = math.prod(shape)
            flat = np.fromfile(path, kind, count, offset=8 + length + start)
            arrays[name] = flat.reshape(shape)
    return arrays


def read_artifact(
    folder: str | os.PathLike[str], name: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_artifact` wrote, and verify both files.

    Args:
      folder: Folder that it was written to.
      name: Its name.

    Returns:
      Content and arrays; those of 256 MiB or more are memory-mapped, and can't be
      written to.

    Raises:
      InputError: There is none, a file is damaged or can't be read, or another
        version of the format was written.
    """
    folder = Path(folder)
    stored = _read_header(folder, name)
    path = folder / f"{name}.safetensors"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != stored["arrays_sha256"]:
            raise _damaged(path)
        return stored["content"], _load_arrays(path)
    except KeyError as error:
        raise _damaged(path) from error
    except OSError as error:
        raise refused_by_system("read", path, error, advice=_UNREADABLE) from error


def model_digest(folder: str | os.PathLike[str]) -> str:
    """Tell two models apart without reading their arrays.

    Returns:
      16 hex digits over content and arrays.

    Raises:
      InputError: There is no model in the folder, or its JSON is damaged.
    """
    stored = _read_header(Path(folder), "model")
    return fingerprint([stored["arrays_sha256"], stored["content_fingerprint"]])


def _network_arrays(network: Network) -> dict[str, Any]:
    own = network._asdict()
    del own["constants"]
    return own


def _read_cluster(values: dict[str, Any]) -> Cluster:
    nouns = tuple(ScoredNoun(**noun) for noun in values["nouns"])
    return Cluster(
        **{**values, "nouns": nouns, "exemplars": tuple(values["exemplars"])}
    )


def write_model(model: ClusterModel, folder: str | os.PathLike[str]) -> None:
    """Write ``model.safetensors`` and ``model.json`` into a folder that exists.

    Raises:
      InputError: A file can't be written.
    """
    arrays: dict[str, Any] = {name: vars(model)[name] for name in _MODEL_ARRAYS}
    arrays["network"] = _network_arrays(model.network)
    arrays["memory"] = {
        "projected": model.memory.projected,
        "before": model.memory.before,
    }
    for index, split in enumerate(model.splits):
        own = _network_arrays(split.network)
        arrays[f"split{index}"] = {**own, "members": split.members}
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
    # Under names such as "network/params/image/weight".
    write_artifact(Path(folder), "model", content, flatten_dict(arrays, sep="/"))


def read_model(folder: str | os.PathLike[str]) -> ClusterModel:
    """Read the model that a run wrote into its workdir, and verify it.

    Raises:
      InputError: The folder is not a run's, or a file is damaged.
    """
    content, flat = read_artifact(folder, "model")
    arrays = unflatten_dict(flat, sep="/")

    def build() -> ClusterModel:
        splits = []
        for index, constants in enumerate(content["split_constants"]):
            own = dict(arrays[f"split{index}"])
            members = own.pop("members")
            splits.append(Split(members, Network(**own, constants=constants)))
        return ClusterModel(
            encoder=content["encoder"],
            config=content["config"],
            network=Network(**arrays["network"], constants=content["constants"]),
            memory=Memory(**arrays["memory"], num_near=content["num_near"]),
            nouns=tuple(content["nouns"]),
            synsets=tuple(content["synsets"]),
            glosses=tuple(content["glosses"]),
            num_neighbors=content["num_neighbors"],
            splits=tuple(splits),
            clusters=tuple(_read_cluster(values) for values in content["clusters"]),
            edits=tuple(content["edits"]),
            **{name: arrays[name] for name in _MODEL_ARRAYS},
        )

    return understood(build, Path(folder) / "model.json")


def understood(build: Callable[[], _T], path: Path) -> _T:
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
