"""What a user says of single images: together, apart, of a group, of none.

These are corrections of a finished clustering, or knowledge brought to a new one; no
class label is needed for them, and nothing is taken from labels.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int
from scipy.cluster.hierarchy import DisjointSet

from mca_jax.core.atomic_files import refused_by_system, write_file
from mca_jax.core.errors import InputError
from mca_jax.core.text import dump_json, load_json, printable

__all__ = [
    "Closure",
    "Constraints",
    "Given",
    "as_constraints",
    "close_constraints",
    "name_constraints",
    "read_constraints",
    "write_constraints",
]

# Images that a message names.
_MOST_NAMED = 8


class Constraints(NamedTuple):
    """What is known of single images, each a row of the result or its path there.

    Attributes:
      must_link: Pairs that belong to one group.
      cannot_link: Pairs that belong to two.
      labels: Pairs of an image and the id of its group: that of a cluster of the
        result, or any other for a group of its own. Images of one id belong together,
        images of two apart.
      nowhere: Images that belong to no group.

    Example:
      >>> Constraints(must_link=[(0, 3), (3, "b.jpg")], nowhere=[7]).num
      3
    """

    must_link: Any = ()
    cannot_link: Any = ()
    labels: Any = ()
    nowhere: Any = ()

    @property
    def num(self) -> int:
        """Number of statements."""
        return sum(len(each) for each in self)

    def join(self, other: Constraints) -> Constraints:
        """All statements of both."""
        both = zip(self, other, strict=True)
        return Constraints(*([*mine, *theirs] for mine, theirs in both))


Given: TypeAlias = "Constraints | Mapping[str, Any] | str | os.PathLike[str]"
"""Constraints, the same as plain values, or a JSON file of them."""


class Closure(NamedTuple):
    """What follows from constraints: images that are held together, and apart.

    A *component* is a set of images that links and labels hold together, if only one.

    Attributes:
      components: Component of each image, int32 ``[n]``; -1 for one of which nothing
        is said.
      apart: Pairs of components that are in two groups, int32 ``[p, 2]``, the lower
        first, each once.
      labels: Group id of each component, int64; -1 for none.
      nowhere: Rows of the images that belong to no group, ascending.
    """

    components: Int[np.ndarray, " n"]
    apart: Int[np.ndarray, "p 2"]
    labels: Int[np.ndarray, " q"]
    nowhere: Int[np.ndarray, " w"]

    def knows(self, a: int, b: int) -> bool:
        """Whether it follows if two images belong together."""
        one, two = sorted((int(self.components[a]), int(self.components[b])))
        if a == b or {a, b} & set(self.nowhere.tolist()):
            return True
        if one < 0:
            return False
        return one == two or bool((self.apart == (one, two)).all(axis=1).any())


def _rows(
    values: Iterable[Any], width: int, what: str, known: Mapping[str, int], count: int
) -> np.ndarray:
    """Look images up; ``width`` of each entry are images, 1 of a label."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        raise InputError(
            f"Expected {what} of constraints as a list, found {values!r:.80}"
        )
    rows: list[list[int]] = []
    for entry in values:
        items = [entry] if what == "nowhere" else entry
        plain = isinstance(items, Sequence | np.ndarray) and not isinstance(items, str)
        if not plain or len(items) != (1 if what == "nowhere" else 2):
            raise InputError(
                f"Expected {what} of constraints as pairs, found {entry!r:.80}"
            )
        images = [_row(item, what, known, count) for item in items[:width]]
        rows.append([*images, *(_group(item) for item in items[width:])])
    shape = (len(rows), 1 if what == "nowhere" else 2)
    return np.array(rows, np.int64).reshape(shape)


def _row(item: Any, what: str, known: Mapping[str, int], count: int) -> int:
    if isinstance(item, str):
        if item not in known:
            raise InputError(
                f"Expected images of this set in {what} of constraints, found "
                f"{printable(item)!r}, which is not among its {count:,} images"
            )
        return known[item]
    whole = isinstance(item, int | np.integer) and not isinstance(item, bool)
    if not whole or not 0 <= item < count:
        raise InputError(
            f"Expected rows between 0 and {count - 1} or paths in {what} of "
            f"constraints, found {item!r:.80}"
        )
    return int(item)


