"""What answers are worth: a simulated user, who knows the classes, is asked.

python -m benchmarks.teaching --runs=DIR[,DIR] [--answers=0,20,100,500]

Each DIR is the workdir of a finished run over a folder whose sub-folders are classes.
Labels are read by the simulated user and by the scores alone. An answer is one key: of
a pair, yes or no; beside several groups, which of them or none (two fit where the run
has two groups of one class: then the answer names both). Lines of the table:

- pairs: the pairs that ``questions`` asks about, then ``learn``
- choices: the same with six choices
- random pairs: pairs of random images, then ``learn``
- random choices: random images beside the six likeliest groups, then ``learn``
- COP: k-means that keeps the links of ``choices`` exactly, from the run's clusters
- PCK: k-means that pays for each link that it breaks (Basu et al., 2004), the same
- page: what *Learn* of ``mca-jax review`` shows; its questions, twenty at a time, are
  answered as its keys do
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mca_jax.data import folder_labels
from mca_jax.evaluation import score_clustering
from mca_jax.model.constraints import (
    Closure,
    Constraints,
    as_constraints,
    close_constraints,
)
from mca_jax.model.questions import TOGETHER, Question, choose_questions
from mca_jax.model.result import ClusterResult, read_result
from mca_jax.model.teaching import Belief, Points
from mca_jax.neighbors.constrained import constrained_kmeans
from mca_jax.pipeline.command_line.review import build_desk
from mca_jax.pipeline.teach import (
    believe,
    find_parts,
    learn,
    settle,
    teaching_points,
)
from mca_jax.report.review import REVIEW_FOLDER, open_review

__all__ = [
    "LINES",
    "Lesson",
    "answer_all",
    "main",
    "penalized_kmeans",
    "teach",
    "use_page",
]

LINES = ("pairs", "choices", "random pairs", "random choices", "COP", "PCK", "page")
_CHOICES = 6
# One question at a time up to here, then so many at once, as on the review page.
_SINGLY, _TOGETHER = 100, 20


class Lesson(NamedTuple):
    """A run that is taught, and what is the same for all answers."""

    result: ClusterResult
    labels: np.ndarray
    points: Points


def open_lesson(folder: Path) -> Lesson:
    """Read a finished run and the classes of its images."""
    result = read_result(folder)
    labels, _ = folder_labels(result.paths)
    return Lesson(result, np.asarray(labels), teaching_points(result))


def answer_all(
    asked: Sequence[Question], labels: np.ndarray, said: Constraints
) -> Constraints:
    """Answer questions as someone would who knows the classes."""
    for each in asked:
        own = [row for row in each.choices if labels[row] == labels[each.a]]
        said = said.join(each.answer(*own))
    return said


Ask = Callable[[Belief, Closure, int], Sequence[Question]]


def _asks(lesson: Lesson, line: str, seed: int) -> Ask:
    """What a line asks next, given what is known and how much was answered."""
    choices = _CHOICES if line in ("choices", "random choices") else 1
    random, count = np.random.default_rng(seed), len(lesson.labels)
    parts = find_parts(lesson.result, lesson.points)

    def chosen(belief: Belief, closure: Closure, many: int) -> Sequence[Question]:
        return choose_questions(
            *(lesson.points, belief, closure, parts, many),
            choices=choices,
        )

    def drawn(belief: Belief, closure: Closure, many: int) -> Sequence[Question]:
        del closure
        found = []
        while len(found) < many:
            one, two = (int(row) for row in random.integers(count, size=2))
            rows = (two,)
            if choices > 1:
                order = np.argsort(-belief.probabilities[one], kind="stable")
                rows = tuple(int(belief.leads[g]) for g in order[:choices])
            if one not in rows:
                found.append(
                    Question("border", one, rows[0], TOGETHER, (0, 0), 1.0, rows)
                )
        return found

    return drawn if line.startswith("random") else chosen


def teach(
    lesson: Lesson, line: str, budgets: Sequence[int], *, seed: int = 0
) -> dict[int, Constraints]:
    """Answer questions one after the other; return what was said by each budget."""
    ask, count = _asks(lesson, line, seed), len(lesson.labels)
    said, answered, found = Constraints(), 0, {}
    for budget in sorted(budgets):
        while answered < budget:
            closure = close_constraints(
                as_constraints(said, lesson.result.paths), count
            )
            belief = believe(lesson.result, lesson.points, closure)
            step = 1 if answered < _SINGLY and line in LINES[:2] else _TOGETHER
            many = min(step, budget - answered)
            asked = ask(belief, closure, many)
            if not asked:
                break
            said = answer_all(asked, lesson.labels, said)
            answered += len(asked)
        found[budget] = said
    return found


def _directions(points: np.ndarray, clusters: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, clusters, points)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def penalized_kmeans(
    points: np.ndarray, centers: np.ndarray, said: Constraints, *, rounds: int = 20
) -> np.ndarray:
    """Cluster so that squared distances and one for each broken link are least."""
    links: dict[int, list[tuple[int, float]]] = {}
    for pairs, worth in ((said.must_link, 1.0), (said.cannot_link, -1.0)):
        for one, two in pairs.tolist():
            links.setdefault(one, []).append((two, worth))
            links.setdefault(two, []).append((one, worth))
    clusters = (points @ centers.T).argmax(axis=1)
    for _ in range(rounds):
        # Half the squared distance of unit vectors is one less the cosine.
        gains = 2.0 * points @ centers.T
        renewed = gains.argmax(axis=1)
        renewed[list(links)] = clusters[list(links)]
        for row, others in links.items():
            own = gains[row].copy()
            for other, worth in others:
                own[renewed[other]] += worth
            renewed[row] = own.argmax()
        if (renewed == clusters).all():
            break
        clusters = renewed
        centers = _directions(points, clusters, len(centers))
    return clusters.astype(np.int32)


def _score(lesson: Lesson, line: str, said: Constraints, by: str) -> float:
    """ACC of what is learnt from some statements; no label is read before."""
    rows = as_constraints(said, lesson.result.paths)
    closure = close_constraints(rows, len(lesson.labels))
    if line in ("COP", "PCK"):
        points = lesson.points.smoothed
        start = np.asarray(lesson.result.assignments)
        centers = _directions(points, start, len(lesson.result.clusters))
        if line == "PCK":
            clusters = penalized_kmeans(points, centers, rows)
        else:
            clusters = constrained_kmeans(
                points, centers, closure.components, closure.apart
            ).assignments
    elif said.num and by == "belief":
        clusters = settle(lesson.result, lesson.points, closure)[0].assignments
    elif said.num:
        clusters = learn(lesson.result, constraints=said).result.assignments
    else:
        clusters = lesson.result.assignments
    return score_clustering(lesson.labels, clusters).acc


def _edits(
    asked: dict[str, Any], names: Collection[int], labels: np.ndarray
) -> list[dict[str, Any]]:
    """What the page makes of someone's answer who knows the classes."""
    shown = asked["rows"] if asked["same"] else asked["rows"][1:]
    row = asked["rows"][0]
    there = [
        (group, labels[lead] == labels[row])
        for group, lead in zip(asked["groups"], shown, strict=True)
        if group in names
    ]
    fit = [group for group, fits in there if fits]
    if len(there) < 2:
        return []
    if asked["same"] and len(fit) < 2:
        return [{"action": "answer", "rows": asked["rows"], "same": False}]
    same = [{"action": "same", "groups": fit}] if len(fit) > 1 else []
    if asked["same"]:
        return same
    into = {"into": fit[0]} if fit else {}
    return [*same, {"action": "move", "rows": [row], **into}]


