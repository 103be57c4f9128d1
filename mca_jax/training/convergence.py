"""Convergence, monitored: a status at the end, never a silent exit."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

__all__ = ["Status", "fit_rate_exponent", "has_converged"]


class Status(Enum):
    """How training ended.

    Attributes:
      CONVERGED: Loss on a plateau and hardly an image changed its cluster.
      STEP_LIMIT: All passes were made; the run was still moving a little.
      DIVERGED: The loss rose far above its start.
      NON_FINITE: A loss or gradient was NaN or infinite.
    """

    CONVERGED = "converged"
    STEP_LIMIT = "step_limit"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"


def has_converged(
    losses: Sequence[float],
    changed_shares: Sequence[float],
    *,
    loss_tolerance: float = 1e-3,
    changed_tolerance: float = 1e-3,
    patience: int = 3,
) -> bool:
    """Tell whether loss and assignments have both come to rest.

    Args:
      losses: Mean loss of each pass so far.
      changed_shares: Share of images whose cluster changed in each pass, in
        [0, 1].
      loss_tolerance: Largest relative change of the loss over the last
        ``patience`` passes that counts as a plateau.
      changed_tolerance: Largest changed share that counts as rest.
      patience: Passes that must all be at rest, at least 1.

    Returns:
      True when the last ``patience`` passes are at rest.
    """
    if len(losses) <= patience:
        return False
    recent = np.asarray(losses[-patience - 1 :], np.float64)
    moved = np.ptp(recent) / max(float(np.abs(recent).mean()), 1e-12)
    changed = max(changed_shares[-patience:])
    return bool(moved <= loss_tolerance and changed <= changed_tolerance)


def fit_rate_exponent(squared_grad_norms: Sequence[float]) -> float:
    """Fit the exponent of the mean squared gradient norm against steps.

    Sublinear convergence says that the mean of ``||grad L||^2`` over the first
    ``T`` steps falls like ``T ** -0.5`` or faster. Fitted by least squares in
    log-log over the last nine tenths of the steps, since the first few are the
    transient that the statement leaves to its constant.

    Args:
      squared_grad_norms: One a step.

    Returns:
      The exponent: negative when gradients shrink; NaN with fewer than ten
      steps.
    """
    values = np.asarray(squared_grad_norms, np.float64)
    if values.size < 10 or not np.all(np.isfinite(values)):
        return float("nan")
    steps = np.arange(1, values.size + 1)
    means = np.maximum(np.cumsum(values) / steps, 1e-30)
    start = values.size // 10
    x, y = np.log(steps[start:]), np.log(means[start:])
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
