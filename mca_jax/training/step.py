"""One optimization step: the state that it carries on, and how devices share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from mca_jax.alignment import Heads
from mca_jax.alignment.losses import (
    Batch,
    LossParts,
    LossWeights,
    Objective,
    Prototypes,
    init_prototypes,
)
from mca_jax.core.parallel import DATA_AXIS, over_devices
from mca_jax.core.random import named_key
from mca_jax.core.types import Params, PRNGKey

__all__ = [
    "BATCH_SPLIT",
    "Step",
    "StepInfo",
    "TrainState",
    "build_optimizer",
    "build_step",
    "gather_outputs",
    "init_state",
    "shard_forward",
]

BATCH_SPLIT = Batch(*(name != "nouns" for name in Batch._fields))  # pyright: ignore[reportArgumentType]
"""Which parts of a batch are sharded; every device has all nouns."""

# A loss this far above that of the first step is no longer on its way down.
_DIVERGED_FACTOR = 3.0


class TrainState(NamedTuple):
    """State of training; all that a resume needs.

    Attributes:
      step: Steps taken, int32 scalar.
      key: Root key; step ``s`` draws from ``fold_in(key, s)``.
      params: Weights of the three networks.
      opt_state: State of the optimizer.
      prototypes: Running means of the clusters.
      first_loss: Loss of the first step, that divergence is measured against;
        NaN before it.
    """

    step: Int[Array, ""]
    key: PRNGKey
    params: Params
    opt_state: optax.OptState
    prototypes: Prototypes
    first_loss: Float[Array, ""]


class StepInfo(NamedTuple):
    """What a step shows; nothing of it is carried on.

    Attributes:
      loss: The loss and its parts.
      grad_norm: Norm of the gradient before clipping.
      valid: False where loss or gradient is not finite, or the loss is far above
        that of the first step: such a step leaves the state as it was.
    """

    loss: LossParts
    grad_norm: Float[Array, ""]
    valid: Bool[Array, ""]


Step: TypeAlias = Callable[
    [TrainState, Batch, LossWeights, Float[Array, " k"]], tuple[TrainState, StepInfo]
]


def build_optimizer(
    *, learning_rate: float, total_steps: int, max_grad_norm: float = 10.0
) -> optax.GradientTransformation:
    """Build Adam with a cosine decay to zero and a bound on the gradient.

    Args:
      learning_rate: Step size at the start, > 0.
      total_steps: Steps until the rate reaches zero, at least 1.
      max_grad_norm: Longer gradients are scaled down to this norm, > 0.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, total_steps)
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(schedule))


def init_state(
    key: PRNGKey,
    heads: Heads,
    optimizer: optax.GradientTransformation,
    centers: Float[Array, "k d"],
) -> TrainState:
    """Initialize networks and prototypes with the k-means centres, unit vectors."""
    params = heads.init(named_key(key, "weights"), centers)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        opt_state=optimizer.init(params),
        prototypes=init_prototypes(centers),
        first_loss=jnp.full((), jnp.nan, jnp.float32),
    )


def build_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
) -> Step:
    """Build ``(state, batch, weights, prior) -> (state, info)``.

    Args:
      objective: The loss.
      optimizer: The optimizer whose state is in the train state.
      axis_name: Axis of the devices that each run the step, on their shares of a
        batch, with an objective of :func:`gather_outputs`; None where the step is of
        whole arrays, also of sharded ones.

    Returns:
      A pure, un-jitted function.
    """

    def step(
        state: TrainState,
        batch: Batch,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[TrainState, StepInfo]:
        gradient_fn = jax.grad(objective, has_aux=True)
        grads, (parts, prototypes) = gradient_fn(
            state.params, state.prototypes, batch, weights, prior
        )
        if axis_name is not None:
            # Each device has the loss of the whole batch and the gradient that
            # passes through its own rows, once for every device that reads them.
            grads = jax.lax.pmean(grads, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        grad_norm = optax.tree.norm(grads)
        first_loss = jnp.where(state.step == 0, parts.total, state.first_loss)
        limit = _DIVERGED_FACTOR * (jnp.abs(first_loss) + 1.0)
        # A comparison with NaN is false.
        valid = (parts.total <= limit) & jnp.isfinite(parts.total + grad_norm)
        new_state = TrainState(
            step=state.step + 1,
            key=state.key,
            params=params,
            opt_state=opt_state,
            prototypes=prototypes,
            first_loss=first_loss,
        )
        return _choose(valid, new_state, state), StepInfo(parts, grad_norm, valid)

    return step


def _choose(valid: Bool[Array, ""], new: TrainState, old: TrainState) -> TrainState:
    # The key is the same in both, and its type has no ``where`` of its own.
    chosen = jax.tree.map(
        lambda n, o: jnp.where(valid, n, o),
        new._replace(key=None),
        old._replace(key=None),
    )
    return chosen._replace(key=old.key)


def shard_forward(objective: Objective, mesh: Mesh, *, batch_size: int) -> Objective:
    """Let each device compute the forward pass of its share of a batch.

    The loss is of global arrays, sharded along the batch: XLA splits its work too,
    and adds up what devices have where the loss takes a mean or a product.

    Args:
      objective: The loss of a whole batch.
      mesh: The devices.
      batch_size: True rows of a batch, without padding.

    Returns:
      The same loss, of a sharded batch that may be padded at its end.
    """
    forward = over_devices(
        objective.forward, mesh, split=(False, BATCH_SPLIT), split_out=True
    )
    return _share(objective, forward, lambda x: x[:batch_size])


def gather_outputs(objective: Objective, *, batch_size: int) -> Objective:
    """Let each device compute the loss of the whole batch from all forward passes.

    Args:
      objective: The loss of a whole batch.
      batch_size: True rows of a batch, without padding.

    Returns:
      The same loss, of one device's share of a batch; for a function that
      ``over_devices`` runs.
    """

    def gather(x: Array) -> Array:
        return jax.lax.all_gather(x, DATA_AXIS, tiled=True)[:batch_size]

    return _share(objective, objective.forward, gather)


def _share(
    objective: Objective,
    forward: Callable[[Params, Batch], Any],
    whole: Callable[[Array], Array],
) -> Objective:
    def whole_outputs(params: Params, batch: Batch) -> Any:
        return jax.tree.map(whole, forward(params, batch))

    def loss(outputs: Any, batch: Batch, *others: Any) -> Any:
        # What of the batch the loss does not read is not gathered: XLA leaves it out.
        rows = jax.tree.map(
            lambda x, split: whole(x) if split else x, batch, BATCH_SPLIT
        )
        return objective.loss(outputs, rows, *others)

    return Objective(whole_outputs, loss)
