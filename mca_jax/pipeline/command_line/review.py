"""The sub-command that opens a finished run in the browser, to look and to edit."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from absl import flags

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.text import printable
from mca_jax.encoders.embed_nouns import embed_nouns
from mca_jax.model.cluster_model import ClusterModel
from mca_jax.model.predict import load_encoder
from mca_jax.model.result import ClusterResult, read_result
from mca_jax.pipeline.command_line.flags import EMBEDDINGS, check_present
from mca_jax.pipeline.command_line.inputs import reopen_input
from mca_jax.pipeline.edit.describe_again import model_nouns
from mca_jax.pipeline.edit.lessons import ask_about, learn_from, with_learned
from mca_jax.pipeline.edit.reviewed import apply_groups, reviewed_images
from mca_jax.report.export import EXPORTS, export_embeddings
from mca_jax.report.images import ImageReader
from mca_jax.report.review import Groups, Review, open_review
from mca_jax.report.review.desk import Actions, Desk, Lesson
from mca_jax.report.review.guard import make_token
from mca_jax.report.review.pictures import Pictures

__all__ = ["build_desk", "review"]

_HOST = "127.0.0.1"
_RESULT = "result"
_FORMATS = {
    "csv": "table for spreadsheets",
    "parquet": "table for programs",
    "links": "a folder for each group, with links",
    "copies": "a folder for each group, with copies",
    "labelstudio": "tasks for Label Studio",
    "fiftyone": "labels for FiftyOne",
    EMBEDDINGS: "embeddings and groups for NumPy",
    _RESULT: "a run of its own, for predict and Python",
}


def _word_finder(model: ClusterModel) -> Callable[[str], np.ndarray]:
    """Return the function from a word to its place among the images."""
    known = {name.casefold(): row for row, name in enumerate(model.nouns)}

    def find(word: str) -> np.ndarray:
        row = known.get(word.casefold())
        if row is not None:
            return np.asarray(model.noun_embeddings[row], np.float32)
        if not model.encoder["fingerprint"]:
            some = ", ".join(model.nouns[:8])
            raise InputError(
                f"Nobody knows {printable(word)!r}: this run has no encoder, and words "
                f"such as {some}"
            )
        table = model_nouns(model).table
        synsets = dict(zip(table.names[::-1], table.synsets[::-1], strict=True))
        try:
            embedded = embed_nouns(
                load_encoder(model), [word], [synsets.get(word.lower(), "")]
            )
        except ValueError as error:
            raise InputError(f"Can't look for {printable(word)!r}: {error}") from error
        network = model.network
        # A second encoder of images has no words: zeros, as the nouns have there.
        width = network.mean.shape[0] - embedded.embeddings.shape[1]
        vector = np.pad(embedded.embeddings[0], (0, max(width, 0)))
        point = (vector - network.noun_mean) @ network.axes
        return point / max(float(np.linalg.norm(point)), 1e-12)

    return find


def _new_folder(folder: Path) -> Path:
    """Make the next numbered folder of exports."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
    for number in range(max(numbers, default=0) + 1, 10**6):
        path = folder / f"{number:04d}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise InputError(f"No room for more exports in {printable(str(folder))!r}")


def _export(result: ClusterResult, review: Review, groups: Groups, format: str) -> str:
    """Write groups into the workdir, and say where."""
    missing: Any = None
    try:
        folder = _new_folder(review.folder / "exports")
        if format == _RESULT:
            path = folder / _RESULT
            edit = {"action": "review", "edits": len(review.history.edits)}
            taught = with_learned(result, groups, review.folder.parent)
            apply_groups(taught, groups, edits=(edit,)).save(path)
        elif format == EMBEDDINGS:
            path = folder / "embeddings.npz"
            assigned = reviewed_images(result, groups).clusters
            export_embeddings(replace(result, assignments=assigned), path)
        else:
            name, write = EXPORTS[format]
            path = folder / name
            missing = write(reviewed_images(result, groups), path)
    except OSError as error:
        raise InputError(f"Can't export: {error.strerror or error}") from error
    note = f", without {missing} pictures that are gone" if missing else ""
    return f"Written: {printable(str(path))}{note}"