def use_page(folder: Path, lesson: Lesson, budgets: Sequence[int]) -> list[float]:
    """ACC of what the page shows after so many answers, before anybody takes it."""
    accs, answered = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        shutil.copytree(folder, run, ignore=shutil.ignore_patterns(REVIEW_FOLDER))
        review = open_review(lesson.result, run)
        desk = build_desk(lesson.result, review)

        def edit(request: dict[str, Any]) -> None:
            desk.edit({"version": desk.version(), **request})

        for budget in budgets:
            left: list[Any] = []
            while answered < budget:
                left = left or desk.ask([])["questions"]
                if not left:
                    break
                for request in _edits(left.pop(0), desk.groups.names, lesson.labels):
                    edit(request)
                answered += 1
            if answered:
                desk.learn(desk.version())
                edit({"action": "learn"})
            groups = np.unique(desk.groups.of, return_inverse=True)[1]
            accs.append(score_clustering(lesson.labels, groups.astype(np.int32)).acc)
            if answered:
                edit({"action": "undo"})
        review.close()
    return accs


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", required=True, help="workdirs of finished runs")
    parser.add_argument("--answers", default="0,20,100,500")
    parser.add_argument("--lines", default=",".join(LINES))
    parser.add_argument(
        "--by",
        choices=["learn", "belief"],
        default="learn",
        help="belief: what learn trains on, without the training",
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, teach every run, print a table."""
    options = _parse(argv)
    budgets = [int(each) for each in options.answers.split(",")]
    shown = " | ".join(f"{each} answers" for each in budgets)
    print(f"| set | k | line | {shown} |\n|---|---|---|{'---|' * len(budgets)}")
    rises: dict[str, list[list[float]]] = {}
    for name in options.runs.split(","):
        lesson = open_lesson(Path(name))
        told: dict[str, dict[int, Constraints]] = {}
        for line in options.lines.split(","):
            source = "choices" if line in ("COP", "PCK") else line
            started = time.perf_counter()
            if line == "page":
                accs = use_page(Path(name), lesson, budgets)
            else:
                if source not in told:
                    told[source] = teach(lesson, source, budgets, seed=options.seed)
                accs = [
                    _score(lesson, line, told[source][each], options.by)
                    for each in budgets
                ]
            seconds = time.perf_counter() - started
            cells = " | ".join(f"{100 * acc:.1f}" for acc in accs)
            groups = len(lesson.result.clusters)
            print(f"| {Path(name).name} | {groups} | {line} | {cells} |", flush=True)
            print(f"<!-- {seconds:.0f} s -->", flush=True)
            start = score_clustering(lesson.labels, lesson.result.assignments).acc
            rises.setdefault(line, []).append([acc - start for acc in accs])
    for line, rows in rises.items():
        cells = " | ".join(f"{100 * value:+.1f}" for value in np.mean(rows, axis=0))
        print(f"| mean rise | | {line} | {cells} |")
        cells = " | ".join(f"{100 * value:+.1f}" for value in np.min(rows, axis=0))
        print(f"| least rise | | {line} | {cells} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
