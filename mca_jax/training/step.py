"""One optimisation step, and a run of them on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from mca_jax.alignment.losses import Batch, LossParts, LossWeights
from mca_jax.alignment.losses.objective import Objective
from mca_jax.training.data import TrainingData, epoch_order, gather_batch
from mca_jax.training.state import TrainState

__all__ = ["Epoch", "Step", "StepInfo", "build_epoch", "build_step"]

# A loss this far above that of the first step is no longer on its way down.
_DIVERGED_FACTOR = 3.0


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
Epoch: TypeAlias = Callable[
    [TrainState, TrainingData, LossWeights, Float[Array, " k"], Int[Array, ""] | int],
    tuple[TrainState, StepInfo],
]
"""``(state, data, weights, prior, count)`` to the state ``count`` steps later."""


def build_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    axis_name: str | None = None,
) -> Step:
    """Build ``(state, batch, weights, prior) -> (state, info)``.

    Args:
      objective: The loss.
      optimizer: The optimiser whose state is in the train state.
      axis_name: Axis of the devices that share the batch, the same as that of
        ``objective``; None for one device.

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


def build_epoch(
    step: Step,
    *,
    batch_size: int,
    axis_name: str | None = None,
    num_images: int | None = None,
) -> Epoch:
    """Build a run of steps within one pass, without a return to the host.

    Order and neighbours are drawn from the state's key and step alone, so that
    a pass after a resume is the pass that would have been. How a pass is cut
    into runs changes nothing: the count of steps is a traced argument of one
    compiled function.

    Args:
      step: From :func:`build_step`.
      batch_size: Images a step, at most ``n``.
      axis_name: Axis of the devices that share the set; None for one device.
      num_images: ``n``; None takes the rows of the set.

    Returns:
      A pure, un-jitted function. It takes ``count`` steps from where the state
      stands, at most up to the end of its pass, and stops at the first that is
      not valid. The info has a leading axis of ``n // batch_size``; its first
      ``count`` rows are those of the steps, zeros after a stop.
    """

    def epoch(
        state: TrainState,
        data: TrainingData,
        weights: LossWeights,
        prior: Float[Array, " k"],
        count: Int[Array, ""] | int,
    ) -> tuple[TrainState, StepInfo]:
        total = data.images.shape[0] if num_images is None else num_images
        num_steps = total // batch_size
        position = state.step % num_steps
        order_key, draw_key = jax.random.split(
            jax.random.fold_in(state.key, state.step - position)
        )
        order = epoch_order(order_key, num_images=total, batch_size=batch_size)

        def run_step(state: TrainState, row: Array) -> tuple[TrainState, StepInfo]:
            key = jax.random.fold_in(draw_key, state.step)
            batch = gather_batch(key, data, order[row], axis_name=axis_name)
            return step(state, batch, weights, prior)

        shapes = jax.eval_shape(run_step, state, position)[1]
        infos = jax.tree.map(
            lambda x: jnp.zeros((num_steps, *x.shape), x.dtype), shapes
        )

        def unfinished(carry: tuple[Array, Array, TrainState, StepInfo]) -> Array:
            done, valid, _, _ = carry
            return (done < count) & valid

        def advance(
            carry: tuple[Array, Array, TrainState, StepInfo],
        ) -> tuple[Array, Array, TrainState, StepInfo]:
            done, _, state, infos = carry
            state, info = run_step(state, position + done)
            infos = jax.tree.map(lambda all, one: all.at[done].set(one), infos, info)
            return done + 1, info.valid, state, infos

        start = (jnp.zeros((), jnp.int32), jnp.asarray(True), state, infos)
        _, _, state, infos = jax.lax.while_loop(unfinished, advance, start)
        return state, infos

    return epoch
