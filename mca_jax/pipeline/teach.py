"""Teaching a finished clustering: what was corrected changes the rest, and it asks.

Nothing is embedded again. What a user said of some images spreads to those that are
like them, the image network is trained on that, and what changed is shown before
anyone takes the new result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from mca_jax.alignment import build_heads
from mca_jax.core.arrays import as_whole_number
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.parallel import fetch_rows
from mca_jax.core.random import named_key
from mca_jax.evaluation import measure_risk
from mca_jax.model.calibration import calibrate
from mca_jax.model.cluster_model import ClusterModel, Network
from mca_jax.model.constraints import (
    Closure,
    Constraints,
    Given,
    as_constraints,
    close_constraints,
)
from mca_jax.model.predict import project_images
from mca_jax.model.questions import NUM_CHOICES, Question, choose_questions
from mca_jax.model.result import Cluster, ClusterResult, ScoredNoun
from mca_jax.model.teaching import Belief, Points, spread_answers
from mca_jax.model.tree import ClusterTree
from mca_jax.neighbors import Projection, apply_projection, image_neighbors, smooth_new
from mca_jax.neighbors.constrained import constrained_kmeans
from mca_jax.neighbors.tree import grow_tree
from mca_jax.pipeline.assembly import measure_closeness
from mca_jax.pipeline.describe import (
    describe_cluster,
    name_groups,
    scored_nouns,
)
from mca_jax.pipeline.edit.describe_again import STALE, model_nouns, unlike
from mca_jax.pipeline.stages import Prepared
from mca_jax.training.corrections import make_pairs, train_on_groups

__all__ = [
    "Changes",
    "Learned",
    "apply_constraints",
    "believe",
    "constrain_start",
    "find_parts",
    "learn",
    "questions",
    "read_given",
    "settle",
    "teaching_points",
]

# Columns of clusters that are no more are never chosen.
_NEVER = -1e4
_ALMOST_ZERO = 1e-9
_SAME_POINT = 1e-3
# Images that the start of a constrained run is clustered from.
_MOST_STARTED = 100_000
_BLOCK = 8_192
# Compiled as one: a dozen steps on their own take ten seconds of a first lesson.
_measure_risk = jax.jit(measure_risk)


class Changes(NamedTuple):
    """What is other than before; groups are told by their ids.

    Attributes:
      rows: Images that are in another group, ascending.
      before: Id of the group that each of them was in.
      after: Id of the group that it is in now.
      merged: Ids of groups that went into another, and into which.
      made: Ids of new groups.
      gone: Ids of groups that lost all their images otherwise.
      given: The new id of each id of a label that no group had.
      spread: Whether images that nothing is said of follow: the others foretell more of
        the answers, each left out in turn, than the groups knew already.
    """

    rows: np.ndarray
    before: np.ndarray
    after: np.ndarray
    merged: dict[int, int]
    made: tuple[int, ...]
    gone: tuple[int, ...]
    given: dict[int, int]
    spread: bool

    def sentence(self) -> str:
        """Say in a line what changed.

        Example:
          >>> some = np.array([4])
          >>> Changes(some, some, some, {3: 1}, (9,), (), {}, True).sentence()
          '1 image moves, 1 group goes into another, 1 group is new'
        """
        moved = len(self.rows)
        parts = ["1 image moves" if moved == 1 else f"{moved:,} images move"]
        for found, one, many in (
            (self.merged, "goes into another", "go into others"),
            (self.made, "is new", "are new"),
            (self.gone, "is empty now", "are empty now"),
        ):
            if found:
                count = len(found)
                parts.append(
                    f"1 group {one}" if count == 1 else f"{count} groups {many}"
                )
        told = ", ".join(parts)
        if self.spread:
            return told
        return f"{told}; too little was said for other images to follow"


class Learned(NamedTuple):
    """A result that honours what was said, and what is other in it.

    Attributes:
      result: The new result; the one before is as it was.
      changes: What changed.
      constraints: What was said, as rows.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> learned = learn(example_result(), constraints={"labels": [(3, 0)]})
      >>> learned.changes.sentence()
      '1 image moves; too little was said for other images to follow'
    """

    result: ClusterResult
    changes: Changes
    constraints: Constraints


def learn(
    result: ClusterResult,
    embeddings: Any = None,
    *,
    constraints: Given,
    seed: int = 0,
) -> Learned:
    """Learn from what a user said of single images.

    Other images follow what was said only where it foretells itself: each answer is
    left out in turn, and the others have to foretell more of them than the groups knew
    already. Groups keep their ids and names. An image that belongs nowhere stays in
    the table of its nearest group with even probabilities, and is listed under
    ``"nowhere"`` in ``metrics["teaching"]``.

    Args:
      result: A result with a model.
      embeddings: Embeddings of its images, ``[n, d]``; None takes those of ``result``.
      constraints: All that was said so far, by rows or paths, or a JSON file of it.
      seed: Seed of all that is random.

    Returns:
      A new result, and what changed. Images that are held together are in one group of
      it, those apart in two, and those with a label in that group.

    Raises:
      InputError: The result has no model, an image or group is not of it, or statements
        contradict each other.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> result = example_result()
      >>> learned = learn(result, constraints=Constraints(must_link=[(0, 25)]))
      >>> bool(learned.result.assignments[0] == learned.result.assignments[25])
      True
    """
    model = _model_of(result)
    vectors = _check_embeddings(result, embeddings)
    said = as_constraints(constraints, result.paths)
    closure = close_constraints(_follow_merges(said, model, result), len(vectors))
    points = _points(model, vectors, result.neighbors)
    belief, spread = settle(result, points, closure)
    key = named_key(jax.random.key(seed), "teaching")
    near = _near(result, points)
    trained = _train(key, model, points, belief, said, near)
    if not spread:
        trained = trained[0], belief.probabilities
    return _assemble(result, vectors, points, belief, trained, closure, said, spread)


def questions(
    result: ClusterResult,
    count: int = 20,
    *,
    choices: int = NUM_CHOICES,
    constraints: Given | None = None,
    skip: Iterable[tuple[int, int]] = (),
    seed: int = 0,
) -> tuple[Question, ...]:
    """Choose the questions whose answers would tell most.

    Most show an image beside others that stand for the likeliest groups: with which
    does it belong? Some are of two images that stand for groups which may be one.
    ``Question.answer`` makes ``constraints`` of what is said; what follows from those
    is not asked again.

    Args:
      result: A result with a model.
      count: Most questions, at least 1.
      choices: Most groups that an image is shown beside, at least 1. With 1 all
        questions are of two images, and their answers tell less.
      constraints: All that was said so far.
      skip: Pairs of rows that are not asked either, such as those that nobody can tell;
        of a question with choices any of its pairs will do.
      seed: Nothing is drawn: the same answers give the same questions, whatever it is.

    Returns:
      The most telling first; none where everything follows.

    Raises:
      InputError: As for :func:`learn`.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> questions(example_result(), 4)[-1].text
      'With which of these does it belong?'
    """
    del seed
    count = as_whole_number("count", count)
    check_in_range("count", count, 1)
    check_in_range("choices", choices, 1)
    model = _model_of(result)
    vectors = _check_embeddings(result, None)
    said = as_constraints(constraints or Constraints(), result.paths)
    closure = close_constraints(_follow_merges(said, model, result), len(vectors))
    points = _points(model, vectors, result.neighbors)
    return choose_questions(
        points,
        believe(result, points, closure),
        closure,
        find_parts(result, points),
        count,
        choices=choices,
        skip=skip,
    )


def read_given(given: Given | None, paths: Sequence[str]) -> Constraints | None:
    """Read and check the constraints of a run, before it costs time.

    Raises:
      InputError: An image is not of the set, or statements contradict each other.
    """
    if given is None:
        return None
    said = as_constraints(given, paths)
    close_constraints(said, len(paths))
    return said if said.num else None


def constrain_start(prepared: Prepared, said: Constraints | None) -> Prepared:
    """Let training begin with clusters that honour what was said.

    Args:
      prepared: What training reads.
      said: Rows; None leaves all as it is.
    """
    if said is None:
        return prepared
    closure = close_constraints(said, prepared.data.images.shape[0])
    rows = np.arange(len(closure.components))
    if len(rows) > _MOST_STARTED:
        some = np.linspace(0, len(rows) - 1, _MOST_STARTED).astype(np.int64)
        rows = np.union1d(some, np.flatnonzero(closure.components >= 0))
    found = constrained_kmeans(
        fetch_rows(prepared.data.images, rows),
        np.asarray(prepared.initialization.centers),
        closure.components[rows],
        closure.apart,
    )
    start = prepared.initialization._replace(centers=jnp.asarray(found.centers))
    return prepared._replace(initialization=start)


def apply_constraints(
    result: ClusterResult, said: Constraints | None, *, seed: int
) -> ClusterResult:
    """Make the clusters of a new run honour what was said.

    Ids of labels name no cluster of a new run: each goes to the cluster that most of
    its images are in, no two to one.
    """
    if said is None:
        return result
    names, which = np.unique(said.labels[:, 1], return_inverse=True)
    votes = np.zeros((len(names), len(result.clusters)))
    np.add.at(votes, (which, result.assignments[said.labels[:, 0]]), 1.0)
    ones, clusters = linear_sum_assignment(-votes)
    # What is left over when there are more groups than clusters is new.
    own = len(result.clusters) + np.arange(len(names))
    own[ones] = clusters
    labels = np.stack([said.labels[:, 0], own[which]], axis=1)
    said = said._replace(labels=labels.reshape(-1, 2))
    return learn(result, constraints=said, seed=seed).result


def _model_of(result: ClusterResult) -> ClusterModel:
    if result.model is None:
        raise InputError(
            "Expected a result from mca_jax.cluster or mca_jax.load, found one "
            "without a model"
        )
    return result.model


def _check_embeddings(result: ClusterResult, embeddings: Any) -> np.ndarray:
    vectors = result.embeddings if embeddings is None else embeddings
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape != (len(result.paths), len(_model_of(result).network.mean)):
        raise InputError(
            f"Expected embeddings of the {len(result.paths):,} images of the result, "
            f"found a table of {' x '.join(map(str, vectors.shape))}"
        )
    return vectors


def _follow_merges(
    said: Constraints, model: ClusterModel, result: ClusterResult
) -> Constraints:
    """Read labels of clusters that were merged since as those that they went into.

    Raises:
      InputError: A label is of a cluster that was split, or that is gone.
    """
    into: dict[int, int] = {}
    for edit in model.edits:
        if edit["action"] == "merge":
            into |= dict.fromkeys(edit["clusters"], edit["into"])
        elif edit["action"] == "learn":
            into |= {int(each): other for each, other in edit["merged"].items()}
    known = {each.id for each in result.clusters}
    labels = said.labels.copy()
    for index, group in enumerate(labels[:, 1].tolist()):
        seen = set()
        while group not in known and group in into and group not in seen:
            seen.add(group)
            group = into[group]
        if group not in known and group < len(model.groups):
            raise InputError(
                f"Expected labels of groups that are there, or of new ones from "
                f"{len(model.groups)} on; found group {group}, which is there no more"
            )
        labels[index, 1] = group
    return said._replace(labels=labels)


def _points(
    model: ClusterModel, vectors: np.ndarray, near: np.ndarray | None
) -> Points:
    """The images in the space that was clustered, as cheaply as it can be had."""
    projection = Projection(
        jnp.asarray(model.network.mean), jnp.asarray(model.network.axes)
    )
    plain = np.asarray(apply_projection(projection, jnp.asarray(vectors)))
    memory = model.memory
    if not memory.num_near:
        return Points(plain, plain)
    same = memory.projected.shape == plain.shape
    if (
        near is not None
        and same
        and np.abs(memory.projected - plain).max() < _SAME_POINT
    ):
        # Their neighbours are known: an image of the set is its own nearest.
        rows = np.arange(len(plain))[:, None]
        table = np.concatenate([rows, near[:, : memory.num_near - 1]], axis=1)
        before = jnp.asarray(memory.before)
        smoothed = [
            np.asarray(smooth_new(before, jnp.asarray(table[first : first + _BLOCK])))
            for first in range(0, len(table), _BLOCK)
        ]
        return Points(np.concatenate(smoothed), plain)
    return Points(project_images(model, vectors), plain)


def teaching_points(result: ClusterResult, vectors: Any = None) -> Points:
    """The images of a result as what is said of them spreads.

    Args:
      result: A result with a model.
      vectors: Embeddings of its images; None takes those of the result.

    Raises:
      InputError: There is no model, or the embeddings are of something else.
    """
    vectors = _check_embeddings(result, vectors)
    return _points(_model_of(result), vectors, result.neighbors)


def believe(
    result: ClusterResult, points: Points, closure: Closure, *, literal: bool = False
) -> Belief:
    """Spread what was said over the clusters of a result, or apply it literally."""
    return spread_answers(
        points,
        np.asarray(result.assignments),
        [each.id for each in result.clusters],
        closure,
        # Groups that were made by hand have ids beyond the columns.
        next_id=max(
            len(_model_of(result).groups), 1 + max(each.id for each in result.clusters)
        ),
        literal=literal,
    )


def settle(
    result: ClusterResult, points: Points, closure: Closure
) -> tuple[Belief, bool]:
    """Spread what was said, if it foretells itself; or else apply it literally.

    Returns:
      The groups, and whether images that nothing is said of follow.
    """
    belief = believe(result, points, closure)
    if belief.foretold > belief.known:
        return belief, True
    belief = believe(result, points, closure, literal=True)
    return _keep_others(result, belief, closure), False


def _keep_others(result: ClusterResult, belief: Belief, closure: Closure) -> Belief:
    """Leave images that nothing is said of as sure as they were."""
    place = {each.id: each.index for each in result.clusters}
    kept = np.array([place.get(id, -1) for id in belief.ids])
    before = np.where(kept >= 0, result.probabilities[:, kept], 0.0)
    sums = before.sum(axis=1, keepdims=True)
    free = (closure.components < 0)[:, None] & (sums > 0)
    probabilities = np.where(
        free, before / np.maximum(sums, _ALMOST_ZERO), belief.probabilities
    )
    return belief._replace(probabilities=probabilities.astype(np.float32))


def find_parts(result: ClusterResult, points: Points) -> ClusterTree:
    """The tree of a result; where it has none any more, another one, without names."""
    if result.tree is not None:
        return result.tree
    grown = grow_tree(points.smoothed, result.assignments)
    count = 2 * len(grown.splits) + 1
    base = len(np.unique(result.assignments))
    return ClusterTree(*grown, ("",) * count, (False,) * count, base)


def _train(
    key: jax.Array,
    model: ClusterModel,
    points: Points,
    belief: Belief,
    said: Constraints,
    near: np.ndarray,
) -> tuple[Network, np.ndarray]:
    """Train an image network on the groups; a column is the id of its group.

    Returns:
      The network, and its probabilities of the groups, ``[n, q]``.
    """
    ids = np.array(belief.ids)
    width = int(max(ids.max() + 1, len(model.groups)))
    constants = {**model.network.constants, "num_clusters": width}
    heads = build_heads(**constants)
    sums = np.zeros((width, points.smoothed.shape[1]), np.float32)
    np.add.at(sums, ids[belief.assignments], points.smoothed)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    centers = sums / np.maximum(lengths, _ALMOST_ZERO)
    bias = np.full(width, _NEVER, np.float32)
    bias[ids] = 0.0
    # Those of ``heads.init``, but for what is known already.
    params: Any = dict(model.network.params)
    for name in ("image", "text"):
        scale = np.asarray(model.network.params[name]["log_scale"])
        params[name] = {"weight": centers, "log_scale": scale, "bias": bias}
    wanted = np.zeros((len(points.smoothed), width), np.float32)
    wanted[:, ids] = belief.probabilities
    own = ids[belief.assignments]
    params = train_on_groups(
        params,
        jnp.asarray(points.smoothed),
        jnp.asarray(wanted),
        pairs=make_pairs(said.must_link, said.cannot_link),
        anchors=make_pairs(np.stack([belief.settled, own[belief.settled]], axis=1)),
    )
    params = calibrate(
        key,
        heads,
        params,
        images=jnp.asarray(points.smoothed),
        image_neighbors=near,
        assignments=belief.assignments,
    )
    logits = heads.image_logits(params, jnp.asarray(points.smoothed))
    probabilities = np.array(jax.nn.softmax(logits, axis=-1))[:, ids]
    network = model.network._replace(
        params=jax.tree.map(np.asarray, params), constants=constants
    )
    return network, probabilities


def _place(belief: Belief, probabilities: np.ndarray, closure: Closure) -> np.ndarray:
    """The likeliest group of each image, and what was said where something was."""
    assignments = probabilities.argmax(axis=1).astype(np.int32)
    said = np.union1d(np.flatnonzero(closure.components >= 0), belief.settled)
    assignments[said] = belief.assignments[said]
    return assignments


class _Named(NamedTuple):
    """What a group is called, and by what."""

    name: str
    nouns: tuple[ScoredNoun, ...]
    guess: bool


def _name_new(
    model: ClusterModel,
    points: Points,
    ids: Sequence[int],
    assignments: np.ndarray,
    before: dict[int, Cluster],
) -> dict[int, _Named]:
    """Name the groups that there were not before, unlike all others."""
    new = [index for index, each in enumerate(ids) if each not in before]
    if not new:
        return {}
    nouns = model_nouns(model)
    nowhere = np.zeros(points.smoothed.shape[1], np.float32)
    found = name_groups(
        points.smoothed,
        assignments,
        nouns,
        num_groups=len(ids),
        image_mean=nowhere,
        noun_mean=nowhere,
    )
    used = {before[each].name.casefold() for each in ids if each in before}
    named = {}
    for index in new:
        name = unlike(found[index].name, used)
        used.add(name.casefold())
        scored = scored_nouns(found[index], nouns.table)
        named[ids[index]] = _Named(name, scored, found[index].guess)
    return named


def _describe(
    result: ClusterResult,
    points: Points,
    ids: Sequence[int],
    assignments: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[Cluster, ...]:
    """Describe all groups; those that there were keep their names."""
    before = {each.id: each for each in result.clusters}
    named = _name_new(_model_of(result), points, ids, assignments, before)
    clusters = []
    for index, each in enumerate(ids):
        called = named.get(each) or before[each]
        described = describe_cluster(
            index,
            called.name,
            called.nouns,
            images=points.smoothed,
            probabilities=probabilities,
            assignments=assignments,
            guess=called.guess,
        )
        clusters.append(replace(described, id=each))
    return tuple(clusters)


def _changes(
    result: ClusterResult,
    ids: Sequence[int],
    assignments: np.ndarray,
    belief: Belief,
    spread: bool,
) -> Changes:
    old = np.array([each.id for each in result.clusters])
    before, after = old[result.assignments], np.array(ids)[assignments]
    rows = np.flatnonzero(before != after)
    gone = set(old.tolist()) - set(ids) - set(belief.merged)
    return Changes(
        rows=rows,
        before=before[rows],
        after=after[rows],
        merged=dict(belief.merged),
        made=tuple(sorted(set(ids) - set(old.tolist()))),
        gone=tuple(sorted(gone)),
        given=dict(belief.given),
        spread=spread,
    )


def _assemble(
    result: ClusterResult,
    vectors: np.ndarray,
    points: Points,
    belief: Belief,
    trained: tuple[Network, np.ndarray],
    closure: Closure,
    said: Constraints,
    spread: bool,
) -> Learned:
    """Put the new result together."""
    model, (network, probabilities) = _model_of(result), trained
    assignments = belief.assignments
    if spread:
        assignments = _place(belief, probabilities, closure)
    clusters = _describe(result, points, belief.ids, assignments, probabilities)
    changes = _changes(result, belief.ids, assignments, belief, spread)
    probabilities[closure.nowhere] = 1.0 / len(belief.ids)
    width = network.constants["num_clusters"]
    columns = np.full(width, -1, np.int32)
    columns[list(belief.ids)] = np.arange(len(belief.ids))
    own = np.array(belief.ids)[assignments]
    centers, closeness = measure_closeness(vectors, network.mean, own, width)
    edit = {
        "action": "learn",
        "statements": said.num,
        "moved": len(changes.rows),
        "merged": {str(a): b for a, b in changes.merged.items()},
        "made": list(changes.made),
    }
    model = replace(
        model,
        network=network,
        centers=centers,
        closeness=closeness,
        splits=(),
        groups=columns,
        clusters=clusters,
        edits=(*model.edits, edit),
    )
    metrics = {name: v for name, v in result.metrics.items() if name not in STALE}
    near = _near(result, points)
    risk = jax.device_get(_measure_risk(probabilities, near))._asdict()
    risk = {name: float(value) for name, value in risk.items()}
    metrics["label_free"] = {**metrics.get("label_free", {}), **risk}
    metrics["teaching"] = {
        "statements": said.num,
        "moved": len(changes.rows),
        "nowhere": closure.nowhere.tolist(),
        "spread": spread,
    }
    learned = replace(
        result,
        assignments=assignments,
        probabilities=probabilities,
        clusters=clusters,
        metrics=metrics,
        params=network.params,
        baselines={},
        # The tree is one of the groups as they were.
        tree=None,
        model=model,
    )
    return Learned(learned, changes, said)


def _near(result: ClusterResult, points: Points) -> np.ndarray:
    if result.neighbors is not None:
        return result.neighbors
    return np.asarray(image_neighbors(jnp.asarray(points.smoothed)).indices)