def build_desk(
    result: ClusterResult, review: Review, *, load_image: Any = None
) -> Desk:
    """Put together what the page of a review works on."""
    reader = ImageReader(result, load_image)
    formats = dict(_FORMATS)
    if not reader.available or load_image is not None:
        # Arrays and data sets have no files to link.
        formats = {name: text for name, text in formats.items() if "folder" not in text}
    workdir = review.folder.parent
    taught: dict[str, ClusterResult] = {}

    def last(groups: Groups) -> ClusterResult:
        """What was learnt last, read once."""
        if groups.learned not in taught:
            taught.clear()
            taught[groups.learned] = with_learned(result, groups, workdir)
        return taught[groups.learned]

    def learn(groups: Groups, next_id: int) -> Lesson:
        return learn_from(last(groups), groups, next_id, workdir=workdir)

    def ask(groups: Groups, skip: list[tuple[int, int]]) -> list[dict[str, Any]]:
        return ask_about(last(groups), groups, skip, result.tree)

    actions = Actions(
        learn=learn,
        ask=ask,
        find_word=_word_finder(result.model),
        export=partial(_export, result, review),
        formats=formats,
    )
    title = os.path.basename(result.root) or str(
        result.config.get("data", {}).get("dataset") or "Images"
    )
    return Desk(
        result, review, Pictures(result, reader), actions, title=printable(title)
    )


def _listen(port: int) -> socket.socket:
    """Take a port of this machine that nobody else can reach.

    Raises:
      InputError: It is taken.
    """
    check_in_range("--port", port, 0, 65535)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port and os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        # From here on a browser waits, where it would be refused.
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(
            f"Can't listen on --port={port}: {error.strerror or error}; name another, "
            "or leave it out for a free one"
        ) from error
    return listening


def _serve(app: Any, listening: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    def stop(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    # In a thread of its own: in the main one uvicorn takes the signals, and raises
    # them again when it has ended.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    for each in before:
        signal.signal(each, stop)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def review(values: flags.FlagValues) -> None:
    """Open a run in the browser, until Ctrl-C."""
    check_present(values, "run")
    try:
        from mca_jax.report.review.app import build_app
    except ImportError as error:
        raise InputError(
            "mca-jax review needs packages that are not installed: "
            "pip install 'mca-jax[review]'"
        ) from error
    result = read_result(values.run)
    load_image = None
    if result.config.get("data", {}).get("dataset"):
        inputs = reopen_input(result.config, values.data_dir)
        load_image = inputs.thumbnails(result.paths)
    elif values.images:
        # The folder may have moved since the run.
        result = replace(result, root=os.path.abspath(values.images))
    listening = _listen(values.port)
    opened = open_review(result, values.run)
    try:
        for note in opened.notes:
            print(f"Warning: {note}", file=sys.stderr)
        desk = build_desk(result, opened, load_image=load_image)
        token, port = make_token(), listening.getsockname()[1]
        address = f"http://{_HOST}:{port}/{token}/"
        app = build_app(desk, token)
        edits = len(opened.history.edits)
        kept = f" with {edits} edits" if edits else ""
        print(f"{len(result.paths):,} images{kept}: {address}")
        print(f"From another machine: ssh -L {port}:{_HOST}:{port} THIS_MACHINE")
        print("Ctrl-C ends it; every edit is kept.", flush=True)
        threading.Thread(target=desk.warm_up, daemon=True).start()
        if values.browser:
            webbrowser.open(address)
        _serve(app, listening)
    finally:
        opened.close()
        listening.close()
    print(f"\nEnded; {len(opened.history.edits)} edits are kept in {opened.folder}")
