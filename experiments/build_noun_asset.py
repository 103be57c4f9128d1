"""Builds mca_jax/assets/nouns.npz from WordNet 3.0's own data.noun.

Debian and Ubuntu have the file in the package wordnet-base:

  python -m experiments.build_noun_asset --data_noun=/usr/share/wordnet/data.noun
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import app, flags, logging

from mca_jax.core.assets import ASSET_FOLDER, record_asset
from mca_jax.semantics.vocabulary.sources import pack_table
from mca_jax.semantics.vocabulary.wordnet import build_table, parse_data_noun

__all__ = ["main"]

_DATA_NOUN = flags.DEFINE_string(
    "data_noun", "/usr/share/wordnet/data.noun", "WordNet 3.0's file of nouns."
)
_FOLDER = flags.DEFINE_string(
    "assets", str(ASSET_FOLDER), "Folder of the assets and their manifest."
)
_NAME = "nouns.npz"


def main(argv: list[str]) -> None:
    """Build the asset and print its checksum.

    Args:
      argv: What is left of the command line: nothing.

    Raises:
      UsageError: There is an argument that is not a flag.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only, found {argv[1]!r}")
    with Path(_DATA_NOUN.value).open(encoding="utf-8") as lines:
        table = build_table(parse_data_noun(lines))
    folder = Path(_FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / _NAME, allow_pickle=False, **pack_table(table))
    record_asset(
        _NAME,
        licence="WordNet-3.0",
        sources=[
            {
                "package": "wordnet-base (Debian), data.noun",
                "version": "3.0",
                "licence": "WordNet-3.0",
            }
        ],
        folder=folder,
    )
    logging.info(
        "%s: %d nouns, %d on the block list, %d bytes",
        folder / _NAME,
        len(table.names),
        int(table.offensive.sum()),
        (folder / _NAME).stat().st_size,
    )


if __name__ == "__main__":
    app.run(main)
