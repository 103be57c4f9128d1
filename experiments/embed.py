"""Embed the images of a folder, for the stages that follow.

python -m experiments.embed --images=DIR --workdir=OUT
"""

from __future__ import annotations

from absl import app

from experiments.flags import define_run_flags
from experiments.jobs import embed
from experiments.terminal import parse_flags, run_job

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the job; bad input is one line and exit status 2.

    Args:
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    return run_job(embed, argv)


if __name__ == "__main__":
    define_run_flags()
    app.run(main, flags_parser=parse_flags)
