"""Builds mca_jax/assets/photographed.npz: the synsets that people have photographed.

Two lists of facts in timm's package say it: the 21,843 synsets of ImageNet-21K, and
the 11,821 of them that have some hundred pictures. They need the wheel alone::

  pip download timm==1.0.31 --no-deps --dest=wheels
  python -m experiments.build_photographed_asset --timm=wheels/timm-1.0.31-*.whl
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from mca_jax.core.assets import ASSET_FOLDER, record_asset
from mca_jax.semantics.vocabulary.photographed import ASSET

__all__ = ["main", "pack_lists"]

_TIMM = flags.DEFINE_string("timm", None, "timm's wheel.", required=True)
_FOLDER = flags.DEFINE_string(
    "folder", str(ASSET_FOLDER), "Folder of the assets and their manifest."
)
_LISTS = ("imagenet21k_goog_synsets.txt", "imagenet12k_synsets.txt")


def pack_lists(every: str, often: str) -> dict[str, np.ndarray]:
    """Pack the list of all synsets, and of those with many pictures, as arrays.

    Returns:
      ``offsets`` int32, ascending, and ``often`` bool of the same length.
    """
    offsets = sorted(int(line[1:]) for line in every.split())
    many = {int(line[1:]) for line in often.split()}
    return {
        "offsets": np.array(offsets, np.int32),
        "often": np.array([offset in many for offset in offsets], bool),
    }


def main(argv: list[str]) -> None:
    """Build the asset.

    Args:
      argv: What is left of the command line: nothing.

    Raises:
      UsageError: There is an argument that is not a flag.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only, found {argv[1]!r}")
    wheel = Path(_TIMM.value)
    with zipfile.ZipFile(wheel) as files:
        every, often = (
            files.read(f"timm/data/_info/{name}").decode() for name in _LISTS
        )
    folder = Path(_FOLDER.value)
    arrays = pack_lists(every, often)
    np.savez_compressed(folder / ASSET, allow_pickle=False, **arrays)
    version = wheel.name.split("-")[1]
    record_asset(
        ASSET,
        licence="Apache-2.0",
        sources=[{"package": "timm", "version": version, "licence": "Apache-2.0"}],
        folder=folder,
    )
    logging.info("%s: %d synsets", folder / ASSET, len(arrays["offsets"]))


if __name__ == "__main__":
    app.run(main)
