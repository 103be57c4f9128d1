"""The command ``mca-jax``: its sub-commands, and their help.

Nothing heavy is imported before a sub-command is chosen, so that ``--help`` and a
misspelt command answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

from mca_jax.core.interrupts import end_on_interrupt

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """What the help says of a sub-command.

    Attributes:
      summary: What it does, one line.
      usage: The flags of the common case.
      flags: Groups of its flags, for ``define_flags``.
    """

    summary: str
    usage: str
    flags: tuple[str, ...]


COMMANDS = {
    "cluster": Command(
        "Cluster a folder of images into named groups: embed, train and evaluate.",
        "--images=DIR --num_clusters=K --workdir=OUT",
        ("run",),
    ),
    "embed": Command(
        "Embed the images of a folder into the cache of a workdir.",
        "--images=DIR --workdir=OUT",
        ("run",),
    ),
    "train": Command(
        "Train on the embeddings of a workdir; images without one are embedded first.",
        "--images=DIR --num_clusters=K --workdir=OUT",
        ("run",),
    ),
    "evaluate": Command(
        "Score a finished run, or how it assigns other images, against labels.",
        "--run=OUT --labels=folders [--images=NEW --workdir=DIR]",
        ("finished", "run", "predict"),
    ),
    "predict": Command(
        "Assign new images to the clusters of a finished run.",
        "--run=OUT --images=NEW --workdir=DIR",
        ("finished", "predict"),
    ),
    "update": Command(
        "Bring a finished run up to what its folder holds; groups and names stay.",
        "--run=OUT",
        ("finished", "predict"),
    ),
    "export": Command(
        "Hand the clusters of a finished run to other tools.",
        "--run=OUT --workdir=DIR --formats=parquet,links",
        ("finished", "export"),
    ),
    "review": Command(
        "Open a finished run in the browser to look, correct and export.",
        "OUT",
        ("finished", "review"),
    ),
    "encoders": Command(
        "List encoders that work, and by which flag.",
        "",
        (),
    ),
}
"""The sub-commands, in the order of the work."""

_HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort", "help")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {each.summary}" for name, each in COMMANDS.items()]
    return "\n".join(
        [
            "Clusters unlabelled images into named groups.",
            "",
            "Usage: mca-jax COMMAND --flag=value ...",
            "",
            *lines,
            "",
            "mca-jax COMMAND --help lists the flags of one; mca-jax --version.",
        ]
    )


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


def _hint(name: str, options: Sequence[str], otherwise: str, prefix: str = "") -> str:
    close = get_close_matches(name, options, n=1)
    return f"did you mean '{prefix}{close[0]}'?" if close else otherwise


def _run(name: str, arguments: Sequence[str]) -> int:
    with end_on_interrupt():
        job = _prepare(name, arguments)
    return job if isinstance(job, int) else job()


def _prepare(name: str, arguments: Sequence[str]) -> int | Callable[[], int]:
    """Read the flags; return what does the job, or an exit status."""
    # Here, since all that follows imports jax.
    from absl import flags

    from mca_jax.pipeline.command_line import finished_runs, review, runs, update
    from mca_jax.pipeline.command_line.flags import define_flags, describe_flags
    from mca_jax.pipeline.command_line.terminal import run_job

    command = COMMANDS[name]
    values = define_flags(*command.flags)
    if any(argument in _HELP for argument in arguments):
        print(f"{command.summary}\n\nUsage: mca-jax {name} {command.usage}\n")
        print(describe_flags(values))
        return 0
    listing = f"mca-jax {name} --help lists all"
    try:
        rest = values([name, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        # Without their dashes, which would make any two flags look alike.
        hint = _hint(error.flagname, list(values), listing, prefix="--")
        return _fail(f"Unknown flag '--{error.flagname}'; {hint}")
    except flags.Error as error:
        return _fail(" ".join(str(error).split()))
    if name == "review" and len(rest) == 1 and values.run is None:
        # As one names a folder to a program that opens it.
        values.run = rest.pop()
    if rest:
        return _fail(f"Unknown argument {rest[0]!r}; every flag starts with --")
    jobs = {
        "cluster": runs.cluster_images,
        "embed": runs.embed,
        "train": runs.train,
        "evaluate": finished_runs.evaluate,
        "predict": finished_runs.predict,
        "update": update.update,
        "export": finished_runs.export,
        "review": review.review,
    }
    return partial(run_job, jobs[name], values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; bad input is one line and exit status 2.

    Args:
      arguments: Name of the sub-command and its flags; None takes those of the
        process.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    if not arguments:
        return _fail("No command; mca-jax --help lists all")
    name, *rest = arguments
    if name in _HELP:
        print(_overview())
        return 0
    if name == "--version":
        print(f"mca-jax {version('mca-jax')}")
        return 0
    if name not in COMMANDS:
        hint = _hint(name, list(COMMANDS), "mca-jax --help lists all")
        return _fail(f"Unknown command {name!r}; {hint}")
    if name == "encoders" and not set(rest) & set(_HELP):
        if rest:
            return _fail(f"Unknown argument {rest[0]!r}; mca-jax encoders takes none")
        from mca_jax.encoders.catalogue import list_encoders

        print(list_encoders())
        return 0
    return _run(name, rest)


if __name__ == "__main__":
    sys.exit(main())
