"""Cluster a folder of images into named groups.

python -m experiments.cluster --images=DIR --num_clusters=K --workdir=OUT

This is experiments.embed, experiments.train and, with --labels, experiments.evaluate
in a row.
"""

from __future__ import annotations

from absl import app, flags

from experiments.flags import define_run_flags
from experiments.jobs import print_result, train
from experiments.terminal import parse_flags, run_job

__all__ = ["main"]


def _run(values: flags.FlagValues) -> None:
    print_result(train(values, score=True), values.workdir)


def main(argv: list[str]) -> int:
    """Run the job; bad input is one line and exit status 2.

    Args:
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    return run_job(_run, argv)


if __name__ == "__main__":
    define_run_flags()
    app.run(main, flags_parser=parse_flags)
