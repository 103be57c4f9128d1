import numpy as np
import pytest
from PIL import Image
from sample_results import crop, nearest_rows
from sklearn.neighbors import NearestNeighbors

from mca_jax.report.findings import find_duplicates, find_outliers, picture_correlation


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pixels(picture, size=(48, 48)):
    return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))


def test_outliers_are_those_of_an_independent_search():
    random = np.random.default_rng(0)
    rows = unit(random.normal(size=(1500, 12)) + 2 * np.eye(12)[np.arange(1500) % 3])
    centred = rows - rows.mean(axis=0)
    search = NearestNeighbors(n_neighbors=11, metric="cosine").fit(centred)
    distances, indices = search.kneighbors(centred)
    expected = distances[:, 1:].mean(axis=1)
    found = find_outliers(rows, indices[:, 1:])
    assert len(found) == 15
    order = np.argsort(-expected)[:15]
    assert [each.row for each in found] == order.tolist()
    np.testing.assert_allclose(
        [each.distance for each in found], expected[order], atol=1e-5
    )


def test_the_odd_one_out_comes_first():
    rows = np.repeat(np.eye(4)[:2], 20, axis=0)
    rows += np.random.default_rng(1).normal(scale=0.05, size=rows.shape)
    rows[7] = np.eye(4)[2]
    rows = unit(rows)
    assert find_outliers(rows, nearest_rows(rows))[0].row == 7
    # Half the precision, as an embedding store may keep, changes no order here.
    assert find_outliers(rows.astype(np.float16), nearest_rows(rows))[0].row == 7


def test_no_neighbours_no_outliers():
    assert find_outliers(np.ones((1, 4), np.float32), np.zeros((1, 0), int)) == ()


def test_correlation_of_pictures():
    one, other = crop(1, 200), crop(2, 200)
    assert picture_correlation(pixels(one), pixels(one)) == pytest.approx(1)
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert picture_correlation(pixels(one), pixels(mirrored)) > 0.99
    smaller = one.resize((60, 60), Image.Resampling.BICUBIC)
    assert picture_correlation(pixels(one), pixels(smaller)) > 0.99
    assert picture_correlation(pixels(one), pixels(other)) < 0.8
    upside_down = one.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert picture_correlation(pixels(one), pixels(upside_down)) < 0.8


def test_correlation_of_plain_pictures():
    white, grey = (np.full((8, 8, 3), value, np.uint8) for value in (255, 90))
    assert picture_correlation(white, white) == 1
    assert picture_correlation(white, grey) == 0
    assert picture_correlation(white, pixels(crop(1))) == 0


class Pictures:
    """Pictures by row; notes what was read."""

    def __init__(self, pictures):
        """Keep them."""
        self.pictures, self.read = pictures, []

    def same(self, row, other):
        """Whether both are the same object."""
        return self.pictures[row] is self.pictures[other]

    def tiles(self, rows):
        """Small ones of some rows, of those that are there."""
        self.read = rows
        return {
            row: pixels(self.pictures[row]) for row in rows if self.pictures.get(row)
        }


def search(rows, pictures):
    return find_duplicates(
        rows,
        nearest_rows(rows),
        same_content=pictures.same,
        read_tiles=pictures.tiles,
    )


def test_identical_and_near_duplicates():
    photos = [crop(row, 200) for row in range(30)]
    smaller = photos[3].resize((70, 70), Image.Resampling.BICUBIC)
    mirrored = photos[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rows = unit(np.random.default_rng(0).normal(size=(34, 40)))
    # 30 and 31 repeat 0; 32 and 33 show nearly what 3 shows; 5 is like 6 to the
    # encoder only; 8 and 9 have equal embeddings for different pictures.
    rows[[30, 31]] = rows[0]
    rows[32] = rows[3] + 0.05 * rows[1]
    rows[33] = rows[3] + 0.06 * rows[2]
    rows[6] = rows[5] + 0.01 * rows[1]
    rows[9] = rows[8]
    pictures = Pictures(
        dict(enumerate([*photos, photos[0], photos[0], smaller, mirrored]))
    )
    found = search(unit(rows), pictures)
    assert [(each.kind, each.rows) for each in found] == [
        ("identical", (0, 30, 31)),
        ("near", (3, 32, 33)),
    ]
    assert found[0].similarity == 1
    assert 0.99 < found[1].similarity < 1
    assert {3, 5, 6, 8, 9, 32, 33} <= set(pictures.read)
    # Those that the encoder tells apart aren't even read.
    assert not {10, 11, 12} & set(pictures.read)


def test_pictures_that_are_gone_are_no_duplicates():
    rows = unit(np.eye(8) + 0.01)
    rows[1] = rows[0] + 1e-3 * rows[2]
    pictures = Pictures({0: crop(0), 1: None})
    pictures.same = lambda row, other: False
    assert search(unit(rows), pictures) == ()


def test_of_identical_images_only_the_first_meets_others():
    photo = crop(4, 200)
    near = photo.resize((80, 80), Image.Resampling.BICUBIC)
    rows = unit(np.random.default_rng(5).normal(size=(12, 20)))
    rows[1] = rows[0]
    rows[2] = rows[0] + 0.05 * rows[5]
    others = {row: crop(row, 200) for row in range(3, 12)}
    found = search(unit(rows), Pictures({0: photo, 1: photo, 2: near, **others}))
    assert [(each.kind, each.rows) for each in found] == [
        ("identical", (0, 1)),
        ("near", (0, 2)),
    ]
