"""Convergence, monitored: every step on record, a status at the end."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mca_jax.alignment.losses import LossParts
from mca_jax.training.step import StepInfo

__all__ = [
    "Failure",
    "Monitor",
    "Status",
    "fit_rate_exponent",
    "has_converged",
    "init_monitor",
    "mean_loss",
    "record_epoch",
    "record_steps",
    "summarize_epoch",
]


class Status(Enum):
    """How training ended.

    Attributes:
      CONVERGED: Loss on a plateau and hardly an image changed its cluster.
      STEP_LIMIT: All epochs were trained, and the run had not quite converged.
      DIVERGED: The loss rose far above that of the first step.
      NON_FINITE: A loss or gradient was NaN or infinite.
      BEST_CHECKPOINT: It did not: an earlier run's best checkpoint was taken.
    """

    CONVERGED = "converged"
    STEP_LIMIT = "step_limit"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"
    BEST_CHECKPOINT = "best_checkpoint"


class Failure(NamedTuple):
    """The step at which training had to stop.

    Attributes:
      status: Whether it diverged or met a value that is not finite.
      step: Number of the step, from 1.
      part: What failed: a part of the loss such as ``"semantic"``, or
        ``"gradient"``.
      value: The part's value, or the norm of the gradient.
    """

    status: Status
    step: int
    part: str
    value: float

    def __str__(self) -> str:
        """Say in a few words what happened."""
        what = self.part if self.part == "gradient" else f"{self.part} loss"
        if self.status is Status.NON_FINITE:
            return f"step {self.step}: {what} is {self.value}"
        return f"step {self.step}: {what} rose to {self.value:.4g}"


class Monitor(NamedTuple):
    """What every step and every epoch showed; plain arrays, so that it is kept.

    Rows of steps and epochs that are yet to come are NaN.

    Attributes:
      parts: The loss and its parts, float32 ``[steps, parts]``, columns in the
        order of ``LossParts``.
      grad_norms: Norm of the gradient, float32 ``[steps]``.
      changed: Share of images whose cluster an epoch changed, float64
        ``[epochs]``.
      empty: Clusters without an image after an epoch, float64 ``[epochs]``.
    """

    parts: Float[np.ndarray, "steps parts"]
    grad_norms: Float[np.ndarray, " steps"]
    changed: Float[np.ndarray, " epochs"]
    empty: Float[np.ndarray, " epochs"]


def init_monitor(num_epochs: int, steps_per_epoch: int) -> Monitor:
    """Make a record of NaN for the most epochs of a run."""
    steps = num_epochs * steps_per_epoch
    return Monitor(
        parts=np.full((steps, len(LossParts._fields)), np.nan, np.float32),
        grad_norms=np.full(steps, np.nan, np.float32),
        changed=np.full(num_epochs, np.nan),
        empty=np.full(num_epochs, np.nan),
    )


def record_steps(
    monitor: Monitor, step: int, info: StepInfo, count: int
) -> tuple[Monitor, Failure | None]:
    """Enter steps.

    Args:
      monitor: The record so far.
      step: Steps taken before these.
      info: What they showed, one row a step.
      count: How many were asked for; the first that failed was the last run.

    Returns:
      The new record, and which step failed, if one did.
    """
    host: Any = jax.device_get(info)
    valid = np.asarray(host.valid)[:count]
    taken = count if valid.all() else int(valid.argmin()) + 1
    parts, norms = monitor.parts.copy(), monitor.grad_norms.copy()
    rows = slice(step, step + taken)
    parts[rows] = np.stack([np.asarray(part)[:taken] for part in host.loss], axis=1)
    norms[rows] = np.asarray(host.grad_norm)[:taken]
    monitor = monitor._replace(parts=parts, grad_norms=norms)
    if valid.all():
        return monitor, None
    return monitor, _describe(monitor, step + taken - 1)


def _describe(monitor: Monitor, row: int) -> Failure:
    """Name the part that failed, and the sum only where no part stands out."""
    # The sum last: it is named only where none of its parts is to blame.
    names = [*(name for name in LossParts._fields if name != "total"), "total"]
    columns = [LossParts._fields.index(name) for name in names]
    values = [*monitor.parts[row, columns], monitor.grad_norms[row]]
    finite = np.isfinite(values)
    if not finite.all():
        worst = int(finite.argmin())
        part = [*names, "gradient"][worst]
        return Failure(Status.NON_FINITE, row + 1, part, float(values[worst]))
    rise = np.abs(monitor.parts[row, columns[:-1]] - monitor.parts[0, columns[:-1]])
    worst = int(rise.argmax())
    return Failure(Status.DIVERGED, row + 1, names[worst], float(values[worst]))


def record_epoch(
    monitor: Monitor, index: int, changed: float, empty: int = 0
) -> Monitor:
    """Enter the share of images that epoch ``index`` moved, and empty clusters."""
    shares, counts = monitor.changed.copy(), monitor.empty.copy()
    shares[index], counts[index] = changed, empty
    return monitor._replace(changed=shares, empty=counts)


def mean_loss(monitor: Monitor, step: int) -> float:
    """Average the loss over the last epoch's worth of steps; needs no labels."""
    steps_per_epoch = len(monitor.grad_norms) // len(monitor.changed)
    start = max(step - steps_per_epoch, 0)
    total = monitor.parts[start:step, LossParts._fields.index("total")]
    return float(np.mean(total.astype(np.float64)))


