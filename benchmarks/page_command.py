"""The command of a page that is made from run files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.runs import Run, load_runs
from mca_jax.core.atomic_files import write_file
from mca_jax.core.errors import InputError

__all__ = ["make_page"]


def make_page(
    about: str | None,
    argv: Sequence[str] | None,
    render: Callable[[list[Run], Path], dict[Path, str]],
) -> int:
    """Read the command line, then write a page and its pictures.

    Args:
      about: What the command does, for its help.
      argv: Arguments; None takes those of the command line.
      render: ``(runs, page)`` to the text of each file, the page last.

    Returns:
      Exit status: 0, or 2 after bad input.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of run files")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args(argv)
    try:
        runs = load_runs(options.runs)
        files = render(runs, options.out)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_file(path, text)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {', '.join(map(str, files))} from {len(runs)} runs")
    return 0
