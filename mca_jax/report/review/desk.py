"""What the page of a review asks for, and what it changes: one desk for all windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.host_tables import row_blocks
from mca_jax.core.text import printable
from mca_jax.model.cluster_model import NONE_OF_THESE
from mca_jax.model.result import ClusterResult
from mca_jax.model.tree import ClusterTree
from mca_jax.report.review.groups import NOWHERE, GroupName, Groups, check_rows
from mca_jax.report.review.history import Review
from mca_jax.report.review.pictures import Pictures
from mca_jax.semantics.evidence import noun_votes

__all__ = ["Actions", "Desk", "Lesson", "StaleError"]

_SHOWN_OF_GROUP = 4
_MOST_ROWS = 500
_MOST_PARTS = 20
_MOST_FOUND = 200
_MOST_FLOWS = 40
_SUGGESTIONS = 8
# Images that a name is suggested by, and that parts of a large group are sought in.
_SAMPLE, _FITTED = 400, 20_000
# As in naming: what a noun loses to other groups that use it.
_EXCLUSIVENESS = 0.25


class StaleError(Exception):
    """An edit of groups that another window has changed since."""


class Lesson(NamedTuple):
    """What was learnt from the edits, before anybody takes it.

    Attributes:
      rows: Images that would move.
      into: Id of the group that each of them would be in.
      made: Groups that would be new: ``id``, ``name``, ``guess``.
      gone: Ids of groups that would be gone.
      text: What would change, in words.
      keep: Writes down what new images are placed by, and returns its name.
    """

    rows: np.ndarray
    into: np.ndarray
    made: list[dict[str, Any]]
    gone: list[int]
    text: str
    keep: Callable[[], str]


class Actions(NamedTuple):
    """What a review can do that needs more than the result.

    Attributes:
      learn: Groups, and an id that none ever had, to a lesson.
      ask: Groups, and pairs of rows that are not asked, to the questions whose answers
        would tell most: ``rows``, ids of ``groups``, and whether they may be the
        ``same``.
      find_word: A word to its unit vector in the space that was clustered, ``[c]``;
        raises InputError for a word that nobody knows.
      export: Groups and the name of a format to what is said of the file.
      formats: The formats, each with what it is.
    """

    learn: Callable[[Groups, int], Lesson]
    ask: Callable[[Groups, list[tuple[int, int]]], list[dict[str, Any]]]
    find_word: Callable[[str], np.ndarray]
    export: Callable[[Groups, str], str]
    formats: Mapping[str, str]


class _View(NamedTuple):
    """The rows of every group in a row, surest first."""

    ids: tuple[int, ...]
    order: np.ndarray
    starts: np.ndarray

    def rows(self, group: int) -> np.ndarray:
        place = self.ids.index(group)
        return self.order[self.starts[place] : self.starts[place + 1]]


class Desk:
    """A review that is open in any number of windows; its methods are thread-safe."""

    def __init__(
        self,
        result: ClusterResult,
        review: Review,
        pictures: Pictures,
        actions: Actions,
        *,
        title: str,
    ) -> None:
        """Open it.

        Args:
          result: The run, as it was trained.
          review: Its edits.
          pictures: Its pictures.
          actions: What else can be done.
          title: What the page is called.
        """
        self.pictures = pictures
        self._result = result
        self._review = review
        self._actions = actions
        self._title = title
        self._lock = threading.RLock()
        self._projecting = threading.Lock()
        # Learning takes seconds, in which everything else goes on.
        self._learning = threading.Lock()
        self._lesson: tuple[int, Lesson] | None = None
        self._confidences = result.confidences
        # Surest first, once; each edit sorts them by group only.
        self._surest = np.argsort(-self._confidences, kind="stable").astype(np.int32)
        self._refresh()

    @cached_property
    def _points(self) -> np.ndarray:
        """What was clustered, unit vectors ``[n, c]``."""
        # Under a lock of its own: the page opens meanwhile.
        with self._projecting:
            network = self._result.model.network
            table = self._result.embeddings
            points = np.zeros((len(table), network.axes.shape[1]), np.float32)
            for rows in row_blocks(table):
                moved = (np.asarray(table[rows], np.float32) - network.mean) @ (
                    network.axes
                )
                lengths = np.linalg.norm(moved, axis=1, keepdims=True)
                points[rows] = moved / np.maximum(lengths, 1e-12)
            return points

    def warm_up(self) -> None:
        """Compute what the first search or split would wait for."""
        _ = self._usual

    @cached_property
    def _usual(self) -> np.ndarray:
        """How much each noun is seen on any picture, ``[m]``."""
        rows = np.linspace(0, len(self._points) - 1, _SAMPLE).astype(np.int64)
        return self._votes(np.unique(rows))

    def _votes(self, rows: np.ndarray) -> np.ndarray:
        model = self._result.model
        nowhere = np.zeros(self._points.shape[1], np.float32)
        votes = noun_votes(
            self._points[rows],
            model.noun_embeddings,
            image_mean=nowhere,
            noun_mean=nowhere,
        )
        return votes.mean(axis=0)

    @property
    def num_images(self) -> int:
        """Number of the run's images."""
        return len(self._confidences)

    @property
    def groups(self) -> Groups:
        """The groups now."""
        return self._review.history.groups

    def _refresh(self) -> None:
        """Sort the images by their groups anew."""
        groups = self.groups
        ids = (*groups.names, NOWHERE)
        # Ids are few and small: a table of their places.
        places = np.zeros(max(max(ids), 0) + 2, np.int32)
        places[list(ids)] = np.arange(len(ids))
        own = places[groups.of[self._surest]]
        order = self._surest[np.argsort(own, kind="stable")]
        ends = np.cumsum(np.bincount(own, minlength=len(ids)))
        self._view = _View(ids, order, np.concatenate([[0], ends]))

    def state(self) -> dict[str, Any]:
        """All that the page shows beside the pictures of a group."""
        with self._lock:
            history, view = self._review.history, self._view
            groups, tree = history.groups, self._result.tree
            sizes = np.diff(view.starts).tolist()
            listed = []
            for place, (id, name) in enumerate(groups.names.items()):
                rows = view.order[view.starts[place] : view.starts[place + 1]]
                listed.append(
                    {
                        "id": id,
                        "name": name.text,
                        "guess": name.guess,
                        "size": sizes[place],
                        "rows": rows[:_SHOWN_OF_GROUP].tolist(),
                    }
                )
            return {
                "version": history.count,
                "title": self._title,
                "images": len(groups.of),
                "groups": listed,
                "nowhere": sizes[-1],
                "placed": int(groups.placed.sum()),
                "duplicates": int(groups.duplicates.sum()),
                "said": _statements(groups),
                "undo": history.undo,
                "redo": history.redo,
                "versions": list(history.versions),
                "pictures": self.pictures.available,
                "tree": 0 if tree is None else tree.num_groups,
                "formats": dict(self._actions.formats),
                "notes": list(self._review.notes),
            }

    def version(self) -> int:
        """Number of events; it grows with every change."""
        return self._review.history.count

    def _image(self, row: int) -> dict[str, Any]:
        groups = self.groups
        return {
            "row": row,
            "path": printable(self._result.paths[row]),
            "confidence": round(float(self._confidences[row]), 4),
            "group": int(groups.of[row]),
            "placed": bool(groups.placed[row]),
            "duplicate": bool(groups.duplicates[row]),
        }

    def _listed(
        self, rows: np.ndarray, offset: int = 0, limit: int = _MOST_ROWS
    ) -> dict[str, Any]:
        check_in_range("offset", offset, 0)
        check_in_range("limit", limit, 1, _MOST_ROWS)
        shown = rows[offset : offset + limit].tolist()
        return {
            "version": self.version(),
            "total": len(rows),
            "offset": offset,
            "images": [self._image(row) for row in shown],
        }

    def rows(
        self, group: int, *, order: str, offset: int, limit: int
    ) -> dict[str, Any]:
        """Some images of a group.

        Args:
          group: Its id, or ``NOWHERE``.
          order: ``"sure"`` or ``"unsure"`` ones first.
          offset: How many to pass over.
          limit: How many, at most 500.

        Raises:
          InputError: There is no such group, or a value is out of range.
        """
        check_one_of("order", order, ("sure", "unsure"))
        with self._lock:
            if group not in self._view.ids:
                raise InputError("This group isn't there any more; look again")
            rows = self._view.rows(group)
            if order == "unsure":
                rows = rows[::-1]
            return self._listed(rows, offset, limit)

    def duplicates(self) -> dict[str, Any]:
        """The images that are marked as duplicates."""
        with self._lock:
            return self._listed(np.flatnonzero(self.groups.duplicates))

    def like(self, row: int) -> dict[str, Any]:
        """The images most like one of them, which comes first.

        Raises:
          InputError: There is no such row.
        """
        check_in_range("row", row, 0, len(self._confidences) - 1)
        return self._found(self._points[row])

    def word(self, text: str) -> dict[str, Any]:
        """The images most like a word.

        Raises:
          InputError: Nobody knows the word.
        """
        if not text.strip() or len(text) > _MOST_FOUND:
            raise InputError("Expected a word to look for, found none")
        return self._found(self._actions.find_word(text.strip()))

    def _found(self, point: np.ndarray) -> dict[str, Any]:
        cosines = self._points @ point
        count = min(_MOST_FOUND, len(cosines))
        best = np.argpartition(-cosines, count - 1)[:count]
        best = best[np.argsort(-cosines[best], kind="stable")]
        with self._lock:
            return self._listed(best)

    def suggest(self, group: int) -> dict[str, Any]:
        """Nouns that a group may be called by, likeliest first.

        Raises:
          InputError: There is no such group.
        """
        with self._lock:
            if group not in self.groups.names:
                raise InputError("This group isn't there any more; look again")
            rows = self._view.rows(group)
        first = [
            noun.name
            for each in self._result.clusters
            if each.id == group and each.size == len(rows)
            for noun in each.nouns
        ]
        names = [*first, *self._nouns_of(rows)]
        return {"names": list(dict.fromkeys(names))[:_SUGGESTIONS]}

    def _nouns_of(self, rows: np.ndarray) -> list[str]:
        """Nouns that are seen on some images more than on others."""
        if not len(rows):
            return []
        places = np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE))
        seen = self._votes(rows[np.unique(places.astype(np.int64))])
        scores = seen * (seen / np.maximum(self._usual, 1e-9)) ** _EXCLUSIVENESS
        nouns = self._result.model.nouns
        return [nouns[each] for each in np.argsort(-scores)[:_SUGGESTIONS].tolist()]

    def tree(self) -> dict[str, Any]:
        """The run's tree: of each node its parent, name, size and an image.

        Raises:
          InputError: The run has none.
        """
        tree = self._tree()
        count = len(tree.names)
        best = np.full(count, -1, np.int64)
        # The last one written stays: the surest.
        best[tree.leaves[self._surest[::-1]]] = self._surest[::-1]
        for node in range(count - 1, 0, -1):
            above, own = tree.parent(node), best[node]
            known = best[above]
            if own >= 0 and (
                known < 0 or self._confidences[own] > self._confidences[known]
            ):
                best[above] = own
        sizes = tree.sizes().tolist()
        return {
            "base": tree.base,
            "groups": tree.num_groups,
            "nodes": [
                {
                    "parent": tree.parent(node),
                    "name": tree.names[node],
                    "guess": tree.guesses[node],
                    "size": sizes[node],
                    "row": int(best[node]),
                }
                for node in range(count)
            ],
        }

    def _tree(self) -> ClusterTree:
        if self._result.tree is None:
            raise InputError("This run has no tree of groups")
        return self._result.tree

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Compare two versions; an empty name stands for now.

        Raises:
          InputError: There is no version of a name.
        """
        with self._lock:
            one, other = self._version(first), self._version(second)
            rows = np.flatnonzero(one.of != other.of)
            return {
                **self._listed(rows),
                "groups": [len(one.names), len(other.names)],
                "nowhere": [int((each.of == NOWHERE).sum()) for each in (one, other)],
                "flows": _flows(one.of[rows], other.of[rows], one.names, other.names),
            }

    def learn(self, version: Any) -> dict[str, Any]:
        """Learn from the edits, and show what would change; nothing has yet.

        Raises:
          InputError: Nothing was said, or statements contradict each other.
          StaleError: Another window has made an edit since.
        """
        with self._learning:
            with self._lock:
                if version != self.version():
                    raise StaleError
                groups, next_id = self.groups, self._review.history.next_id
            if not _statements(groups):
                raise InputError(
                    "There is nothing to learn from: move pictures, take them out of "
                    "groups, or answer questions first"
                )
            lesson = self._actions.learn(groups, next_id)
            with self._lock:
                self._lesson = (version, lesson)
                names = dict(groups.names)
                names |= {each["id"]: GroupName(each["name"]) for each in lesson.made}
                return {
                    **self._listed(lesson.rows),
                    "text": lesson.text,
                    "flows": _flows(
                        groups.of[lesson.rows], lesson.into, groups.names, names
                    ),
                }

    def ask(self, skip: Any) -> dict[str, Any]:
        """Choose the questions whose answers would tell most.

        Args:
          skip: Pairs of rows that nobody can tell.

        Raises:
          InputError: ``skip`` is something else.
        """
        pairs = skip if isinstance(skip, list) else None
        if pairs is None or not all(
            isinstance(each, list) and len(check_rows(self.groups, each)) == 2
            for each in pairs
        ):
            raise InputError("Expected pairs of rows")
        with self._learning:
            found = self._actions.ask(self.groups, [(a, b) for a, b in pairs])
        with self._lock:
            return {
                "questions": [
                    {**each, "image": self._image(each["rows"][0])} for each in found
                ]
            }

    def _version(self, name: str) -> Groups:
        history = self._review.history
        versions = {"": history.groups, "the run": history.first, **history.versions}
        if name not in versions:
            raise InputError(f"No version is called {printable(name)!r}")
        return versions[name]

    def export(self, format: str) -> dict[str, Any]:
        """Write the groups in a format, into the workdir.

        Raises:
          InputError: There is no such format, or it can't be written.
        """
        check_one_of("format", format, self._actions.formats)
        return {"text": self._actions.export(self.groups, format)}

    def edit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make one edit, and return the state after it.

        Args:
          request: ``version`` that the window shows, ``action`` and what belongs to it.

        Raises:
          InputError: It can't be made.
          StaleError: Another window has made one since.
        """
        with self._lock:
            if request.get("version") != self.version():
                raise StaleError
            try:
                event = self._complete(request)
            except (KeyError, TypeError) as error:
                raise InputError(f"The edit lacks a part: {error}") from error
            self._review.add(event)
            self._refresh()
            return {"text": self._said(event), **self.state(), **self._seen(request)}

    def _seen(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The images of the group that a window shows, to spare it a question."""
        show = request.get("show")
        if not isinstance(show, Mapping) or show.get("group") not in self._view.ids:
            return {}
        wanted = {"order": "sure", "offset": 0, "limit": _MOST_ROWS, **show}
        try:
            return {"shown": self.rows(**{name: wanted[name] for name in _SHOWN})}
        except (InputError, TypeError):
            # The edit is made: who asks for nonsense beside it gets none.
            return {}

    def _said(self, event: Mapping[str, Any]) -> str:
        action = event["action"]
        if action == "undo":
            return f"Undone: {self._review.history.redo}"
        if action == "version":
            return f"Version {event['name']!r} kept"
        return self._review.history.undo

    def _complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the event of a request: all that it takes to do it again."""
        action = check_one_of("action", str(request["action"]), _REQUESTS)
        own = {name: request[name] for name in _REQUESTS[action] if name in request}
        event: dict[str, Any] = {"action": action, **own}
        if action == "merge" and "name" not in own:
            if not isinstance(own["groups"], list) or not own["groups"]:
                raise InputError("Expected two or more different groups, found none")
            event["name"] = self._name_of(own["groups"][0])
        elif action == "move" and "into" not in own:
            event["into"] = self._review.history.next_id
            if not own.get("name"):
                rows = check_rows(self.groups, own["rows"])
                event |= self._free_name(self._nouns_of(rows), {})
        elif action == "split":
            event = self._split(own["group"], own.get("parts", 2))
        elif action == "refuse":
            event["into"] = self._elsewhere(own["rows"])
        elif action == "learn":
            event = self._take_lesson()
        elif action == "cut":
            event["into"] = self._cut(own["num_groups"])
        return event

    def _take_lesson(self) -> dict[str, Any]:
        """The event of what was learnt, if it is of the groups as they are now."""
        version, lesson = self._lesson or (-1, None)
        if lesson is None or version != self.version():
            raise InputError("The groups have changed since: learn again")
        return {
            "action": "learn",
            "rows": lesson.rows.tolist(),
            "into": lesson.into.tolist(),
            "made": lesson.made,
            "gone": lesson.gone,
            "learned": lesson.keep(),
        }

    def _name_of(self, group: Any) -> str:
        if not isinstance(group, int) or group not in self.groups.names:
            raise InputError("This group isn't there any more; look again")
        return self.groups.names[group].text

    def _free_name(
        self, wanted: Sequence[str], taken: Mapping[int, GroupName]
    ) -> dict[str, Any]:
        """Take the first name that is free."""
        names = (*self.groups.names.values(), *taken.values())
        used = {NONE_OF_THESE, *(each.text.casefold() for each in names)}
        for name in wanted:
            if name.casefold() not in used:
                return {"name": name, "guess": True}
        base, number = (wanted[0] if wanted else "new group"), 2
        while f"{base} {number}".casefold() in used:
            number += 1
        return {"name": f"{base} {number}", "guess": True}

    def _split(self, group: Any, parts: Any) -> dict[str, Any]:
        """Split a group: along the tree where it is a node of it, or else anew."""
        self._name_of(group)
        if not isinstance(parts, int):
            raise InputError("Expected a number of parts")
        rows = np.sort(self._view.rows(group))
        check_in_range("number of parts", parts, 2, min(_MOST_PARTS, max(len(rows), 1)))
        found = self._halves(rows) if parts == 2 else None
        if found is None:
            # Here: it takes a second to import, and edits of groups need none of it.
            from sklearn.cluster import KMeans

            points = self._points[rows]
            step = max(1, len(rows) // _FITTED)
            means = KMeans(parts, n_init="auto", random_state=0).fit(points[::step])
            labels = means.predict(points)
            pieces = [rows[labels == each] for each in range(parts)]
            found = [(piece, self._nouns_of(piece)) for piece in pieces if len(piece)]
        if len(found) < 2:
            raise InputError("These pictures are all alike: there is nothing to split")
        found.sort(key=lambda each: -len(each[0]))
        made, taken = [], {}
        for number, (piece, nouns) in enumerate(found):
            id = self._review.history.next_id + number
            name = self._free_name(nouns, taken)
            taken[id] = GroupName(name["name"])
            made.append({"id": id, **name, "rows": piece.tolist()})
        return {"action": "split", "group": group, "parts": made}

    def _halves(self, rows: np.ndarray) -> list[tuple[np.ndarray, list[str]]] | None:
        """The two nodes below the one that a group is, with their names."""
        tree = self._result.tree
        if tree is None or not len(rows):
            return None
        leaves = tree.leaves[rows]
        above = {int(each) for each in np.unique(leaves)}
        while len(above) > 1:
            lowest = max(above)
            above = (above - {lowest}) | {tree.parent(lowest)}
        node = above.pop()
        step = np.flatnonzero(tree.splits == node)
        if not len(step) or tree.sizes()[node] != len(rows):
            return None
        left = 2 * int(step[0]) + 1
        below = np.arange(len(tree.names))
        for each in range(left + 2, len(below)):
            below[each] = below[tree.parent(each)]
        own = below[leaves]
        return [(rows[own == each], [tree.names[each]]) for each in (left, left + 1)]

    def _elsewhere(self, values: Any) -> list[int]:
        """The next likeliest group of images that aren't what their group is."""
        rows = check_rows(self.groups, values)
        groups, view = self.groups, self._view
        counts = np.diff(view.starts)[:-1]
        inside = view.order[: view.starts[-2]]
        table = csr_array(
            (np.ones(len(inside), np.float32), inside, view.starts[:-1]),
            shape=(len(counts), len(groups.of)),
        )
        sums = table @ self._points
        means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        cosines = self._points[rows] @ means.T
        cosines[:, counts == 0] = -np.inf
        place = {id: each for each, id in enumerate(view.ids)}
        into = []
        for row, own in zip(rows.tolist(), cosines, strict=True):
            for id in (int(groups.of[row]), *groups.refused.get(row, ())):
                if id != NOWHERE and id in place:
                    own[place[id]] = -np.inf
            best = int(np.argmax(own))
            into.append(view.ids[best] if np.isfinite(own[best]) else NOWHERE)
        return into

    def _cut(self, num_groups: Any) -> list[dict[str, Any]]:
        """Ids and names of the groups at a level of the tree."""
        tree = self._tree()
        if not isinstance(num_groups, int):
            raise InputError("Expected a number of groups")
        check_in_range("number of groups", num_groups, 2, tree.num_groups)
        level, base = tree.cut(num_groups), tree.cut(tree.base)
        # A node that is a cluster of the run keeps its id.
        first = np.full(len(base.nodes), -1)
        first[base.groups[::-1]] = self._result.assignments[::-1]
        known = {
            node: self._result.clusters[int(index)].id
            for node, index in zip(base.nodes, first, strict=True)
        }
        made, taken, next_id = [], set(), self._review.history.next_id
        for node, name, guess in zip(
            level.nodes, level.names, level.guesses, strict=True
        ):
            id = known.get(node, -1)
            if id < 0:
                id, next_id = next_id, next_id + 1
            text, number = name, 2
            while text.casefold() in taken:
                text, number = f"{name} {number}", number + 1
            taken.add(text.casefold())
            made.append({"id": id, "name": text, "guess": guess})
        return made


_SHOWN = ("group", "order", "offset", "limit")
_REQUESTS: Mapping[str, tuple[str, ...]] = {
    "rename": ("group", "name"),
    "merge": ("groups", "name"),
    "split": ("group", "parts"),
    "move": ("rows", "into", "name"),
    "mark": ("rows", "mark"),
    "refuse": ("rows",),
    "cut": ("num_groups",),
    "answer": ("rows", "same"),
    "same": ("groups",),
    "learn": (),
    "undo": (),
    "redo": (),
    "version": ("name",),
}


def _statements(groups: Groups) -> int:
    """Number of images, pairs and groups of which a person said something."""
    said = (groups.refused, groups.answers, groups.same)
    return int(groups.placed.sum()) + sum(map(len, said))


def _flows(
    before: np.ndarray,
    after: np.ndarray,
    names: Mapping[int, GroupName],
    later: Mapping[int, GroupName],
) -> list[dict[str, Any]]:
    """How many images go from where to where, most first."""
    pairs, counts = np.unique(
        np.stack([before, after], axis=1), axis=0, return_counts=True
    )
    return [
        {
            "from": _shown(names, int(pairs[each, 0])),
            "to": _shown(later, int(pairs[each, 1])),
            "count": int(counts[each]),
        }
        for each in np.argsort(-counts, kind="stable")[:_MOST_FLOWS]
    ]


def _shown(names: Mapping[int, GroupName], id: int) -> str:
    return names[id].text if id in names else NONE_OF_THESE
