"""The script that builds the embedded nouns, and what is loaded from them."""

import json
import time
from pathlib import Path

import pytest
from absl import app, flags
from absl.testing import flagsaver

from mca_jax.core.assets import ASSET_FOLDER, load_asset
from mca_jax.semantics import load_nouns
from mca_jax.semantics.vocabulary.sources import unpack_table

LINES = """\
  1 A licence.
00000010 03 n 01 thing 0 000 | a root
00000020 05 n 02 hot_dog 0 Red_dog 1 001 @ 00000010 n 0000 | a kind
"""


@pytest.fixture
def parsed_flags() -> None:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@pytest.mark.usefixtures("parsed_flags")
def test_script_builds_a_verified_asset(tmp_path: Path) -> None:
    from experiments import build_noun_asset

    source = tmp_path / "data.noun"
    source.write_text(LINES)
    folder = tmp_path / "assets"
    with flagsaver.flagsaver(data_noun=str(source), assets=str(folder)):
        build_noun_asset.main(["build_noun_asset"])
        first = (folder / "nouns.npz").read_bytes()
        build_noun_asset.main(["build_noun_asset"])
        with pytest.raises(app.UsageError, match="found 'extra'"):
            build_noun_asset.main(["build_noun_asset", "extra"])
    # Built twice, the same bytes: the checksum in the manifest means something.
    assert (folder / "nouns.npz").read_bytes() == first
    table = unpack_table(load_asset("nouns.npz", folder))
    assert table.names == ("thing", "hot dog")
    assert table.lemmas[1] == ("hot dog", "Red dog")
    assert table.kinds.tolist() == [2, 1]
    entry = json.loads((folder / "MANIFEST.json").read_text())["files"]["nouns.npz"]
    assert "WordNet" in entry["licence"]


def test_embedded_asset_is_small_and_loads_quickly() -> None:
    assert (ASSET_FOLDER / "nouns.npz").stat().st_size < 3.2e6
    load_nouns()
    start = time.perf_counter()
    load_nouns()
    # 0.14 s on a free core; the bound is for crowded machines.
    assert time.perf_counter() - start < 2
