"""Reads thousands of damaged files of every kind: a value, or a line that says why."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import tarfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from benchmarks.faults.images import image_files
from benchmarks.faults.jobs import Report
from benchmarks.faults.mutations import mutate, mutate_json
from mca_jax.core.errors import InputError, InputWarning
from mca_jax.data import DecodeError, decode_image

__all__ = ["FAMILIES", "Tried", "run_files", "try_files"]

_MOST_SECONDS = 5.0
_HANGS_AFTER = 120.0
_WIDTH = 8


class Target(NamedTuple):
    """A file to damage, and what reads it.

    Attributes:
      path: Where in a folder it lies; an image is read from memory, and has none.
      content: What it holds when it is whole.
      read: Reads it, or what it is a part of, in a folder.
      change: Damages its content.
    """

    path: str
    content: bytes
    read: Callable[[Path], object]
    change: Callable[[np.random.Generator, bytes], bytes] = mutate


class _Family(NamedTuple):
    """Files that are read alike.

    Attributes:
      make: Writes them whole into an empty folder; returns what to damage.
      weight: Share of all tries, beside the others' shares.
    """

    make: Callable[[Path], list[Target]]
    weight: int


def _images(folder: Path) -> list[Target]:
    def read(folder: Path) -> object:
        # Also as small as an encoder wants it, which is another way through.
        content = (folder / "image").read_bytes()
        decode_image(content or b"\0", min_side=16)
        return decode_image(content or b"\0").size

    return [Target("image", content, read) for content in image_files().values()]


def _archive(folder: Path, mode: str) -> bytes:
    for number in range(4):
        path = folder / "set" / f"c{number % 2}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.random.default_rng(number).bytes(300) + bytes(2000))
    buffer = io.BytesIO()
    if mode == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted((folder / "set").rglob("*.bin")):
                zipped.write(path, path.relative_to(folder))
    else:
        with tarfile.open(fileobj=buffer, mode=cast(Any, f"w:{mode}")) as tape:
            tape.add(folder / "set", "set")
    shutil.rmtree(folder / "set")
    return buffer.getvalue()


def _archives(folder: Path) -> list[Target]:
    from mca_jax.data.datasets.archives import unpack

    def read(folder: Path) -> object:
        out = folder / "unpacked"
        out.mkdir()
        limits = {"max_bytes": 2**20, "max_files": 100}
        try:
            return unpack(folder / "archive", out, top="set", **limits)
        finally:
            # Whole, or nothing at all.
            left = {path.name for path in out.iterdir()}
            assert left <= {"set"}, f"left in the folder: {left}"

    modes = ("zip", "zip", "", "gz", "bz2", "xz")
    return [Target("archive", _archive(folder, mode), read) for mode in modes]


def _weights(folder: Path) -> list[Target]:
    from flax import serialization
    from safetensors.numpy import save

    from mca_jax.encoders.huggingface.checkpoint_files import find_weights, read_weights

    random = np.random.default_rng(0)
    tensors = {
        f"layer{row}.weight": random.normal(size=(4, 6)).astype(np.float32)
        for row in range(3)
    }
    (folder / "config.json").write_text("{}")

    def read(folder: Path) -> object:
        found = read_weights(find_weights(folder, source="it"))
        return sum(len(each.tobytes()) for each in found.values())

    whole = save(tensors)
    name = "model-00001-of-00001.safetensors"
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}

    def read_shards(folder: Path) -> object:
        (folder / name).write_bytes(whole)
        return read(folder)

    return [
        Target("model.safetensors", whole, read),
        Target("flax_model.msgpack", serialization.msgpack_serialize(tensors), read),
        Target(
            "model.safetensors.index.json",
            json.dumps(index).encode(),
            read_shards,
            mutate_json,
        ),
    ]


def _small_result() -> Any:
    """A finished run over made-up embeddings."""
    import mca_jax

    axes = np.eye(8, dtype=np.float32)
    images = np.repeat(axes[:4], 15, axis=0)
    images += 0.1 * np.random.default_rng(0).standard_normal(images.shape, np.float32)
    return mca_jax.cluster(
        image_embeddings=images,
        noun_embeddings=axes,
        nouns=[f"noun {row}" for row in range(len(axes))],
        num_clusters=4,
        config=mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=2"]),
    )


def _runs(folder: Path) -> list[Target]:
    import mca_jax
    from mca_jax.model.files import MODEL_FILES

    _small_result().save(folder)

    def read(folder: Path) -> object:
        return mca_jax.load_result(folder).clusters

    return [Target(name, (folder / name).read_bytes(), read) for name in MODEL_FILES]


def _reviews(folder: Path) -> list[Target]:
    import mca_jax
    from mca_jax.report.review.history import open_review, read_review

    _small_result().save(folder)
    result = mca_jax.load_result(folder)
    review = open_review(result, folder)
    ids = sorted(review.history.groups.names)
    for event in (
        {"action": "rename", "group": ids[0], "name": "pets"},
        {"action": "merge", "groups": ids[1:3]},
        {"action": "undo"},
        {"action": "redo"},
        {"action": "move", "rows": [0, 1], "group": ids[0]},
        {"action": "version", "name": "one"},
    ):
        with contextlib.suppress(InputError):
            review.add(event)
    review.close()
    path = folder / "review" / "events.jsonl"
    whole = path.read_bytes()
    assert whole.count(b"\n") > 3, "no event was taken"

    def change(random: np.random.Generator, content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        row = int(random.integers(len(lines)))
        lines[row] = mutate_json(random, lines[row]) + b"\n"
        return b"".join(lines)

    def read(folder: Path) -> object:
        history = read_review(result, folder)
        again = open_review(result, folder)
        again.close()
        return history and history.edits

    return [
        Target("review/events.jsonl", whole, read, change),
        Target("review/events.jsonl", whole, read),
    ]


def _caches(folder: Path) -> list[Target]:
    from mca_jax.data import FileIdentity
    from mca_jax.encoders.cache.embedding_cache import EmbeddingCache

    random = np.random.default_rng(0)
    table = random.normal(size=(20, _WIDTH)).astype(np.float32)
    digests = [bytes([row]) * 32 for row in range(len(table))]
    cache = EmbeddingCache(folder, "small", "key")
    cache.add(digests, table)
    for row, digest in enumerate(digests):
        cache.files.record(f"/{row}.jpg", FileIdentity(row, 2, 3, 4), digest)
    cache.flush()

    def read(folder: Path) -> object:
        found = EmbeddingCache(folder, "small", "key")
        for digest, row in zip(digests, table, strict=True):
            kept = found.get(digest)
            assert kept is None or np.array_equal(kept, row), "another embedding"
        for row, digest in enumerate(digests):
            known = found.files.lookup(f"/{row}.jpg", FileIdentity(row, 2, 3, 4))
            assert known in (None, digest), "another digest"
        if found.warnings:
            raise InputError(found.warnings[0])
        return len(found)

    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [
        Target(path.relative_to(folder).as_posix(), path.read_bytes(), read)
        for path in sorted(paths)
    ]


def _checkpoints(folder: Path) -> list[Target]:
    from mca_jax.training.checkpoints import Checkpointer

    tree: Any = _snapshot()
    messages: list[str] = []

    def open_them(folder: Path) -> Checkpointer:
        return Checkpointer(
            folder / "train",
            identity={"settings": 1},
            on_event=lambda event, values: messages.append(values.get("text", "")),
        )

    keeper = open_them(folder)
    keeper.save(tree, 1.0)
    keeper.wait()

    def read(folder: Path) -> object:
        messages.clear()
        found = open_them(folder).restore(tree)
        assert found is None or np.array_equal(found.pass_params, tree.pass_params)
        if any(messages):
            raise InputError(next(filter(None, messages)))
        return found

    return [
        Target(path.relative_to(folder).as_posix(), path.read_bytes(), read)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _snapshot() -> Any:
    """Stands for a snapshot of training: only its tree matters."""
    import jax
    import jax.numpy as jnp

    from mca_jax.training.checkpoints import Snapshot

    class Named(NamedTuple):
        step: jax.Array
        weights: jax.Array

    state: Any = Named(jnp.array(4), jnp.arange(12.0).reshape(3, 4))
    params: Any = jnp.ones(5)
    monitor: Any = jnp.zeros(3)
    return Snapshot(state, params, monitor)


def _texts(folder: Path) -> list[Target]:
    from mca_jax.model.constraints import read_constraints
    from mca_jax.report.workdir import prepare_workdir
    from mca_jax.semantics import load_nouns

    paths = [f"{row}.jpg" for row in range(9)]
    said = {
        "must_link": [["0.jpg", "1.jpg"], ["1.jpg", "2.jpg"]],
        "cannot_link": [["0.jpg", "5.jpg"]],
        "labels": [["4.jpg", 1], ["6.jpg", 0]],
        "nowhere": ["8.jpg"],
    }
    settings = {"images": "/photos", "seed": 0, "train": {"epochs": 3}}
    prepare_workdir(folder / "out", settings)
    config = (folder / "out" / "config.json").read_bytes()

    def read_config(folder: Path) -> object:
        (folder / "out" / "result.json").write_text("{}")
        outputs = ("result.json",)
        return prepare_workdir(folder / "out", settings, outputs=outputs)

    nouns = "\n".join(["cat, animal", "dog, animal", "boat", "house", "straße", "猫"])
    return [
        Target(
            "constraints.json",
            json.dumps(said).encode(),
            lambda folder: read_constraints(folder / "constraints.json", paths),
            mutate_json,
        ),
        Target("out/config.json", config, read_config, mutate_json),
        Target(
            "nouns.txt",
            nouns.encode(),
            lambda folder: load_nouns(str(folder / "nouns.txt")),
        ),
    ]


FAMILIES: Mapping[str, _Family] = {
    "images of 33 kinds": _Family(_images, 50),
    "zip and tar archives": _Family(_archives, 10),
    "safetensors, msgpack, index": _Family(_weights, 10),
    "model and result": _Family(_runs, 10),
    "checkpoints": _Family(_checkpoints, 4),
    "embedding cache (npy, npz)": _Family(_caches, 8),
    "events of a review": _Family(_reviews, 5),
    "constraints, settings, nouns": _Family(_texts, 3),
}
"""What is damaged, by the name that the table has for it."""


class Tried(NamedTuple):
    """What came of one damaged file: ``"read"`` or ``"refused"``, and what is wrong."""

    outcome: str
    wrong: str


def _describe(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    name = os.path.basename(place.filename)
    return f"{type(error).__name__}: {str(error)[:200]!r} ({name}:{place.lineno})"


def _try(target: Target, folder: Path) -> Tried:
    """Read one damaged file."""
    began = time.monotonic()
    try:
        target.read(folder)
        tried = Tried("read", "")
    except (InputError, DecodeError) as error:
        text = str(error)
        tried = Tried("refused", "" if text and "\n" not in text else repr(text))
    except BaseException as error:
        tried = Tried("other errors", _describe(error))
    spent = time.monotonic() - began
    if spent > _MOST_SECONDS and not tried.wrong:
        tried = tried._replace(wrong=f"took {spent:.1f} s")
    return tried


def try_files(
    name: str, root: Path, tries: int, seed: int, *, skip: int = 0
) -> Iterator[tuple[str, Tried]]:
    """Damage and read files of one family.

    Args:
      name: The family, one of ``FAMILIES``.
      root: A folder to work in; ``current`` there tells what is being read.
      tries: How many.
      seed: Draws what is damaged.
      skip: How many not to read any more.

    Yields:
      Number and path of each file, and what came of it.
    """
    whole, box = root / "whole", root / "box"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    targets = FAMILIES[name].make(whole)
    for number in range(skip, tries):
        random = np.random.default_rng([seed, number])
        target = targets[number % len(targets)]
        shutil.rmtree(box, ignore_errors=True)
        shutil.copytree(whole, box)
        path = box / target.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(target.change(random, target.content))
        where = f"{number} {target.path}"
        (root / "current").write_text(where)
        yield where, _try(target, box)


def _work(name: str, folder: str, tries: int, seed: int, skip: int) -> None:
    """Damage and read files in a process of its own; a line of JSON for each."""
    root = Path(folder)
    noise = os.open(root / "noise", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(noise, 1)
    os.dup2(noise, 2)
    warnings.simplefilter("ignore", InputWarning)
    shown = before = None
    with (root / "tried").open("a") as lines:
        for where, tried in try_files(name, root, tries, seed, skip=skip):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            size = os.fstat(noise).st_size
            # What was there before the first file was read is no fault.
            before, shown = before or peak, size if shown is None else shown
            wrong = tried.wrong or "writes to the terminal" * (size > shown)
            shown = size
            entry = [tried.outcome, wrong, where, (peak - before) >> 10]
            lines.write(json.dumps(entry) + "\n")
            lines.flush()


def _watch(name: str, root: Path, tries: int, seed: int) -> Report:
    """Run a worker to its end; a crash or a hang of it is one more defect."""
    context = multiprocessing.get_context("spawn")
    path, done, crashed = root / "tried", 0, []
    path.touch()
    while done < tries:
        arguments = (name, str(root), tries, seed, done)
        process = context.Process(target=_work, args=arguments)
        process.start()
        seen, since = done, time.monotonic()
        while process.is_alive() and time.monotonic() - since < _HANGS_AFTER:
            process.join(0.2)
            count = path.read_bytes().count(b"\n")
            if count > seen:
                seen, since = count, time.monotonic()
        hung = process.is_alive()
        if hung:
            process.kill()
            process.join()
        done = path.read_bytes().count(b"\n")
        if done < tries:
            current = (root / "current").read_text()
            end = "hangs" if hung else f"ends the process with {process.exitcode}"
            with path.open("a") as lines:
                lines.write(json.dumps(["crashed", end, current, 0]) + "\n")
            crashed.append(end)
            done += 1
            if len(crashed) > 20:
                raise RuntimeError(f"{name}: {(root / 'noise').read_text()[-2000:]}")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    defects = [f"{name} {where}: {wrong}" for _, wrong, where, _ in entries if wrong]
    outcomes = Counter(outcome for outcome, *_ in entries)
    outcomes["MiB more memory"] = max(grown for *_, grown in entries)
    strangers = {each.name for each in root.iterdir()}
    strangers -= {"noise", "whole", "box", "current", "tried"}
    defects += [f"{name}: {each} lies outside the folder" for each in strangers]
    return Report(len(entries), outcomes, defects)


def run_files(folder: Path, tries: int, seed: int) -> dict[str, Report]:
    """Damage files of each family, read them, and see what comes of it.

    Args:
      folder: An empty folder.
      tries: How many in all.
      seed: Draws what is damaged.

    Returns:
      What came of each family.
    """
    weights = sum(family.weight for family in FAMILIES.values())
    reports = {}
    for number, (name, family) in enumerate(FAMILIES.items()):
        root = folder / f"files-{number}"
        root.mkdir()
        count = max(round(tries * family.weight / weights), 1)
        reports[name] = _watch(name, root, count, seed)
        print(f"{name}: {reports[name].tried}, {dict(reports[name].outcomes)}")
        for defect in reports[name].defects[:40]:
            print(f"  {defect}", flush=True)
    return reports