def _group(item: Any) -> int:
    whole = isinstance(item, int | np.integer) and not isinstance(item, bool)
    if not whole or not 0 <= item < 2**31:
        raise InputError(
            "Expected the id of a group, a whole number from 0, in labels of "
            f"constraints, found {item!r:.80}"
        )
    return int(item)


def as_constraints(given: Given, paths: Sequence[str]) -> Constraints:
    """Bring constraints to rows of a set.

    Args:
      given: Constraints of rows or paths; a mapping with the same names, where
        ``labels`` may be a mapping of paths too; or a JSON file of that.
      paths: One a row, as in a result.

    Returns:
      Arrays of int64: pairs ``[m, 2]``, ``[c, 2]``, ``[l, 2]``, and rows ``[w]``.

    Raises:
      InputError: An entry is no pair, or an image is not of the set.

    Example:
      >>> as_constraints({"must_link": [["a.jpg", "c.jpg"]]},
      ...                ["a.jpg", "b.jpg", "c.jpg"]).must_link.tolist()
      [[0, 2]]
    """
    if isinstance(given, str | os.PathLike):
        return read_constraints(given, paths)
    values = given._asdict() if isinstance(given, Constraints) else dict(given)
    unknown = sorted(values.keys() - set(Constraints._fields))
    if unknown:
        raise InputError(
            f"Expected {', '.join(Constraints._fields)} of constraints, found "
            f"{unknown[0]!r}"
        )
    if isinstance(values.get("labels"), Mapping):
        values["labels"] = list(values["labels"].items())
    known = {path: row for row, path in enumerate(paths)}
    found = {
        name: _rows(values.get(name, ()), width, name, known, len(paths))
        for name, width in zip(Constraints._fields, (2, 2, 1, 1), strict=True)
    }
    found["nowhere"] = np.unique(found["nowhere"][:, 0])
    return Constraints(**found)


def close_constraints(constraints: Constraints, num_images: int) -> Closure:
    """Draw all that follows, and check that nothing contradicts it.

    Args:
      constraints: Rows, from :func:`as_constraints`.
      num_images: ``n``.

    Raises:
      InputError: Images are held together and apart at once, two groups are given to
        images that are held together, or one of them belongs nowhere. The statements
        that lead there are named.

    Example:
      >>> rows = as_constraints({"must_link": [[0, 1], [1, 2]],
      ...                        "cannot_link": [[2, 3]]}, ["a", "b", "c", "d"])
      >>> close_constraints(rows, 4).components.tolist()
      [0, 0, 0, 1]
    """
    links = _links(constraints)
    together = DisjointSet({row for pair in links for row in pair})
    for each in (constraints.cannot_link, constraints.labels[:, :1]):
        for row in np.unique(each).tolist():
            together.add(row)
    for a, b in links:
        together.merge(a, b)
    subsets = sorted((sorted(each) for each in together.subsets()), key=min)
    components = np.full(num_images, -1, np.int32)
    for index, rows in enumerate(subsets):
        components[rows] = index
    labels = np.full(len(subsets), -1, np.int64)
    named: dict[int, int] = {}
    for row, group in constraints.labels.tolist():
        index = int(components[row])
        if labels[index] not in (-1, group):
            _contradict(
                links,
                (named[index], row),
                f"of group {labels[index]} and of group {group}",
            )
        labels[index], named[index] = group, row
    for a, b in constraints.cannot_link.tolist():
        if components[a] == components[b]:
            _contradict(links, (a, b), "not together (cannot_link)")
    for row in constraints.nowhere.tolist():
        if components[row] >= 0 and (
            labels[components[row]] >= 0 or row in {r for pair in links for r in pair}
        ):
            raise InputError(
                f"Expected constraints that agree, found image {row} to belong nowhere "
                "and to a group or to another image; take one of the two back"
            )
    pairs = components[constraints.cannot_link]
    labelled = np.flatnonzero(labels >= 0)
    one, two = np.meshgrid(labelled, labelled, indexing="ij")
    other = labels[one] != labels[two]
    pairs = np.concatenate([pairs, np.stack([one[other], two[other]], axis=1)])
    apart = np.unique(np.sort(pairs, axis=1), axis=0).reshape(-1, 2).astype(np.int32)
    return Closure(components, apart, labels, constraints.nowhere)


