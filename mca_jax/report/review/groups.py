"""The groups of a run while they are edited, and what each event makes of them.

Pure: an event and the groups before it give the groups after it, without a network, a
clock or a random number, so that a list of events read back gives the same groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.text import printable
from mca_jax.model.cluster_model import NONE_OF_THESE
from mca_jax.model.result import ClusterResult
from mca_jax.model.tree import ClusterTree

__all__ = [
    "NOWHERE",
    "GroupName",
    "Groups",
    "apply_event",
    "check_name",
    "check_rows",
    "describe_event",
    "first_groups",
]

NOWHERE = -1
"""The group of an image that belongs to none."""

_LONGEST_NAME = 100
# Names that a sentence lists.
_MOST_NAMED = 4


class GroupName(NamedTuple):
    """What a group is called, and whether that is a guess."""

    text: str
    guess: bool = False


@dataclass(frozen=True)
class Groups:
    """The groups at one moment; arrays are never written to.

    Attributes:
      of: Id of each image's group, int32 ``[n]``; ``NOWHERE`` for none.
      placed: Images that a person put where they are, bool ``[n]``.
      duplicates: Images that a person marked as duplicates, bool ``[n]``.
      names: Name of each group by its id, in the order that they are shown in.
      refused: Groups that a person took an image out of, by its row.
      answers: Pairs of rows that a person compared, with whether they belong together.
      same: Ids of groups that a person said are one, which learning may put together.
      learned: Name of what was learnt last, or empty.
    """

    of: np.ndarray
    placed: np.ndarray
    duplicates: np.ndarray
    names: Mapping[int, GroupName]
    refused: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    answers: tuple[tuple[int, int, bool], ...] = ()
    same: tuple[tuple[int, ...], ...] = ()
    learned: str = ""

    def sizes(self) -> dict[int, int]:
        """Count the images of each group, and of ``NOWHERE``."""
        ids, counts = np.unique(self.of, return_counts=True)
        found = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return {each: found.get(each, 0) for each in (*self.names, NOWHERE)}


def first_groups(result: ClusterResult) -> Groups:
    """The groups as a run made them; what an edited one has in none stays there."""
    names = {
        each.id: GroupName(each.name, each.guess)
        for each in result.clusters
        if each.name != NONE_OF_THESE
    }
    ids = [each.id if each.id in names else NOWHERE for each in result.clusters]
    count = len(result.paths)
    return Groups(
        of=np.array(ids, np.int32)[result.assignments],
        placed=np.zeros(count, bool),
        duplicates=np.zeros(count, bool),
        names=names,
    )


def check_name(name: Any, groups: Groups, *, besides: Sequence[int] = ()) -> str:
    """Check a name for a group; those of ``besides`` don't count as taken.

    Raises:
      InputError: It can't be printed, is too long, or another group has it.
    """
    name = name.strip() if isinstance(name, str) else ""
    if not name or len(name) > _LONGEST_NAME or printable(name) != name:
        raise InputError(
            f"Expected a printable name of 1 to {_LONGEST_NAME} characters, found "
            f"{printable(name)[:_LONGEST_NAME]!r}"
        )
    taken = {
        each.text.casefold() for id, each in groups.names.items() if id not in besides
    }
    if name.casefold() in {NONE_OF_THESE, *taken}:
        raise InputError(f"Expected a name that no other group has, found {name!r}")
    return name


def _group(groups: Groups, value: Any) -> int:
    """Check the id of a group that is there."""
    if not isinstance(value, int) or value not in groups.names:
        raise InputError(f"No group has the id {value!r} any more; look again")
    return value


def _new_group(groups: Groups, value: Any) -> int:
    """Check the id of a group that an event makes."""
    if not isinstance(value, int) or not 0 <= value < 2**31 or value in groups.names:
        raise InputError(f"Expected the id of a new group, found {value!r}")
    return value


def check_rows(groups: Groups, values: Any) -> np.ndarray:
    """Check the rows of images that an edit is about.

    Raises:
      InputError: They are no list of rows, none, or one comes twice.
    """
    if not isinstance(values, list) or not values:
        raise InputError("Expected at least one image, found none")
    count = len(groups.of)
    if not all(type(each) is int and 0 <= each < count for each in values):
        raise InputError(f"Expected images by their rows, 0 to {count - 1}")
    rows = np.array(values, np.int64)
    if len(np.unique(rows)) < len(rows):
        raise InputError("Expected every image once, found one twice")
    return rows


def _write(array: np.ndarray, rows: np.ndarray, value: Any) -> np.ndarray:
    changed = array.copy()
    changed[rows] = value
    return changed


def _rename(groups: Groups, event: Mapping[str, Any]) -> Groups:
    group = _group(groups, event["group"])
    name = check_name(event["name"], groups, besides=(group,))
    return replace(groups, names={**groups.names, group: GroupName(name)})


def _several(groups: Groups, event: Mapping[str, Any]) -> list[int]:
    ids = [_group(groups, each) for each in event["groups"]]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise InputError(f"Expected two or more different groups, found {ids}")
    return ids


def _same(groups: Groups, event: Mapping[str, Any]) -> Groups:
    return replace(groups, same=(*groups.same, tuple(_several(groups, event))))


def _merge(groups: Groups, event: Mapping[str, Any]) -> Groups:
    ids = _several(groups, event)
    if len(ids) == len(groups.names):
        raise InputError(f"Expected some of the groups, found all {len(ids)}")
    name = check_name(event["name"], groups, besides=ids)
    # Whose name stays is still as much of a guess as it was.
    named = [groups.names[id] for id in ids]
    kept = next((each for each in named if each.text == name), GroupName(name))
    # As in Python: the lowest id stays.
    into = min(ids)
    names = {
        id: kept if id == into else each
        for id, each in groups.names.items()
        if id == into or id not in ids
    }
    inside = np.isin(groups.of, ids)
    # That two of them are not one was said before.
    answers = tuple(
        (a, b, same)
        for a, b, same in groups.answers
        if same or not inside[[a, b]].all() or groups.of[a] == groups.of[b]
    )
    of = np.where(inside, np.int32(into), groups.of)
    return replace(groups, of=of, names=names, answers=answers)


def _split(groups: Groups, event: Mapping[str, Any]) -> Groups:
    group = _group(groups, event["group"])
    parts = event["parts"]
    if not isinstance(parts, list) or len(parts) < 2:
        raise InputError("Expected two or more parts of a group, found fewer")
    of, names = groups.of.copy(), {}
    inside = of == group
    seen = 0
    for part in parts:
        new = _new_group(groups, part["id"])
        rows = check_rows(groups, part["rows"])
        if not inside[rows].all() or new in names:
            raise InputError(f"Expected images of group {group} in its parts")
        seen += len(rows)
        others = replace(groups, names={**groups.names, **names})
        name = check_name(part["name"], others, besides=(group,))
        names[new] = GroupName(name, bool(part.get("guess", False)))
        of[rows] = new
    if seen != int(inside.sum()) or (of == group).any():
        raise InputError(f"Expected every image of group {group} in one of its parts")
    order: dict[int, GroupName] = {}
    for id, each in groups.names.items():
        order |= names if id == group else {id: each}
    return replace(groups, of=of, names=order)


def _move(groups: Groups, event: Mapping[str, Any]) -> Groups:
    rows = check_rows(groups, event["rows"])
    names = groups.names
    if "name" in event:
        into = _new_group(groups, event["into"])
        name = check_name(event["name"], groups)
        names = {into: GroupName(name, bool(event.get("guess", False))), **names}
    else:
        into = _group(groups, event["into"])
    return replace(
        groups,
        of=_write(groups.of, rows, into),
        placed=_write(groups.placed, rows, True),
        names=names,
    )


def _mark(groups: Groups, event: Mapping[str, Any]) -> Groups:
    rows = check_rows(groups, event["rows"])
    mark = check_one_of("mark", event["mark"], ("outlier", "duplicate", "none"))
    if mark == "outlier":
        return replace(
            groups,
            of=_write(groups.of, rows, NOWHERE),
            placed=_write(groups.placed, rows, True),
        )
    return replace(
        groups, duplicates=_write(groups.duplicates, rows, mark == "duplicate")
    )


def _targets(groups: Groups, rows: np.ndarray, values: Any) -> np.ndarray:
    """Check one group for each row."""
    if not isinstance(values, list) or len(values) != len(rows):
        raise InputError("Expected one group for each image")
    known = {NOWHERE, *groups.names}
    if not all(type(each) is int and each in known for each in values):
        raise InputError("Expected groups that are there for all images")
    return np.array(values, np.int32)


def _refuse(groups: Groups, event: Mapping[str, Any]) -> Groups:
    rows = check_rows(groups, event["rows"])
    into = _targets(groups, rows, event["into"])
    refused = dict(groups.refused)
    for row in rows.tolist():
        own = int(groups.of[row])
        if own != NOWHERE:
            refused[row] = tuple({**dict.fromkeys(refused.get(row, ())), own: None})
    return replace(groups, of=_write(groups.of, rows, into), refused=refused)


def _learn(groups: Groups, event: Mapping[str, Any]) -> Groups:
    names = dict(groups.names)
    for id in event["gone"]:
        names.pop(_group(groups, id))
    for made in event["made"]:
        id = _new_group(groups, made["id"])
        name = check_name(made["name"], replace(groups, names=names))
        names[id] = GroupName(name, bool(made.get("guess", False)))
    after = replace(groups, names=names, learned=str(event["learned"]))
    of = groups.of
    if event["rows"]:
        rows = check_rows(groups, event["rows"])
        of = _write(of, rows, _targets(after, rows, event["into"]))
    if not np.isin(of, [*names, NOWHERE]).all():
        raise InputError("Expected every image of a group that is gone in another")
    return replace(after, of=of)


def _answer(groups: Groups, event: Mapping[str, Any]) -> Groups:
    first, second = check_rows(groups, event["rows"]).tolist()
    answer = (first, second, bool(event["same"]))
    return replace(groups, answers=(*groups.answers, answer))


def _cut(
    groups: Groups, event: Mapping[str, Any], tree: ClusterTree | None = None
) -> Groups:
    if tree is None:
        raise InputError("Expected a run with a tree of groups, found one without")
    level = tree.cut(event["num_groups"])
    made = event["into"]
    if len(made) != len(level.nodes):
        raise InputError(f"Expected {len(level.nodes)} groups of the cut")
    ids = np.array([each["id"] for each in made], np.int32)
    names = {
        each["id"]: GroupName(each["name"], bool(each.get("guess"))) for each in made
    }
    of = ids[level.groups]
    # Who belongs nowhere does so at every level.
    gone = groups.of == NOWHERE
    return replace(
        groups, of=np.where(gone, NOWHERE, of), placed=groups.placed & gone, names=names
    )


_ACTIONS: Mapping[str, Callable[..., Groups]] = {
    "rename": _rename,
    "merge": _merge,
    "split": _split,
    "move": _move,
    "mark": _mark,
    "refuse": _refuse,
    "answer": _answer,
    "same": _same,
    "learn": _learn,
}


def apply_event(
    groups: Groups, event: Mapping[str, Any], *, tree: ClusterTree | None = None
) -> Groups:
    """Apply one edit.

    Args:
      groups: What it is applied to.
      event: ``action`` and what belongs to it, as it stands in the file of events.
      tree: The run's tree, for ``cut``.

    Returns:
      The groups afterwards; those of before stay as they are.

    Raises:
      InputError: The event is not one that can be applied to these groups.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> groups = first_groups(example_result())
      >>> event = {"action": "merge", "groups": [0, 2], "name": "both"}
      >>> after = apply_event(groups, event)
      >>> after.names[0].text, after.sizes()[0]
      ('both', 40)
    """
    action = str(event.get("action"))
    try:
        if action == "cut":
            return _cut(groups, event, tree)
        if action not in _ACTIONS:
            raise InputError(f"Unknown edit {printable(action)!r}")
        return _ACTIONS[action](groups, event)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The edit {action!r} lacks a part: {error}") from error


def _some(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _targets_text(groups: Groups, values: Sequence[int]) -> str:
    """Say where images went, most first."""
    common = Counter(values).most_common()
    named = [f"{_name(groups, id)} ({count})" for id, count in common[:_MOST_NAMED]]
    return ", ".join(named) + (", ..." if len(common) > _MOST_NAMED else "")


def _name(groups: Groups, id: int) -> str:
    name = groups.names.get(id)
    return NONE_OF_THESE if name is None else name.text


def describe_event(before: Groups, after: Groups, event: Mapping[str, Any]) -> str:
    """Say in a few words what an event did, such as "Merge cup, mug"."""
    action, rows = event["action"], event.get("rows") or []
    if action == "rename":
        return f"Rename {_name(before, event['group'])} to {event['name'].strip()}"
    if action in ("merge", "same"):
        names = [_name(before, id) for id in event["groups"]]
        more = ", ..." if len(names) > _MOST_NAMED else ""
        told = "Merge" if action == "merge" else "Answer: one group,"
        return f"{told} {', '.join(names[:_MOST_NAMED])}{more}"
    if action == "split":
        return f"Split {_name(before, event['group'])} into {len(event['parts'])}"
    if action == "move":
        return f"Move {_some(len(rows))} to {_name(after, event['into'])}"
    if action == "mark":
        texts = {
            "outlier": f"Take {_some(len(rows))} out of all groups",
            "duplicate": f"Mark {_some(len(rows))} as duplicate",
            "none": f"Unmark {_some(len(rows))}",
        }
        return texts[event["mark"]]
    if action == "refuse":
        return f"Not this: {_some(len(rows))} to {_targets_text(after, event['into'])}"
    if action == "cut":
        return f"Cut the tree into {event['num_groups']} groups"
    if action == "answer":
        return "Answer: " + ("together" if event["same"] else "apart")
    return f"Learn: {_some(len(rows))} moved"
