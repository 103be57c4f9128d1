"""Files of a Hugging Face checkpoint: found, mapped, hashed, and their licence.

Weights come from safetensors or from Flax's msgpack. Pickles are never opened:
reading one runs whatever code its author put in.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mca_jax.core.errors import InputError, InputWarning
from mca_jax.core.text import load_json, printable
from mca_jax.encoders.huggingface.twins import twin_of

__all__ = [
    "OPEN_CLIP_CONFIG",
    "find_checkpoint",
    "find_open_clip",
    "find_tokenizer",
    "find_weights",
    "hash_files",
    "read_json",
    "read_licence",
    "read_model_type",
    "read_timm_name",
    "read_weights",
]

_SAFETENSORS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MSGPACK = "flax_model.msgpack"
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OPEN_CLIP = "open_clip_model.safetensors"
OPEN_CLIP_CONFIG = "open_clip_config.json"
"""Name of open_clip's configuration."""
_CONFIGS = ("config.json", OPEN_CLIP_CONFIG)
# Repositories whose main revision holds only a pickle -> where safetensors are.
_REVISIONS = {"openai/clip-vit-large-patch14-336": "refs/pr/8"}
# Pull requests that are asked for safetensors.
_MOST_REQUESTS = 10
_SMALL_FILES = (
    "1_Pooling/config.json",
    "README.md",
    "added_tokens.json",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "modules.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_SHARDS = "model-*-of-*.safetensors"

_INSTEAD = (
    "pass a local folder that holds the checkpoint, or use the embedded encoder lite"
)

# Names of licences on model cards that are SPDX's but for case.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "mit": "MIT",
}

_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "BOOL": np.bool_,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "I8": np.int8,
    "U8": np.uint8,
}