def summarize_epoch(monitor: Monitor, index: int, step: int) -> dict[str, float]:
    """Sum one epoch up.

    Args:
      monitor: The record.
      index: Number of the epoch, from 0.
      step: Steps taken; the epoch may have ended half-way at one that failed.

    Returns:
      ``epoch``, counted from 1; means of ``loss``, its parts and ``grad_norm``
      over the epoch; ``changed``; ``empty_clusters`` where there are some; over all
      steps up to its end the smallest and the mean squared gradient norm and, from
      ten steps on, the fitted ``rate_exponent``.
    """
    steps_per_epoch = len(monitor.grad_norms) // len(monitor.changed)
    start = index * steps_per_epoch
    stop = min(start + steps_per_epoch, step)
    row = {"epoch": float(index + 1)}
    means = monitor.parts[start:stop].mean(axis=0, dtype=np.float64)
    for name, value in zip(LossParts._fields, means, strict=True):
        row["loss" if name == "total" else name] = float(value)
    norms = monitor.grad_norms[:stop].astype(np.float64)
    row["grad_norm"] = float(norms[start:].mean())
    row["changed"] = float(monitor.changed[index])
    if monitor.empty[index] > 0:
        row["empty_clusters"] = float(monitor.empty[index])
    row["min_squared_grad"] = float(np.min(norms**2))
    row["mean_squared_grad"] = float(np.mean(norms**2))
    rate = fit_rate_exponent(norms**2)
    return row if np.isnan(rate) else {**row, "rate_exponent": rate}


def has_converged(
    losses: Sequence[float],
    changed_shares: Sequence[float],
    *,
    loss_tolerance: float = 1e-3,
    changed_tolerance: float = 1e-3,
    patience: int = 3,
) -> bool:
    """Tell whether loss and assignments have both converged.

    Args:
      losses: Mean loss of each epoch so far.
      changed_shares: Share of images whose cluster changed in each epoch, in
        [0, 1].
      loss_tolerance: Largest relative change of the loss over the last
        ``patience`` epochs that counts as a plateau.
      changed_tolerance: Largest changed share that counts as converged.
      patience: Epochs that must all be so, at least 1.
    """
    if len(losses) <= patience:
        return False
    recent = np.asarray(losses[-patience - 1 :], np.float64)
    moved = np.ptp(recent) / max(float(np.abs(recent).mean()), 1e-12)
    changed = max(changed_shares[-patience:])
    return bool(moved <= loss_tolerance and changed <= changed_tolerance)


def fit_rate_exponent(
    squared_grad_norms: Sequence[float] | Float[np.ndarray, " steps"],
) -> float:
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
