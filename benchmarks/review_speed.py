"""How fast the page of a review is: opening, edits as they are shown, memory.

python -m benchmarks.review_speed --run=OUT [--count=200000] [--workdir=DIR]

Takes a finished run with pictures and copies it to a new folder below ``--workdir``;
``--count`` repeats its images up to so many. Needs Chromium (``MCA_CHROMIUM`` names
one).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mca_jax.model.result import read_result
from mca_jax.model.tree import ClusterTree

__all__ = ["main"]

_TESTS = Path(__file__).resolve().parents[1] / "tests"
# What a window does, timed from the key to the frame that shows it.
_TIMED = """(async () => {
  const framed = () => new Promise((done) => requestAnimationFrame(
    () => setTimeout(done)));
  const start = performance.now();
  await %s;
  await framed();
  return performance.now() - start;
})()"""
_MOVE = (
    "edit('move', {rows: shown.images.slice(0, 5).map((image) => image.row), "
    "into: state.groups[1].id})"
)
_MERGE = "edit('merge', {groups: [state.groups[0].id, state.groups[1].id]})"
_PAINT = (
    "Math.max(...performance.getEntriesByType('paint').map((entry) => entry.startTime))"
)
_READY = """new Promise((done) => {
  const look = () => document.body.dataset.ready
    && [...document.images].slice(0, 20).every((image) => image.complete)
    ? done(performance.now()) : setTimeout(look, 5);
  look();
})"""


def enlarge(run: Path, folder: Path, count: int) -> None:
    """Write a run whose images are those of another one, over and over."""
    result = read_result(run)
    rows = np.arange(count or len(result.paths)) % len(result.paths)
    tree = result.tree
    if tree is not None:
        tree = ClusterTree(
            tree.splits, tree.leaves[rows], tree.names, tree.guesses, tree.base
        )
    sizes = np.bincount(
        result.assignments[rows], minlength=len(result.clusters)
    ).tolist()
    clusters = tuple(replace(each, size=sizes[each.index]) for each in result.clusters)
    replace(
        result,
        paths=tuple(result.paths[row] for row in rows),
        assignments=result.assignments[rows],
        probabilities=result.probabilities[rows],
        embeddings=np.asarray(result.embeddings, np.float32)[rows],
        neighbors=None,
        digests=None,
        pictures=None,
        baselines={},
        clusters=clusters,
        model=replace(result.model, clusters=clusters),
        tree=tree,
    ).save(folder)


def memory(process: int) -> dict[str, float]:
    """GiB of a process: held now, without files that are mapped, and at most."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = dict(re.findall(r"(VmRSS|RssAnon|VmHWM):\s+(\d+)", text))
    return {name: int(value) / 2**20 for name, value in found.items()}


def _median(browser: Any, script: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        times.append(browser.evaluate(_TIMED % script))
        browser.evaluate("edit('undo')")
        browser.evaluate("openGroup(state.groups[0].id)")
    return statistics.median(times)


def measure(run: Path, repeats: int) -> dict[str, float]:
    """Open a run in a browser, and edit it."""
    from chromium_pipe import (  # pyright: ignore[reportMissingImports]
        Chromium,
        find_chromium,
    )

    executable = find_chromium()
    if executable is None:
        raise SystemExit("No Chromium found; MCA_CHROMIUM names one")
    command = [sys.executable, "-m", "mca_jax.pipeline.command_line.main", "review"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(run), "--nobrowser"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found: dict[str, float] = {"server starts s": time.perf_counter() - started}
        address = line.split(": ", 1)[1].strip()
        with (
            tempfile.TemporaryDirectory() as profile,
            Chromium(executable, Path(profile)) as browser,
        ):
            opened = []
            for _ in range(repeats):
                browser.open(address)
                ready = browser.evaluate(_READY)
                opened.append((browser.evaluate(_PAINT), ready))
            for place, name in enumerate(("first paint ms", "first pictures ms")):
                found[name] = statistics.median(each[place] for each in opened)
                found[f"{name}, first time"] = opened[0][place]
            found["move shown ms"] = _median(browser, _MOVE, repeats)
            found["merge shown ms"] = _median(browser, _MERGE, repeats)
            like = "openFound('like', 'ask/like?row=0')"
            browser.evaluate(like)
            found["like this shown ms"] = _median(browser, like, repeats)
            found |= {
                f"server {name} GiB": value
                for name, value in memory(process.pid).items()
            }
    finally:
        process.terminate()
        process.communicate()
    return found


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--workdir", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    sys.path.insert(0, str(_TESTS))
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: edits that somebody made to the run stay theirs.
        run = Path(arguments.workdir or scratch) / "copy"
        enlarge(arguments.run, run, arguments.count)
        found = measure(run, arguments.repeats)
        print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
