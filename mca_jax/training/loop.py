"""The host loop: compiles once, runs passes on the device, watches them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mca_jax.checks import check_in_range
from mca_jax.heads import Heads
from mca_jax.losses import LossWeights
from mca_jax.losses.objective import Objective
from mca_jax.training.convergence import Status, fit_rate_exponent, has_converged
from mca_jax.training.data import TrainingData
from mca_jax.training.state import TrainState, init_state
from mca_jax.training.step import Epoch, StepInfo, build_epoch, build_step
from mca_jax.types import Params, PRNGKey

__all__ = ["EpochHook", "FitResult", "Trainer", "build_trainer", "fit"]

EpochHook = Callable[[dict[str, float]], None]

# A loss this far above that of the first pass is no longer on its way down.
_DIVERGED_FACTOR = 3.0


class FitResult(NamedTuple):
    """Trained networks and how they came about.

    Attributes:
      params: Weights of the three networks.
      logits: Assignment logits of all images, float32 ``[n, k]``.
      history: One dict a pass: ``epoch``, ``loss`` and its parts,
        ``grad_norm``, ``changed``.
      status: How training ended.
      rate_exponent: Fitted exponent of the mean squared gradient norm.
    """

    params: Params
    logits: Float[Array, "n k"]
    history: tuple[dict[str, float], ...]
    status: Status
    rate_exponent: float


class Trainer(NamedTuple):
    """Compiled pieces of a training run; several runs may share one.

    Attributes:
      init: ``(key, centers)`` to the first state.
      epoch: One pass over the set.
      predict: ``(params, images)`` to assignment logits.
    """

    init: Callable[[PRNGKey, Array], TrainState]
    epoch: Epoch
    predict: Callable[[Params, Array], Array]


def build_trainer(
    heads: Heads,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
) -> Trainer:
    """Compile what a run needs, lazily and once for each shape.

    Args:
      heads: The three networks.
      objective: The loss; its weights stay arguments of a run.
      optimizer: The optimiser.
      batch_size: Images a step, at most ``n``.

    Returns:
      Jitted functions.
    """
    epoch = build_epoch(build_step(objective, optimizer), batch_size=batch_size)
    return Trainer(
        init=jax.jit(partial(_init, heads, optimizer)),
        # The state of the pass before is not needed again: its memory is reused.
        epoch=jax.jit(epoch, donate_argnums=0),
        predict=jax.jit(heads.image_logits),
    )


def _init(
    heads: Heads,
    optimizer: optax.GradientTransformation,
    key: PRNGKey,
    centers: Float[Array, "k d"],
) -> TrainState:
    return init_state(key, heads, optimizer, centers)


def _summarize(
    epoch: int, info: StepInfo, changed: float
) -> tuple[dict[str, float], np.ndarray]:
    """Average a pass for showing; also its squared gradient norms."""
    host: Any = jax.device_get(info)
    norms = np.asarray(host.grad_norm, np.float64)
    row = {"epoch": float(epoch)}
    for name, values in host.loss._asdict().items():
        key = "loss" if name == "total" else name
        row[key] = float(np.mean(np.asarray(values, np.float64)))
    row["grad_norm"] = float(np.mean(norms))
    row["changed"] = changed
    return row, norms**2


def _failure(history: list[dict[str, float]]) -> Status | None:
    """Name what went wrong in the last pass, if anything."""
    last = history[-1]
    if not np.isfinite([last["loss"], last["grad_norm"]]).all():
        return Status.NON_FINITE
    start = abs(history[0]["loss"]) + 1.0
    return Status.DIVERGED if last["loss"] > _DIVERGED_FACTOR * start else None


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
    on_epoch: EpochHook | None = None,
) -> FitResult:
    """Train the three networks on embeddings; takes no labels.

    Args:
      key: Root key of training.
      trainer: Compiled functions.
      data: Embeddings and neighbour tables.
      centers: k-means centres of the images, unit vectors.
      weights: Weights of the loss's parts; zeros switch levels off.
      prior: Wanted share of each cluster.
      num_epochs: Most passes over the set, at least 1.
      loss_tolerance: Relative change of the loss that counts as a plateau.
      changed_tolerance: Share of moved images that counts as rest.
      on_epoch: Called with each pass's row of the history.

    Returns:
      Weights, logits of all images, history and status. After a non-finite or
      diverged pass the weights are those before it.

    Raises:
      InputError: ``num_epochs`` is below 1.
    """
    check_in_range("train.epochs", num_epochs, 1)
    weights = LossWeights(*(jnp.float32(w) for w in weights))
    state = trainer.init(key, centers)
    logits = trainer.predict(state.params, data.images)
    previous: Int[np.ndarray, " n"] = np.asarray(jnp.argmax(logits, axis=1))
    history: list[dict[str, float]] = []
    squared_norms: list[np.ndarray] = []
    status = Status.STEP_LIMIT
    good_params = jax.tree.map(jnp.copy, state.params)
    for epoch in range(1, num_epochs + 1):
        state, info = trainer.epoch(state, data, weights, prior)
        new_logits = trainer.predict(state.params, data.images)
        current = np.asarray(jnp.argmax(new_logits, axis=1))
        row, squared = _summarize(epoch, info, float(np.mean(current != previous)))
        history.append(row)
        squared_norms.append(squared)
        if on_epoch is not None:
            on_epoch(row)
        failure = _failure(history)
        if failure is not None:
            status = failure
            break
        previous, logits = current, new_logits
        good_params = jax.tree.map(jnp.copy, state.params)
        if has_converged(
            [h["loss"] for h in history],
            [h["changed"] for h in history],
            loss_tolerance=loss_tolerance,
            changed_tolerance=changed_tolerance,
        ):
            status = Status.CONVERGED
            break
    return FitResult(
        params=good_params,
        logits=logits,
        history=tuple(history),
        status=status,
        rate_exponent=fit_rate_exponent(np.concatenate(squared_norms).tolist()),
    )
