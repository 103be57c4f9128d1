"""Writes a model or a result as JSON and safetensors, and reads it back verified.

Each is two files of one name. The JSON holds the format's version and checksums
of both contents, so a file that was damaged, cut off, or left over from another
run is told from a good one. Nothing is a pickle: reading one runs no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from mca_jax.core.atomic_files import write_parts
from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.text import dump_json, fingerprint, plain_json, printable

__all__ = [
    "artifact_digest",
    "flatten_tree",
    "nest_tree",
    "read_artifact",
    "write_artifact",
]

_VERSION = 1
_CHUNK = 2**24
_IN_MEMORY_BYTES = 2**28
_DTYPES = {
    "<f2": "F16",
    "<f4": "F32",
    "<f8": "F64",
    "<i4": "I32",
    "<i8": "I64",
    "|b1": "BOOL",
}


def flatten_tree(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Name the arrays of nested dicts by their path.

    Args:
      tree: Dicts with text keys, arrays at the leaves.
      prefix: Start of each name.

    Returns:
      Arrays under names such as ``"image/weight"``.

    Example:
      >>> list(flatten_tree({"image": {"weight": 1.0}}))
      ['image/weight']
    """
    if not isinstance(tree, Mapping):
        return {prefix: np.asarray(tree)}
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        flat |= flatten_tree(value, f"{prefix}/{name}" if prefix else name)
    return flat


def nest_tree(flat: Mapping[str, np.ndarray], prefix: str) -> Any:
    """Undo ``flatten_tree`` for the names below a prefix.

    Args:
      flat: Arrays by name.
      prefix: Start of the names, without the slash behind it.

    Returns:
      Nested dicts.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        if name.startswith(f"{prefix}/"):
            *parents, leaf = name.removeprefix(f"{prefix}/").split("/")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = value
    return tree


def _digest(path: Path) -> str:
    """SHA-256 of a file in hex, in bounded memory."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


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
    write_parts(folder / f"{name}.json", (dump_json(stored) + "\n",))


def _read_header(folder: Path, name: str) -> dict[str, Any]:
    """Read and check the JSON of an artifact.

    Raises:
      InputError: It is missing, damaged, or of another format.
    """
    path, shown = folder / f"{name}.json", printable(str(folder))
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise InputError(f"No such folder: {shown!r}") from error
        raise InputError(
            f"Expected the workdir of a finished run at {shown!r}, found no "
            f"{path.name}; name the --workdir of experiments.cluster or "
            "experiments.train"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Can't read {printable(str(path))!r}: {reason}") from error
    try:
        stored = json.loads(text)
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


def _damaged(path: Path) -> InputError:
    return InputError(
        f"Damaged file {printable(str(path))!r}: it is not what the run wrote; run it "
        "again into this workdir, its embeddings are kept"
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; large ones stay where they are."""
    if path.stat().st_size <= _IN_MEMORY_BYTES:
        return safetensors.numpy.load_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    kinds = {kind: name for name, kind in _DTYPES.items()}
    arrays: dict[str, np.ndarray] = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        kind, shape = np.dtype(kinds[about["dtype"]]), tuple(about["shape"])
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
    """Read an artifact and verify both files.

    Args:
      folder: Folder that it was written to.
      name: Its name.

    Returns:
      Content and arrays; those of a large artifact that are large themselves are
      memory-mapped, and can't be written to.

    Raises:
      InputError: There is none, a file is damaged or can't be read, or another
        version of the format was written.
    """
    folder = Path(folder)
    stored = _read_header(folder, name)
    path = folder / f"{name}.safetensors"
    try:
        if _digest(path) != stored["arrays_sha256"]:
            raise _damaged(path)
        arrays = _load(path)
    except (SafetensorError, KeyError) as error:
        raise _damaged(path) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"Can't read {printable(str(path))!r}: {reason}") from error
    return stored["content"], arrays


def artifact_digest(folder: str | os.PathLike[str], name: str) -> str:
    """Tell two artifacts apart without reading their arrays.

    Args:
      folder: Folder that it was written to.
      name: Its name.

    Returns:
      16 hex digits over content and arrays.

    Raises:
      InputError: There is none, or its JSON is damaged.
    """
    stored = _read_header(Path(folder), name)
    return fingerprint([stored["arrays_sha256"], stored["content_fingerprint"]])