def find_checkpoint(
    checkpoint: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the local folder of a checkpoint, downloading it if need be.

    Downloads are resumable and cached by ``huggingface_hub``; with
    ``HF_HUB_OFFLINE=1`` only its cache is looked at. Of the repository only
    configuration, tokenizer and one form of the weights are fetched.

    Args:
      checkpoint: A local folder, or an id such as
        ``"openai/clip-vit-base-patch32"``.
      revision: Branch, tag or commit on the hub; None is the main branch.
      cache_dir: Where the hub's files are cached; None is its usual place.

    Returns:
      A folder with config.json or open_clip_config.json in it.

    Raises:
      InputError: There is no such folder, the hub can't be reached or refuses, or
        what was found is no checkpoint.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return _with_config(folder, checkpoint)
    if folder.exists():
        raise InputError(
            f"Expected {printable(checkpoint)} to be the folder of a checkpoint, found "
            "a file; name the folder it is in"
        )
    if checkpoint.startswith((".", "~", os.sep)):
        raise InputError(f"No folder {printable(checkpoint)} to load an encoder from")
    arguments = {"revision": revision, "cache_dir": cache_dir}
    found = _download(checkpoint, _SMALL_FILES, arguments)
    _with_config(found, checkpoint)
    is_timm = bool(read_timm_name(found)) and find_open_clip(found) is None
    if read_model_type(found) or is_timm:
        _download(checkpoint, (_SAFETENSORS, _INDEX, _SHARDS), arguments)
    if not _has_safetensors(found) and (found / OPEN_CLIP_CONFIG).is_file():
        _download(checkpoint, (_OPEN_CLIP,), arguments)
    elif not _has_safetensors(found):
        _download(checkpoint, (_MSGPACK,), arguments)
    return found


def find_tokenizer(folder: Path, tokenizer: str) -> Path:
    """Return the folder of a tokenizer: the checkpoint's own, else one from the hub.

    Args:
      folder: Local folder of the checkpoint.
      tokenizer: What the checkpoint's configuration names, an id on the hub.

    Raises:
      InputError: The checkpoint has none and the hub's can't be had.
    """
    if any((folder / name).is_file() for name in _TOKENIZERS):
        return folder
    try:
        return _download(tokenizer, _SMALL_FILES, {"revision": None, "cache_dir": None})
    except InputError as error:
        raise InputError(
            f"No tokenizer.json in {folder}, and that of {printable(tokenizer)}, which "
            "it is to have, can't be downloaded; put its files into the folder"
        ) from error


def read_model_type(folder: Path) -> str:
    """Return the type of a model in config.json, as transformers names it.

    It is empty where there is none: timm and open_clip may have a config.json too,
    of their own.
    """
    path = folder / "config.json"
    content = read_json(path) if path.is_file() else None
    return str(content.get("model_type", "")) if isinstance(content, dict) else ""


def read_timm_name(folder: Path) -> str:
    """Return the architecture in a config.json of timm, empty in any other."""
    path = folder / "config.json"
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or "model_type" in content:
        return ""
    return str(content.get("architecture", ""))


def find_open_clip(folder: Path) -> Path | None:
    """Return the configuration of open_clip if the folder is in its layout.

    Where both layouts are there, that of transformers is taken if its weights are.
    """
    path = folder / OPEN_CLIP_CONFIG
    if not path.is_file():
        return None
    if read_model_type(folder):
        others = (_has_safetensors(folder), (folder / _MSGPACK).is_file())
        if any(others) or not (folder / _OPEN_CLIP).is_file():
            return None
    return path


def _has_safetensors(folder: Path) -> bool:
    return (folder / _SAFETENSORS).is_file() or (folder / _INDEX).is_file()


def _with_config(folder: Path, checkpoint: str) -> Path:
    """Return the folder if it has a configuration."""
    if not any((folder / name).is_file() for name in _CONFIGS):
        raise InputError(
            f"No config.json in {printable(checkpoint)}: this is no checkpoint in the "
            f"layout of Hugging Face transformers{_advise(folder, checkpoint)}"
        )
    return folder


def _advise(folder: Path, checkpoint: str) -> str:
    """Return what to do with a folder that has no configuration at its top."""
    twin = twin_of(checkpoint)
    if twin:
        return f"; {twin} is the same in that layout"
    path = folder / "modules.json"
    modules = read_json(path) if path.is_file() else []
    for module in modules if isinstance(modules, list) else []:
        nested = str(module.get("path", ""))
        if nested.startswith("0_") and Path(nested).name == nested:
            return (
                f", but sentence-transformers' old one; its model lies in {nested}: "
                f"pass that folder, downloaded by hf download, in place of this"
            )
    return ""


def _find_cached(
    checkpoint: str, cache_dir: str | os.PathLike[str] | None
) -> Path | None:
    """Return the newest cached revision of a repository with a configuration."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=checkpoint, repo_type="model")
    revisions = Path(cache_dir or constants.HF_HUB_CACHE) / name / "snapshots"
    for folder in _newest(revisions):
        if any((folder / name).is_file() for name in _CONFIGS):
            warnings.warn(
                InputWarning(
                    f"The main revision of {checkpoint} is not in the local cache and "
                    f"the hub can't be reached; revision {folder.name} is taken"
                ),
                stacklevel=2,
            )
            return folder
    return None


def _newest(folder: Path) -> list[Path]:
    """Return the folders in a folder, the newest first."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    folders = [path for path in inside if path.is_dir()]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def _other_revisions(folder: Path) -> list[Path]:
    """Return the other cached revisions of a folder in the hub's cache."""
    if folder.parent.name != "snapshots":
        return []
    return [path for path in _newest(folder.parent) if path != folder]


def _download(
    checkpoint: str, patterns: Iterable[str], arguments: Mapping[str, Any]
) -> Path:
    """Fetch some files of a repository into the hub's cache."""
    # Imported here: most runs use the embedded encoder and never need the hub.
    from huggingface_hub import errors, snapshot_download

    name = printable(checkpoint)
    try:
        # The user's own progress bar stands on stderr already.
        return Path(
            snapshot_download(checkpoint, allow_patterns=list(patterns), **arguments)
        )
    except errors.GatedRepoError as error:
        raise InputError(
            f"Checkpoint {name} needs its terms accepted on the hub and a login "
            f"(hf auth login); or {_INSTEAD}"
        ) from error
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError) as error:
        revision = arguments["revision"]
        of = f" at revision {printable(revision)}" if revision else ""
        raise InputError(
            f"No checkpoint {name}{of} on the hub, or it is private; check the name, "
            f"{_INSTEAD}"
        ) from error
    except errors.HFValidationError as error:
        raise InputError(
            f"{name} is neither a local folder nor an id on the hub such as "
            f"openai/clip-vit-base-patch32; {_INSTEAD}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        cached = None
        if not arguments["revision"]:
            cached = _find_cached(checkpoint, arguments["cache_dir"])
        if cached is not None:
            return cached
        raise InputError(
            f"Checkpoint {name} is not in the local cache and the hub can't be "
            f"reached; {_INSTEAD}"
        ) from error
    except Exception as error:
        # Time-outs, a full disk, a refused connection half-way: the classes
        # differ between versions of the hub's client, the way out does not.
        reason = printable(str(error).strip().split("\n")[0]) or type(error).__name__
        raise InputError(
            f"Could not download checkpoint {name}: {reason}; {_INSTEAD}"
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
      InputError: It can't be read or is no JSON.
    """
    try:
        return load_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"Can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON; download it again") from error


def find_weights(folder: Path, *, source: str) -> list[Path]:
    """Return the files that hold the weights of a checkpoint.

    That is one safetensors file, or all shards of one, or one msgpack file. In the
    hub's cache those of another revision will do where this one has none: many
    repositories hold safetensors only in a pull request. ``source`` is the
    checkpoint's name, for messages.

    Raises:
      InputError: There are none, or only pickled ones, or a shard is absent.
    """
    others = _other_revisions(folder)
    for each in (folder, *others):
        files = _weights_in(each, is_open_clip=find_open_clip(folder) is not None)
        if files and each != folder:
            warnings.warn(
                InputWarning(
                    f"The cached revision {folder.name} of {source} has no weights; "
                    f"those of revision {each.name} are taken"
                ),
                stacklevel=2,
            )
        if files:
            return files
    raise _no_weights(folder, others, source)


def _weights_in(folder: Path, *, is_open_clip: bool) -> list[Path]:
    """Return the files of weights in one folder, empty if there are none."""
    if is_open_clip:
        return [folder / _OPEN_CLIP] if (folder / _OPEN_CLIP).is_file() else []
    if (folder / _SAFETENSORS).is_file():
        return [folder / _SAFETENSORS]
    if (folder / _INDEX).is_file():
        return _shards(folder / _INDEX)
    return [folder / _MSGPACK] if (folder / _MSGPACK).is_file() else []


def _no_weights(folder: Path, others: list[Path], source: str) -> InputError:
    """Return the error for a checkpoint whose weights can't be read."""
    name = printable(source)
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    pickles = pickles or _pickles_on_hub(source)
    if pickles:
        revision = _revision_with_safetensors(source)
        way_out = f"convert it to {_SAFETENSORS} or take another checkpoint"
        if revision:
            way_out = (
                f"its revision {revision} has safetensors: set encoder.revision to "
                f"{revision}, or fetch it with hf download {name} "
                f"--revision={revision} --local-dir=FOLDER and pass that folder"
            )
        return InputError(
            f"{name} has its weights only as a pickle ({printable(pickles[0])}), which "
            f"runs code when it is read; {way_out}"
        )
    expected = f"{_SAFETENSORS} and no {_MSGPACK}"
    if find_open_clip(folder) is not None:
        expected = f"{_OPEN_CLIP} and no {_SAFETENSORS}"
    if folder.parent.name != "snapshots":
        return InputError(f"No {expected} in {name}")
    revisions = ", ".join(path.name for path in (folder, *others))
    return InputError(
        f"No {expected} of {name} in the local cache, which holds the rest of "
        f"revision {revisions}; fetch it with hf download {name}"
    )


def _revision_with_safetensors(checkpoint: str) -> str:
    """Return the pull request on the hub that holds safetensors, empty if unknown."""
    if checkpoint in _REVISIONS or Path(checkpoint).expanduser().exists():
        return _REVISIONS.get(checkpoint, "")
    # Imported here: most runs use the embedded encoder and never need the hub.
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        refs = api.list_repo_refs(checkpoint, include_pull_requests=True)
        requests = [each.ref for each in refs.pull_requests or []]
        for revision in requests[-_MOST_REQUESTS:]:
            if api.file_exists(checkpoint, _SAFETENSORS, revision=revision):
                return revision
    except Exception:
        # Only a better message depends on the answer.
        return ""
    return ""


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names."""
    content = read_json(index)
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise InputError(f"No weight_map in {index}; download it again")
    shards = []
    for name in sorted({str(file) for file in files.values()}):
        # An index is data from outside: it must not lead out of its folder.
        if Path(name).name != name or not os.path.isfile(index.parent / name):
            raise InputError(
                f"No file {printable(name)} beside {index}, which names it; download "
                "the checkpoint again"
            )
        shards.append(index.parent / name)
    return shards


def _pickles_on_hub(checkpoint: str) -> list[str]:
    """Return the pickles in a hub repository; none if it can't be asked."""
    if Path(checkpoint).expanduser().exists():
        return []
    # Imported here: most runs use the embedded encoder and never need the hub.
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(checkpoint)
    except Exception:
        # Only a better message depends on the answer.
        return []
    return sorted(name for name in names if name.endswith(_PICKLES))


def read_weights(files: Iterable[Path]) -> dict[str, np.ndarray]:
    """Map the tensors of weight files into memory.

    Returns:
      Name -> array, under the names and in the layout of the reference's PyTorch
      checkpoints. Arrays from safetensors are read-only views of the mapped file,
      whose pages are read when they are touched.

    Raises:
      InputError: A file is truncated, or not what its name says, or two files
        hold a tensor of one name.
    """
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        is_flax = file.suffix == ".msgpack"
        part = _read_msgpack(file) if is_flax else _map_safetensors(file)
        twice = tensors.keys() & part.keys()
        if twice:
            raise InputError(f"Tensor {min(twice)} is in {file} and in another file")
        tensors |= part
    return tensors


def _damaged(file: Path, reason: str) -> InputError:
    """Return the error for a file that isn't whole."""
    with file.open("rb") as stream:
        if stream.read(8) == b"version ":
            return InputError(
                f"{file} is only a pointer of git-lfs; fetch the file with git lfs pull"
            )
    return InputError(
        f"{file} is truncated or damaged ({reason}); delete it and download it again"
    )


def _map_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Map one safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        # Opening checks that the header fits the file and that tensors neither
        # overlap nor leave gaps. It copies what it reads, hence the views below.
        with safe_open(file, framework="np"):
            pass
    except SafetensorError as error:
        raise _damaged(file, str(error)) from error
    except OSError as error:
        raise InputError(f"Can't read {file}: {error}") from error
    content = np.memmap(file, np.uint8, mode="r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(
                f"Tensor {printable(name)} in {file} has the unsupported type "
                f"{entry['dtype']}; take an unquantised checkpoint"
            )
        begin, end = (start + offset for offset in entry["data_offsets"])
        tensors[name] = content[begin:end].view(dtype).reshape(entry["shape"])
    return tensors


def _read_msgpack(file: Path) -> dict[str, np.ndarray]:
    """Read a Flax checkpoint and name its tensors as PyTorch's are."""
    from flax import serialization, traverse_util

    try:
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            # Typed for bytes, but any buffer will do: a mapped one isn't read twice.
            tree: Any = serialization.msgpack_restore(content)  # pyright: ignore
        named = traverse_util.flatten_dict(tree, sep=".")
        flat = {str(name): np.asarray(leaf) for name, leaf in named.items()}
    except Exception as error:
        # The parser has no error class of its own: a cut file may end in any.
        raise _damaged(file, type(error).__name__) from error
    if any(array.dtype.kind in "OSU" for array in flat.values()):
        raise _damaged(file, "something else than numbers")
    return dict(_from_flax(name, array) for name, array in flat.items())


def _from_flax(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Return name and layout that a Flax tensor has in PyTorch."""
    stem, _, kind = name.rpartition(".")
    if kind == "kernel" and array.ndim == 4:
        return f"{stem}.weight", array.transpose(3, 2, 0, 1)
    if kind == "kernel":
        return f"{stem}.weight", array.T
    if kind in ("scale", "embedding"):
        return f"{stem}.weight", array
    return name, array


def hash_files(settings: object, files: Iterable[Path]) -> str:
    """SHA-256 in hex of settings, by their ``repr``, and of name and content of files.

    Files that are absent don't count.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                part = hashlib.file_digest(stream, "sha256")
            digest.update(f"{file.name} {part.hexdigest()}".encode())
    return digest.hexdigest()


def read_licence(folder: Path) -> str:
    """Return the licence in the front matter of a checkpoint's model card.

    It is SPDX's name where that is known, else what the card says; ``"unknown"``
    without a card or a licence on it.
    """
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = (
        re.search(r"^license:\s*['\"]?([\w.+-]+)", front[1], re.M) if front else None
    )
    if found is None:
        return "unknown"
    return _SPDX.get(found[1].lower(), found[1])
