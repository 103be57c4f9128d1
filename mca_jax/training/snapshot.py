"""All that a resume needs, and who keeps it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mca_jax.core.types import Params
from mca_jax.training.convergence import Monitor
from mca_jax.training.state import TrainState

__all__ = ["Checkpointer", "Snapshot"]


class Snapshot(NamedTuple):
    """Training between two steps; a run goes on from it as if never stopped.

    Where in the data it stands follows from the step, since a pass draws its
    order from the key and its first step. The assignments before the pass
    follow from ``pass_params``.

    Attributes:
      state: What a step carries to the next.
      pass_params: Weights at the start of the running pass, what a run that
        fails goes back to.
      monitor: What every step so far showed.
    """

    state: TrainState
    pass_params: Params
    monitor: Monitor


class Checkpointer(Protocol):
    """Keeps snapshots of one run where they outlive the process."""

    @property
    def ends_training(self) -> bool:
        """Whether what is restored is to be read out, not trained any further."""
        ...

    def restore(self, template: Snapshot) -> Snapshot | None:
        """Find the snapshot to go on from, or to read out.

        Args:
          template: A snapshot of the same shapes; the arrays come back placed on
            the devices as its are.

        Returns:
          The snapshot, or None if nothing is kept.
        """
        ...

    def due(self, step: int, steps_per_pass: int) -> bool:
        """Tell whether a snapshot is wanted after a step.

        Args:
          step: Steps taken.
          steps_per_pass: Steps of a pass.

        Returns:
          True where one is.
        """
        ...

    def steps_until_due(self, step: int, steps_per_pass: int) -> int:
        """Count the steps to the next snapshot that is wanted.

        Args:
          step: Steps taken.
          steps_per_pass: Steps of a pass.

        Returns:
          At least 1.
        """
        ...

    def save(self, snapshot: Snapshot, score: float) -> None:
        """Begin to write a snapshot; its arrays may be reused on return.

        Args:
          snapshot: What to keep.
          score: A label-free score, lower is better; the best is kept longer.
        """
        ...

    def wait(self) -> int | None:
        """Wait until what was begun is written, or is known to have failed.

        Returns:
          Step of the newest snapshot that is kept, or None.
        """
        ...

    def preempted(self, step: int) -> bool:
        """Tell whether all hosts agree to stop after this step.

        Args:
          step: Steps taken, the same on all hosts.

        Returns:
          True where the machines are about to be taken away.
        """
        ...