def _links(constraints: Constraints) -> list[tuple[int, int]]:
    """Pairs that are held together, by links or by a label of both."""
    links = [(int(a), int(b)) for a, b in constraints.must_link]
    first: dict[int, int] = {}
    for row, group in constraints.labels.tolist():
        links.append((first.setdefault(group, row), row))
    return links


def _contradict(
    links: Sequence[tuple[int, int]], pair: tuple[int, int], apart: str
) -> None:
    """Name the shortest chain of links between two images that are apart.

    Raises:
      InputError: Always.
    """
    near = defaultdict(list)
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    before, queue = {pair[0]: pair[0]}, deque([pair[0]])
    while queue and pair[1] not in before:
        row = queue.popleft()
        for other in near[row]:
            if other not in before:
                before[other] = row
                queue.append(other)
    chain = [pair[1]]
    while chain[-1] != pair[0]:
        chain.append(before[chain[-1]])
    shown = " = ".join(map(str, reversed(chain)))
    if len(chain) > _MOST_NAMED:
        shown = f"{pair[0]} = ... ({len(chain) - 2} others) ... = {pair[1]}"
    raise InputError(
        f"Expected constraints that agree, found images {pair[0]} and {pair[1]} "
        f"{apart}, and held together by must_link or labels ({shown}); take one back"
    )


def read_constraints(path: str | os.PathLike[str], paths: Sequence[str]) -> Constraints:
    """Read constraints from JSON, where images are paths or rows.

    Args:
      path: A file such as ``{"must_link": [["a.jpg", "b.jpg"]], "cannot_link": [],
        "labels": [["c.jpg", 4]], "nowhere": ["d.jpg"]}``; what is missing is none.
      paths: One a row, as in a result.

    Raises:
      InputError: The file can't be read, or is something else.
    """
    try:
        values = load_json(Path(path).read_bytes())
    except OSError as error:
        raise refused_by_system("read", Path(path), error) from error
    except ValueError as error:
        raise InputError(
            f"Expected constraints as JSON in {os.fspath(path)!r}, found something "
            f"else ({error})"
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"Expected an object with {', '.join(Constraints._fields)} in "
            f"{os.fspath(path)!r}, found {type(values).__name__}"
        )
    try:
        return as_constraints(values, paths)
    except InputError as error:
        raise InputError(f"{error} (in {os.fspath(path)!r})") from error


def write_constraints(
    constraints: Constraints, path: str | os.PathLike[str], paths: Sequence[str]
) -> None:
    """Write constraints as JSON by the paths of the images, whole or not at all.

    Args:
      constraints: Rows or paths.
      path: The file; its folder exists.
      paths: One a row, as in a result.

    Raises:
      InputError: An image is not of the set, or the file can't be written.
    """
    write_file(Path(path), dump_json(name_constraints(constraints, paths)) + "\n")


def name_constraints(constraints: Given, paths: Sequence[str]) -> dict[str, Any]:
    """Spell constraints by the paths of the images, as plain JSON.

    Example:
      >>> name_constraints(Constraints(nowhere=[1]), ["a.jpg", "b.jpg"])["nowhere"]
      ['b.jpg']
    """
    found = as_constraints(constraints, paths)
    return {
        "must_link": [[paths[a], paths[b]] for a, b in found.must_link],
        "cannot_link": [[paths[a], paths[b]] for a, b in found.cannot_link],
        "labels": [[paths[row], int(group)] for row, group in found.labels],
        "nowhere": [paths[row] for row in found.nowhere],
    }
