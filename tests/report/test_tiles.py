import io

import numpy as np
import pytest
from PIL import Image
from sample_results import crop

from mca_jax.report.images import tiles
from mca_jax.report.images.tiles import (
    SHEET_COLUMNS,
    affordable_rows,
    encode_sheets,
    read_tiles,
    tile_edge,
)


def test_more_tiles_are_smaller():
    assert [tile_edge(n) for n in (0, 1000, 1001, 2500, 5000, 5001, 10**6)] == [
        *(96, 96, 80, 80, 64, 56, 56)
    ]


def test_each_tile_is_where_the_script_looks_for_it():
    shades = {row: row % 251 for row in range(0, 900, 3)}
    found = {row: np.full((8, 8, 3), shade, np.uint8) for row, shade in shades.items()}
    sheets = [Image.open(io.BytesIO(each)) for each in encode_sheets(found, edge=8)]
    assert [sheet.size for sheet in sheets] == [(128, 128), (128, 24)]
    for slot, shade in enumerate(shades.values()):
        sheet, place = divmod(slot, SHEET_COLUMNS**2)
        row, column = divmod(place, SHEET_COLUMNS)
        colour = sheets[sheet].getpixel((8 * column + 4, 8 * row + 4))
        np.testing.assert_allclose(colour, shade, atol=6)
    assert encode_sheets({}, edge=8) == []


def test_unreadable_rows_are_absent():
    def load(row):
        if row == 1:
            raise OSError("gone")
        return crop(row).convert("L") if row == 2 else crop(row)

    found = read_tiles([3, 1, 2, 2], load, edge=24)
    assert list(found) == [2, 3]
    assert {tile.shape for tile in found.values()} == {(24, 24, 3)}


@pytest.mark.parametrize(("limit", "stride"), [(10**9, 1), (10**6, 2), (250_000, 6)])
def test_large_files_get_fewer_tiles(tmp_path, monkeypatch, limit, stride):
    monkeypatch.setattr(tiles, "_MOST_BYTES", limit)
    monkeypatch.setattr(tiles, "_BYTES_OF_OPENING", 10_000)
    for row in range(12):
        (tmp_path / f"{row}.jpg").write_bytes(b"x" * 90_000)
    rows = affordable_rows(range(12), lambda row: str(tmp_path / f"{row}.jpg"))
    # Twelve files of 100 kB each as it counts.
    assert rows == list(range(0, 12, stride))
    gone = affordable_rows(range(5), lambda row: str(tmp_path / "none"))
    assert gone == list(range(5))
