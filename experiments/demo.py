"""The demo: clusters the photographs among Tux Paint's stamps.

``make demo`` runs it. The stamps come with the Debian package
``tuxpaint-stamps-default``, one folder for each kind of thing; the kinds serve as
labels for the scores, never for the clustering. With ``--images`` it clusters a
folder of your own, whose sub-folders are the labels if every image is in one::

    python -m experiments.demo --workdir=demo-out
    python -m experiments.demo --workdir=demo-out --images=photos --num_clusters=10

Two cores: about a minute.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.data import find_images, folder_labels

__all__ = ["build_command", "collect_stamps", "is_photograph", "main"]

_IMAGES = flags.DEFINE_string("images", None, "A folder of your own to cluster.")
_NUM_CLUSTERS = flags.DEFINE_integer(
    "num_clusters", None, "Number of clusters; the default is the number of kinds."
)
_STAMPS = flags.DEFINE_string(
    "stamps", "/usr/share/tuxpaint/stamps", "Folder of Tux Paint's stamps."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", "demo-out", "Folder for the pictures, and for the run below it."
)

# All kinds of things among the stamps; letters, money, road signs, flags, holidays
# and people are none. A kind is taken with all folders below it.
_KINDS = {
    "birds": "animals/birds",
    "clothes": "clothes",
    "fish": "animals/fish",
    "flowers": "plants/flowers",
    "fruit": "food/fruit",
    "houses": "town/houses",
    "insects": "animals/insects",
    "instruments": "hobbies/music",
    "mammals": "animals/mammals",
    "monuments": "town/monuments",
    "planets": "space/planets",
    "sports": "sports",
    "tools": "household/tools",
    "trees": "plants/trees",
    "vegetables": "food/vegetables",
    "vehicles": "vehicles",
}
_FEWEST_IMAGES = 7
# A photograph has about as many colours as a thumbnail has pixels; a drawing has few.
_THUMBNAIL, _COLOURS_PER_PIXEL, _FEWEST_PIXELS = 160, 0.07, 50
_SUFFIXES = (".png", ".jpg", ".jpeg")
_OWN_FOLDER = "name a folder of your own: make demo IMAGES=/path/to/folder CLUSTERS=10"


def _pictures(folder: Path) -> list[Path]:
    """Pictures below a folder, without those that mirror another."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and not path.stem.endswith(("_mirror", "_flip"))
        and path.is_file()
    )


def is_photograph(path: Path) -> bool:
    """Tell a photograph from a drawing by its colours, those of opaque pixels.

    Shades of a colour count as one, and so do the edges that scaling would blend.
    """
    with Image.open(path) as image:
        small = image.convert("RGBA")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST)
    pixels = np.asarray(small)
    opaque = pixels[pixels[..., 3] > 200][:, :3]
    colours = len(np.unique(opaque // 8, axis=0))
    return len(opaque) >= _FEWEST_PIXELS and (
        colours >= _COLOURS_PER_PIXEL * len(opaque)
    )


def collect_stamps(stamps: Path, folder: Path) -> dict[str, int]:
    """Copy the photographs of things into one folder for each kind.

    Args:
      stamps: Folder of the stamps.
      folder: Where to copy them; made if need be.

    Returns:
      Number of pictures of each kind, at least seven each, in order of the names.

    Raises:
      InputError: There are not two such kinds, the folder holds files that are
        none of the demo's, or it can't be written.
    """
    found = {
        kind: list(filter(is_photograph, _pictures(stamps / path)))
        for kind, path in _KINDS.items()
    }
    found = {
        kind: paths for kind, paths in found.items() if len(paths) >= _FEWEST_IMAGES
    }
    if len(found) < 2:
        raise InputError(
            f"Expected Tux Paint's stamps in {stamps}, found {len(found)} kinds of "
            "things; install the Debian package tuxpaint-stamps-default, or "
            f"{_OWN_FOLDER}"
        )
    taken = {
        folder / kind / path.relative_to(stamps / _KINDS[kind]): path
        for kind, paths in found.items()
        for path in paths
    }
    # Files are never removed here: they may be somebody's.
    strange = {path for path in folder.rglob("*") if path.is_file()} - set(taken)
    if strange:
        raise InputError(
            f"Expected nothing but the demo's pictures in {folder}, found "
            f"{min(strange)}; name another folder with --workdir"
        )
    try:
        for target, source in taken.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise InputError(
            f"Can't copy the pictures to {folder}: {error.strerror or error}; name "
            "another folder with --workdir"
        ) from error
    return {kind: len(paths) for kind, paths in found.items()}


def build_command(images: Path, num_clusters: int | None, run: Path) -> list[str]:
    """Build the command that clusters a folder.

    Args:
      images: Folder of images; its sub-folders are labels if all are in one.
      num_clusters: Number of clusters; None stands for one a sub-folder.
      run: Folder of the run.

    Returns:
      The command's words.

    Raises:
      InputError: There are no images, or the number of clusters is neither given
        nor told by sub-folders.
    """
    paths = find_images(images).paths
    try:
        classes = folder_labels(paths)[1]
    except InputError:
        # An image outside of the sub-folders: they are no classes then.
        classes = ()
    if num_clusters is None and len(classes) < 2:
        raise InputError(
            f"Expected sub-folders of {images} to count, or --num_clusters; "
            f"{_OWN_FOLDER}"
        )
    command = [sys.executable, "-m", "experiments.cluster", f"--images={images}"]
    command.append(f"--num_clusters={num_clusters or len(classes)}")
    if len(classes) > 1:
        command.append("--labels=folders")
    return [*command, f"--workdir={run}", "--overwrite"]


def _run(command: list[str]) -> int:
    """Run a command and return its exit status."""
    process = subprocess.Popen(command)
    # Ctrl-C reaches both: the launcher answers it, and says what is kept.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    return status if status >= 0 else 128 - status


def main(argv: list[str]) -> int:
    """Collect the pictures, cluster them, and say where the report is.

    Args:
      argv: What is left of the command line: nothing.

    Returns:
      Exit status: that of the launcher, or 2 for bad input.

    Raises:
      UsageError: There is an argument that is not a flag.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only, found {argv[1]!r}")
    workdir = Path(_WORKDIR.value)
    try:
        if _IMAGES.value is None:
            images = workdir / "images"
            counts = collect_stamps(Path(_STAMPS.value), images)
            listing = ", ".join(f"{kind} {count}" for kind, count in counts.items())
            print(f"Took {sum(counts.values())} pictures of {len(counts)} kinds")
            print(f"from {_STAMPS.value} to {images}: {listing}")
        else:
            images = Path(_IMAGES.value).expanduser()
        command = build_command(images, _NUM_CLUSTERS.value, workdir / "run")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Running {shlex.join(['python', *command[1:]])}", flush=True)
    status = _run(command)
    if status == 0:
        print(f"The report is {(workdir / 'run' / 'report.html').resolve()}")
    return status


if __name__ == "__main__":
    app.run(main)
