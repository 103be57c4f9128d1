"""Bad command lines and calls: each is one line, and nothing is written."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from benchmarks.faults.jobs import Report
from mca_jax.core.errors import InputError

__all__ = ["run_calls"]

_BAD = (
    *("", " ", "-1", "0", "1e400", "nan", "none", "{empty}", "{file}", "{missing}"),
    *("{run}", "caf\udce9", "a\nb", "x" * 300, "../..", "*", "--", "=", "[]", "0x10"),
)
# A whole line of each command; one of its flags is given a bad value.
_LINES: Mapping[str, Mapping[str, str]] = {
    "cluster": {
        "images": "{few}",
        "num_clusters": "9",
        "workdir": "{out}",
        "seed": "0",
        "set": "train.epochs=1",
        "encoder": "lite",
        "labels": "folders",
        "config": "{missing}",
        "constraints": "{file}",
        "thumbnails": "embed",
        "dataset": "{missing}",
    },
    "embed": {"images": "{empty}", "workdir": "{out}", "set": "train.epochs=1"},
    "train": {"images": "{few}", "num_clusters": "9", "workdir": "{out}"},
    "evaluate": {"run": "{missing}", "labels": "folders", "images": "{empty}"},
    "predict": {"run": "{run}", "images": "{empty}", "workdir": "{out}"},
    "update": {"run": "{missing}", "outlier_quantile": "0.05"},
    "export": {"run": "{missing}", "workdir": "{out}", "formats": "csv"},
    "review": {"run": "{missing}", "port": "0"},
}
_SETTINGS = (
    *("train.epochs", "train.batch_size", "encoder.name", "data.max_megapixels"),
    *("semantics.vocabulary", "checkpoint.keep", "retrieval.num_neighbors", "no.such"),
    *("train", "", "train.", "encoder.dtype", "encoder.batch_size", "num_clusters"),
)


def _line(random: np.random.Generator, known: Mapping[str, str]) -> list[str]:
    """A command line with something wrong in it."""
    command = list(_LINES)[random.integers(len(_LINES))]
    flags = dict(_LINES[command])
    name = list(flags)[random.integers(len(flags))]
    kind = random.integers(6)
    words = []
    if kind == 0:
        del flags[name]
    elif kind == 1:
        flags[name + "s"] = flags.pop(name)
    elif kind == 2:
        words.append(_BAD[random.integers(len(_BAD))])
    elif kind == 3 and "set" in flags:
        setting = _SETTINGS[random.integers(len(_SETTINGS))]
        flags["set"] = f"{setting}={_BAD[random.integers(len(_BAD))]}"
    else:
        flags[name] = _BAD[random.integers(len(_BAD))]
    words += [f"--{flag}={value}" for flag, value in flags.items()]
    for name, value in known.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return [command, *words]


def _run(words: list[str]) -> tuple[int, str]:
    """Exit status of a command line and what it says of errors."""
    from mca_jax.pipeline.command_line.main import main

    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return main(words), err.getvalue()
    finally:
        signal.signal(signal.SIGTERM, handler)


def _results(out: Path) -> list[str]:
    """What looks like the result of a run."""
    known = ("assignments.csv", "report.html", "model.json", "result.json")
    return [name for name in known if (out / name).exists()]


def _try_line(words: list[str], out: Path) -> tuple[str, str]:
    """Run a bad line; name the outcome, and say what is wrong with it."""
    try:
        status, said = _run(words)
    except BaseException as error:
        return "other errors", f"{type(error).__name__}: {str(error)[:200]}"
    told = [line for line in said.splitlines() if line.startswith("Error: ")]
    if status == 0:
        return "taken as it is", ""
    if status != 2 or len(told) != 1:
        return "other ends", f"status {status}, said {said[:300]!r}"
    if _results(out):
        return "one line", f"wrote {_results(out)}"
    return "one line", ""


def _bad_calls() -> dict[str, Callable[[], Any]]:
    """Calls of the library that can't be right, by what is wrong with each."""
    import mca_jax

    axes = np.eye(6, dtype=np.float32)
    rows = np.repeat(axes[:3], 4, axis=0)
    good: dict[str, Any] = {
        "image_embeddings": rows,
        "noun_embeddings": axes,
        "nouns": [*"abcdef"],
        "num_clusters": 3,
        "config": mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=1"]),
    }

    def call(**changed: Any) -> Callable[[], Any]:
        given = {**good, **changed}
        return lambda: mca_jax.cluster(
            **{name: value for name, value in given.items() if value is not ...}
        )

    values: dict[str, tuple[Any, ...]] = {
        "image_embeddings": (
            *(None, "x", 3, [], [[]], rows[0], rows[None], rows[:0], rows * np.nan),
            *(rows * 0, rows.astype(str), rows.astype(complex), [[1, 2], [3]], {}),
            *(rows * np.float32(1e30), rows.astype(bool).tolist()[0], rows[:, :0]),
            *(rows[:2], np.datetime64("2020"), [None] * 3, object(), rows[:1]),
        ),
        "noun_embeddings": (
            *(None, "x", 3, [], axes[:3], axes[:, :3], axes * np.inf, axes * 0, {}),
            *(axes[None], [object()] * 6, [["a"] * 6] * 6),
        ),
        "nouns": (
            *(None, "abcdef", b"abcdef", [], [*"abcde"], [*"abcdea"], [1] * 6),
            *([*"abcde", ""], [*"abcde", "a\nb"], [*"abcde", None], {}, 5),
        ),
        "num_clusters": (
            *(1, 0, -3, 13, 2.5, True, "x", "auto:9", "auto:9-2", [3], np.nan),
            *("", "auto:1-3", 10**30, np.inf, "3.5", {}, b"3"),
        ),
        "images": ("nowhere", 3, [], ["a.jpg", axes], b"x", "", object()),
        "view_embeddings": (3, rows, rows[:, None], "x", np.full((2, 2, 6), np.nan)),
    }
    calls: dict[str, Callable[[], Any]] = {}
    for name, wrong in values.items():
        for number, value in enumerate(wrong):
            calls[f"cluster: {name} {number}"] = call(**{name: value})
    pixels = [
        np.zeros((2, 8, 8, 5), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.full((2, 8, 8, 3), 300.0),
        np.zeros((2, 0, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.int64),
        [Image.new("RGB", (4, 4)), "a.jpg"],
    ]
    for number, value in enumerate(pixels):
        without = dict.fromkeys(("image_embeddings", "noun_embeddings", "nouns"), ...)
        calls[f"cluster: pixels {number}"] = call(images=value, **without)
    for number, path in enumerate(("", "nowhere", os.devnull, "\ud800", "a\0b", ".")):
        calls[f"load: {number}"] = lambda path=path: mca_jax.load(path)
        calls[f"load_result: {number}"] = lambda path=path: mca_jax.load_result(path)
    for number, text in enumerate(
        ("train.epochs=x", "train.epochs=-1", "no=1", "=", "train=1", "seed=1.5")
    ):
        calls[f"apply_overrides: {number}"] = lambda text=text: mca_jax.apply_overrides(
            mca_jax.Config(), [text]
        )
    return calls


def _edits(folder: Path) -> dict[str, Callable[[], Any]]:
    """Bad edits of a finished run, which is written into a folder."""
    import mca_jax

    axes = np.eye(6, dtype=np.float32)
    result = mca_jax.cluster(
        image_embeddings=np.repeat(axes[:3], 6, axis=0),
        noun_embeddings=axes,
        nouns=[*"abcdef"],
        num_clusters=3,
        config=mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=1"]),
    )
    mca_jax.save_version(result, folder)
    calls: dict[str, Callable[[], Any]] = {}
    for number, groups in enumerate(([], [0], [0, 0], [0, 9], [-1, 0], ["a", 1], None)):
        calls[f"merge_clusters: {number}"] = lambda groups=groups: (
            mca_jax.merge_clusters(result, cast(Any, groups))
        )
    wrong: tuple[Any, ...] = (9, -1, "a", 0.5, None)
    for number, group in enumerate(wrong):
        calls[f"split_cluster: {number}"] = lambda group=group: mca_jax.split_cluster(
            result, group, seed=0
        )
        calls[f"rename_cluster: {number}"] = lambda group=group: mca_jax.rename_cluster(
            result, group, "x"
        )
    for number, name in enumerate(("", " ", "a\nb", 3, None)):
        calls[f"rename_cluster: name {number}"] = lambda name=name: (
            mca_jax.rename_cluster(result, 0, cast(Any, name))
        )
    return calls


def _try_call(call: Callable[[], Any]) -> tuple[str, str]:
    """Make a bad call; name the outcome, and say what is wrong with it."""
    try:
        call()
    except InputError as error:
        text = str(error)
        return "one line", "" if text and "\n" not in text else repr(text)
    except BaseException as error:
        return "other errors", f"{type(error).__name__}: {str(error)[:200]}"
    return "taken as it is", ""


def run_calls(folder: Path, tries: int, seed: int) -> Report:
    """Make bad calls, all that there are, and as many bad command lines as are left.

    Args:
      folder: An empty folder.
      tries: How many calls and lines in all.
      seed: Draws the lines.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    random = np.random.default_rng(seed)
    known = {name: str(folder / name) for name in ("few", "empty", "run", "missing")}
    for name in ("few", "empty", "elsewhere"):
        (folder / name).mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16), (90 * number, 0, 0)).save(
            folder / "few" / f"{number}.png"
        )
    known |= {"file": str(folder / "file"), "out": str(folder / "out")}
    (folder / "file").write_text("[1, 2")
    outcomes: Counter[str] = Counter()
    defects: list[str] = []
    tried = []
    here = os.getcwd()
    os.chdir(folder / "elsewhere")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, call in {**_edits(folder / "run"), **_bad_calls()}.items():
                tried.append((name, *_try_call(call)))
            while len(tried) < tries:
                words = _line(random, known)
                tried.append((" ".join(words), *_try_line(words, folder / "out")))
    finally:
        os.chdir(here)
    for name, outcome, wrong in tried:
        outcomes[outcome] += 1
        defects += [f"{name!r:.300}: {wrong}"] if wrong else []
        if outcome == "taken as it is":
            print(f"taken as it is: {name!r:.200}")
    left = {each.name for each in folder.iterdir()}
    left -= {"few", "empty", "run", "file", "out", "elsewhere"}
    left |= {each.name for each in (folder / "elsewhere").iterdir()}
    defects += [f"{name} lies outside the workdir" for name in sorted(left)]
    return Report(len(tried), outcomes, defects)
