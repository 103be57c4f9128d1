"""The host loop: compiles once, runs steps on the device, watches them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.alignment.forward import assign_images
from mca_jax.alignment.losses import LossWeights, Objective
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.interrupts import Interrupted, Pending, hold_interrupts
from mca_jax.core.parallel import replicate
from mca_jax.core.random import named_key
from mca_jax.core.types import Params, PRNGKey
from mca_jax.neighbors.kmeans import sample_rows
from mca_jax.training.checkpoints import Checkpointer, Snapshot
from mca_jax.training.convergence import (
    Failure,
    Monitor,
    Status,
    fit_rate_exponent,
    has_converged,
    init_monitor,
    mean_loss,
    record_epoch,
    record_steps,
    summarize_epoch,
)
from mca_jax.training.epochs import (
    Epoch,
    TrainDriver,
    TrainingData,
    compile_epoch,
    shard_data,
    steps_per_epoch,
)
from mca_jax.training.revival import empty_clusters, revive_clusters
from mca_jax.training.step import TrainState, init_state

__all__ = [
    "EpochCallback",
    "FitResult",
    "Trainer",
    "WeightsHook",
    "build_trainer",
    "fit",
]

EpochCallback = Callable[[dict[str, float]], None]
WeightsHook = Callable[[int, Params], None]

# Between two calls a signal is noticed; on two slow cores a step of a thousand
# images takes some 50 ms.
_MOST_STEPS_A_CALL = 128
# Images by which training is watched: to assign a million to a thousand clusters after
# each hundred steps takes two cores a third as long as the steps.
_WATCHED = 100_000


class FitResult(NamedTuple):
    """Trained networks and how they came about.

    Attributes:
      params: Weights of the three networks.
      assignments: Likeliest cluster of each image, int32 ``[n]``.
      history: One dict an epoch, see ``summarize_epoch``.
      status: How training ended.
      rate_exponent: Fitted exponent of the mean squared gradient norm.
      failure: Which step and part of the loss failed, or None.
    """

    params: Params
    assignments: Int[np.ndarray, " n"]
    history: tuple[dict[str, float], ...]
    status: Status
    rate_exponent: float
    failure: Failure | None


class Trainer(NamedTuple):
    """Compiled pieces of a training run; several runs may share one.

    Attributes:
      init: ``(key, centers)`` to the first state.
      epoch: Steps within an epoch over the set.
      assign: ``(params, images)`` to the likeliest cluster of each image.
      shard: Brings the set to where the steps read it.
      revive: ``(params, assignments, images)`` to weights without empty clusters.
      batch_size: Images a step.
      max_steps: Most steps of an epoch; None for a whole pass.
    """

    init: Callable[[PRNGKey, Array], TrainState]
    epoch: Epoch
    assign: Callable[[Params, Any], np.ndarray]
    shard: Callable[[TrainingData], TrainingData]
    revive: Callable[[Params, np.ndarray, Any], Params]
    batch_size: int
    max_steps: int | None = None


def build_trainer(
    heads: Heads,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    max_steps: int | None = None,
    mesh: Mesh | None = None,
    driver: TrainDriver = "jit",
) -> Trainer:
    """Compile what a run needs, lazily and once for each shape.

    Args:
      heads: The three networks.
      objective: The loss of a whole batch; its weights stay arguments of a run.
      optimizer: The optimizer.
      batch_size: Images a step over all devices, at most ``n``.
      max_steps: Most steps of an epoch, which is then a sample of the set, another
        each time; None for a whole pass.
      mesh: Devices that share set and batch; None for one device.
      driver: How they share a step.

    Raises:
      InputError: ``"pmap"`` is asked for in a run of several processes.
    """
    if driver == "pmap" and jax.process_count() > 1:
        raise InputError(
            "Expected one process for train.driver=pmap, found "
            f"{jax.process_count()}; take train.driver=jit"
        )
    init = jax.jit(lambda key, centers: init_state(key, heads, optimizer, centers))

    def place_state(key: PRNGKey, centers: Float[Array, "k d"]) -> TrainState:
        state = init(key, centers)
        return state if mesh is None else replicate(state, mesh)

    return Trainer(
        init=place_state,
        epoch=compile_epoch(
            objective,
            optimizer,
            batch_size=batch_size,
            max_steps=max_steps,
            mesh=mesh,
            driver=driver,
        ),
        assign=partial(assign_images, heads),
        shard=partial(shard_data, mesh=mesh, driver=driver),
        revive=partial(revive_clusters, heads=heads, mesh=mesh),
        batch_size=batch_size,
        max_steps=max_steps,
    )


def _status(
    monitor: Monitor, step: int, loss_tolerance: float, changed_tolerance: float
) -> Status | None:
    """Status of a run that is over; None while it is not."""
    steps_per_epoch = len(monitor.grad_norms) // len(monitor.changed)
    epochs, rest = divmod(step, steps_per_epoch)
    if rest:
        return None
    if has_converged(
        [mean_loss(monitor, (i + 1) * steps_per_epoch) for i in range(epochs)],
        monitor.changed[:epochs].tolist(),
        loss_tolerance=loss_tolerance,
        changed_tolerance=changed_tolerance,
    ):
        return Status.CONVERGED
    return Status.STEP_LIMIT if epochs == len(monitor.changed) else None


class _Watch:
    """Images that are assigned after each epoch: all, or a sample of many."""

    def __init__(
        self, key: PRNGKey, trainer: Trainer, images: Any, num_clusters: int
    ) -> None:
        self._trainer, self._images, self._k = trainer, images, num_clusters
        self._watched = images
        if images.shape[0] > _WATCHED:
            self._watched = sample_rows(key, images, _WATCHED)

    def assign(self, params: Params) -> np.ndarray:
        """Clusters of the images that are watched."""
        return self._trainer.assign(params, self._watched)

    def assign_all(self, params: Params, watched: np.ndarray) -> np.ndarray:
        """Clusters of all images, where those of the watched ones are known."""
        if self._watched is self._images:
            return watched
        return self._trainer.assign(params, self._images)

    def to_find_empty(self, params: Params, watched: np.ndarray) -> np.ndarray:
        """Clusters of as many images as it takes to tell which ones are empty."""
        if len(empty_clusters(watched, self._k)):
            return self.assign_all(params, watched)
        return watched


class _Keeper:
    """Saves snapshots when they are due, and when a signal came."""

    def __init__(self, checkpointer: Checkpointer | None, pending: Pending) -> None:
        self._checkpointer = checkpointer
        self._pending = pending
        self._saved: int | None = None
        self.ended: Status | None = None

    def restore(self, fresh: Snapshot) -> Snapshot:
        if self._checkpointer is None:
            return fresh
        found = self._checkpointer.restore(fresh)
        if found is None:
            return fresh
        self._saved = int(found.state.step)
        if self._checkpointer.ends_training:
            # It may lie within an epoch: its weights count, not those before the epoch.
            self.ended = Status.BEST_CHECKPOINT
            return found._replace(pass_params=_copy(found.state.params))
        return found

    def count_steps(self, step: int, steps_per_epoch: int) -> int:
        """Steps of the next call: to the end of the epoch or what is due."""
        count = steps_per_epoch - step % steps_per_epoch
        if self._checkpointer is None:
            return count
        until_due = self._checkpointer.steps_until_due(step, steps_per_epoch)
        return min(count, until_due, _MOST_STEPS_A_CALL)

    def after_steps(self, snapshot: Snapshot, step: int, steps_per_epoch: int) -> None:
        if self._checkpointer is None:
            return
        if self._checkpointer.due(step, steps_per_epoch):
            self._save(snapshot, step)
        signum, everywhere = self._pending.signum, False
        if signum is None and self._checkpointer.preempted():
            signum, everywhere = signal.SIGTERM, True
        if signum is not None:
            self.finish(snapshot, step)
            kept = self._checkpointer.wait()
            stop = Interrupted(signum, everywhere=everywhere)
            stop.add_note(
                "no step of training is kept"
                if kept is None
                else f"training up to step {kept} is kept"
            )
            raise stop

    def finish(self, snapshot: Snapshot | None, step: int) -> None:
        """Save the last state, if it is valid, and wait until it is written."""
        if self._checkpointer is not None:
            if snapshot is not None:
                self._save(snapshot, step)
            self._checkpointer.wait()

    def _save(self, snapshot: Snapshot, step: int) -> None:
        if self._checkpointer is not None and step not in (0, self._saved):
            self._checkpointer.save(snapshot, mean_loss(snapshot.monitor, step))
            self._saved = step


def fit(
    key: PRNGKey,
    trainer: Trainer,
    data: TrainingData,
    centers: Float[Array, "k d"],
    *,
    weights: LossWeights,
    prior: Float[Array, " k"],
    num_epochs: int,
    loss_tolerance: float = 1e-3,
    changed_tolerance: float = 1e-3,
    on_epoch: EpochCallback | None = None,
    on_weights: WeightsHook | None = None,
    checkpointer: Checkpointer | None = None,
) -> FitResult:
    """Train the three networks on embeddings; takes no labels.

    Args:
      key: Root key of training.
      trainer: Compiled functions.
      data: Embeddings and neighbour tables.
      centers: k-means centres of the images, unit vectors.
      weights: Weights of the loss's parts; zeros switch levels off.
      prior: Wanted share of each cluster.
      num_epochs: Most epochs, at least 1.
      loss_tolerance: Relative change of the loss that counts as a plateau.
      changed_tolerance: Share of moved images that counts as converged; counted on
        100,000 of them where there are more.
      on_epoch: Called with each epoch's row of the history; not for epochs that
        a restored snapshot has behind it.
      on_weights: Called with the number of epochs trained and the weights, first
        before any step; to look at them, not to change them.
      checkpointer: Keeps snapshots. The run resumes from its newest and gives,
        bit for bit, what a run without a break gives, or ends with it if it
        says so. SIGINT and SIGTERM wait until the steps at work are done and
        kept.

    Returns:
      Weights, clusters of all images, history and status. After a non-finite or
      diverged step the weights are those before its epoch.

    Raises:
      InputError: ``num_epochs`` is below 1.
      Interrupted: A signal came; a note on it says what is kept.
    """
    check_in_range("train.epochs", num_epochs, 1)
    weights = LossWeights(*(jnp.float32(w) for w in weights))
    data = trainer.shard(data)
    per_epoch = steps_per_epoch(
        data.images.shape[0], trainer.batch_size, trainer.max_steps
    )
    num_clusters = centers.shape[0]
    watch = _Watch(named_key(key, "watched"), trainer, data.images, num_clusters)
    state = trainer.init(key, centers)
    fresh = Snapshot(state, _copy(state.params), init_monitor(num_epochs, per_epoch))
    failure: Failure | None = None
    # Several hosts stop together when one has to; that is not for a signal.
    hold = checkpointer is not None and jax.process_count() == 1
    with hold_interrupts(hold) as pending:
        keeper = _Keeper(checkpointer, pending)
        state, start_params, monitor = keeper.restore(fresh)
        del fresh
        step = int(state.step)
        before = watch.assign(start_params)
        known = watch.to_find_empty(start_params, before)
        (on_weights or _no_callback)(step // per_epoch, start_params)
        while not (
            status := keeper.ended
            or _status(monitor, step, loss_tolerance, changed_tolerance)
        ):
            if step % per_epoch == 0:
                state = _revived(trainer, state, start_params, known, data)
            keeper.after_steps(Snapshot(state, start_params, monitor), step, per_epoch)
            count = keeper.count_steps(step, per_epoch)
            state, info = trainer.epoch(state, data, weights, prior, count)
            monitor, failure = record_steps(monitor, step, info, count)
            if failure is not None:
                status, step = failure.status, failure.step
                break
            step += count
            if step % per_epoch == 0:
                index = step // per_epoch - 1
                start_params = _copy(state.params)
                after = watch.assign(start_params)
                changed = float(np.mean(after != before))
                known = watch.to_find_empty(start_params, after)
                empty = len(empty_clusters(known, num_clusters))
                monitor = record_epoch(monitor, index, changed, empty)
                before = after
                (on_epoch or _no_callback)(summarize_epoch(monitor, index, step))
                (on_weights or _no_callback)(index + 1, start_params)
        last = None if failure else Snapshot(state, start_params, monitor)
        keeper.finish(last, step)
    before = watch.assign_all(start_params, before)
    result = _sum_up(start_params, before, monitor, step, status, failure)
    if failure is not None:
        (on_epoch or _no_callback)(result.history[-1])
    return result


def _sum_up(
    params: Params,
    assignments: np.ndarray,
    monitor: Monitor,
    step: int,
    status: Status,
    failure: Failure | None,
) -> FitResult:
    epochs = -(-step // (len(monitor.grad_norms) // len(monitor.changed)))
    history = [summarize_epoch(monitor, i, step) for i in range(epochs)]
    squared = monitor.grad_norms[: step - bool(failure)].astype(np.float64) ** 2
    return FitResult(
        params=params,
        assignments=assignments,
        history=tuple(history),
        status=status,
        rate_exponent=fit_rate_exponent(squared),
        failure=failure,
    )


def _revived(
    trainer: Trainer,
    state: TrainState,
    start_params: Params,
    assignments: np.ndarray,
    data: TrainingData,
) -> TrainState:
    """Begin an epoch without empty clusters; the weights before it stay known."""
    revived = trainer.revive(start_params, assignments, data.images)
    if revived is start_params:
        return state
    return state._replace(params=revived)


def _no_callback(*_: object) -> None:
    """Stands for a callback that is not there."""


@jax.jit
def _copy(params: Params) -> Params:
    # The next call of ``epoch`` gives the memory of its state away.
    return jax.tree.map(jnp.copy, params)
