"""Hand the clusters of a finished run to other tools.

python -m experiments.export --checkpoint=OUT --workdir=DIR --formats=parquet,links
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags

from experiments.flags import check_apart, define_checkpoint_flags
from experiments.jobs import check_given
from experiments.terminal import parse_flags, run_job
from mca_jax.core.errors import check_one_of
from mca_jax.model.files import read_result
from mca_jax.report.export import EXPORTS, assigned_images, export_embeddings

__all__ = ["main"]

_EMBEDDINGS = "npz"
_KINDS = (*EXPORTS, _EMBEDDINGS)


def _run(values: flags.FlagValues) -> None:
    check_given(values, "checkpoint", "workdir", "formats")
    check_apart(values)
    for name in values.formats:
        check_one_of("format", name, _KINDS)
    result = read_result(values.checkpoint)
    # The folder may have moved since the run.
    images = assigned_images(result, root=values.images)
    folder = Path(values.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    for name in values.formats:
        if name == _EMBEDDINGS:
            file, gone = "embeddings.npz", None
            export_embeddings(result, folder / file)
        else:
            file, write = EXPORTS[name]
            gone = write(images, folder / file)
        note = f" ({gone} images are gone)" if gone else ""
        print(f"{name}: {folder / file}{note}")


def main(argv: list[str]) -> int:
    """Run the job; bad input is one line and exit status 2.

    Args:
      argv: What absl leaves of the command line.

    Returns:
      Exit status: 0, 2 for bad input, 130 after Ctrl-C.
    """
    return run_job(_run, argv)


if __name__ == "__main__":
    define_checkpoint_flags()
    flags.DEFINE_list("formats", ["csv"], f"Any of {', '.join(_KINDS)}.")
    app.run(main, flags_parser=parse_flags)
