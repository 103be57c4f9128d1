"""Place new images among the clusters of a finished run.

python -m experiments.predict --checkpoint=OUT --images=NEW --workdir=DIR
"""

from __future__ import annotations

from absl import app, flags

from experiments.flags import check_apart, define_checkpoint_flags
from experiments.jobs import check_given
from experiments.terminal import Terminal, parse_flags, run_job
from mca_jax.data import find_images
from mca_jax.model.files import model_digest
from mca_jax.model.predict import load
from mca_jax.report.workdir import RunLog, prepare_workdir
from mca_jax.report.write import PREDICTION_FILES, write_predictions

__all__ = ["main"]


def _run(values: flags.FlagValues) -> None:
    check_given(values, "checkpoint", "images", "workdir")
    check_apart(values)
    predictor = load(values.checkpoint)
    folder = find_images(values.images)
    settings = {
        "model": model_digest(values.checkpoint),
        "images": values.images,
        "outlier_quantile": values.outlier_quantile,
    }
    prepare_workdir(
        values.workdir, settings, overwrite=values.overwrite, outputs=PREDICTION_FILES
    )
    with RunLog(values.workdir) as log, Terminal(log) as terminal:
        terminal.start("Predicting", len(folder.paths))
        parts = predictor.stream(
            folder, outlier_quantile=values.outlier_quantile, progress=terminal.advance
        )
        counts = write_predictions(parts, values.workdir)
        terminal.close()
        log.write("end", **counts)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['images']} images, {counts['none']} none of these{skipped}")
    print(f"Table: {values.workdir}/{PREDICTION_FILES[0]}")


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
    app.run(main, flags_parser=parse_flags)
