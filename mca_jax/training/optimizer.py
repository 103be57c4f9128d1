"""The optimiser: Adam with a cosine schedule."""

from __future__ import annotations

import optax

__all__ = ["build_optimizer"]


def build_optimizer(
    *, learning_rate: float, total_steps: int, max_grad_norm: float = 10.0
) -> optax.GradientTransformation:
    """Build Adam with a cosine decay to zero and a bound on the gradient.

    Args:
      learning_rate: Step size at the start, > 0.
      total_steps: Steps until the rate reaches zero, at least 1.
      max_grad_norm: Longer gradients are scaled down to this norm, > 0.

    Returns:
      An optax transformation.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, total_steps)
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(schedule))
