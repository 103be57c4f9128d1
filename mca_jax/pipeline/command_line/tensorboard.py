"""Events of a run for TensorBoard, beside the log; needs the package tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mca_jax.core.errors import InputError
from mca_jax.core.text import printable

__all__ = ["TensorBoard"]

_PARTS = ("consistency", "balance", "instance", "prototype", "semantic")


class TensorBoard:
    """Takes what the log takes, and keeps the numbers for TensorBoard.

    Each training of a run, such as ``"train"`` and ``"consistency only"``, is a
    curve of its own: TensorBoard calls them runs. Steps are epochs.
    """

    def __init__(self, folder: str) -> None:
        """Check that events can be written.

        Args:
          folder: Where the event files go; ``tensorboard --logdir`` reads it.

        Raises:
          InputError: The package is missing, or nothing can be written there.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InputError(
                "--tensorboard needs a package: pip install 'mca-jax[tensorboard]', "
                "or leave the flag out"
            ) from error
        self._folder = Path(folder)
        self._open = SummaryWriter
        self._writers: dict[str, Any] = {}
        self._epochs = 0
        self._writer("train")

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            folder = self._folder / run.replace(" ", "_")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._writers[run] = self._open(logdir=str(folder), flush_secs=10)
            except OSError as error:
                raise InputError(
                    f"Can't write to --tensorboard {printable(str(folder))!r}: "
                    f"{error.strerror}; name another folder"
                ) from error
        return self._writers[run]

    def write(self, event: str, /, **values: Any) -> None:
        """Keep the numbers of an event, if it has any to draw.

        Args:
          event: ``"epoch"``, with a row of the history and the name of its
            training; ``"end"``, with the metrics of the run; others are ignored.
          **values: What belongs to it.
        """
        if event == "epoch":
            self._write_epoch(values)
        elif event == "end":
            label_free = values.get("metrics", {}).get("label_free", {})
            self._write_end(label_free)

    def _write_epoch(self, values: Mapping[str, Any]) -> None:
        writer, step = self._writer(values["run"]), int(values["epoch"])
        if values["run"] == "train":
            self._epochs = step
        for name, value in values.items():
            if name == "loss":
                writer.add_scalar("loss/total", value, step)
            elif name in _PARTS:
                writer.add_scalar(f"loss/{name}", value, step)
            elif name not in ("run", "epoch"):
                writer.add_scalar(f"training/{name}", value, step)

    def _write_end(self, label_free: Mapping[str, float]) -> None:
        for name, value in label_free.items():
            self._writer("train").add_scalar(f"label_free/{name}", value, self._epochs)

    def close(self) -> None:
        """Write what is left; closing twice is fine."""
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> TensorBoard:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self.close()
