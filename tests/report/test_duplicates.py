"""Copies of pictures, made here, are found whole, and nothing else is."""

import io

import numpy as np
import pytest
from PIL import Image
from sample_results import crop, nearest_rows

from mca_jax.report import duplicates
from mca_jax.report.duplicates import FileSize, find_duplicates, shrink


def scene(seed, size):
    """A picture unlike all others: soft spots of many colours."""
    spots = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return resized(Image.fromarray(spots), size, size)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def compressed(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def resized(picture, width, height):
    return picture.resize((width, height), Image.Resampling.BICUBIC)


COPIES = {
    "compressed": lambda one: compressed(one, 30),
    "small": lambda one: resized(one, 50, 50),
    "other shape": lambda one: resized(one, 120, 70),
    "cropped": lambda one: one.crop((10, 10, 190, 190)),
    "cropped on one side": lambda one: one.crop((20, 0, 200, 200)),
    "cropped at a corner": lambda one: one.crop((0, 18, 182, 200)),
    "mirrored": lambda one: one.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "all of it": lambda one: compressed(
        resized(one.crop((0, 0, 185, 200)), 60, 60), 60
    ),
}


def search(embeddings, pictures, *, digests=None, neighbors=None):
    """Search pictures that are known by the objects that they are."""
    sizes = [FileSize(0, 0, 0) if p is None else FileSize(*p.size, 7) for p in pictures]
    black = Image.new("RGB", (8, 8))
    return find_duplicates(
        embeddings,
        nearest_rows(embeddings) if neighbors is None else neighbors,
        np.stack([shrink(black if p is None else p) for p in pictures]),
        digests=digests,
        same_content=lambda one, two: pictures[one] is pictures[two],
        measure=sizes.__getitem__,
    )


def embeddings_of(origins, seed=0, scale=0.3):
    """Embeddings that are alike for what comes of one picture."""
    random = np.random.default_rng(seed)
    rows = unit(random.normal(size=(max(origins) + 1, 40)))[list(origins)]
    return unit(rows + random.normal(scale=scale / 6, size=rows.shape))


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_among_other_pictures(kind):
    pictures = [crop(row, 200) for row in range(24)]
    pictures += [COPIES[kind](pictures[row]) for row in (3, 17)]
    found = search(embeddings_of([*range(24), 3, 17]), pictures)
    assert sorted(each.rows for each in found) == [(3, 24), (17, 25)]
    assert {each.kind for each in found} == {"near"}
    assert all(0.6 < each.similarity <= 1 for each in found)


def test_an_encoder_that_is_misled_by_size_hides_no_copy():
    pictures = [crop(row, 200) for row in range(24)]
    pictures.append(resized(pictures[3], 40, 40))
    # Nothing is near anything: embeddings say nothing here.
    found = search(unit(np.random.default_rng(1).normal(size=(25, 40))), pictures)
    assert [each.rows for each in found] == [(3, 24)]


def test_every_group_of_many_is_whole():
    # 120 groups of 5, and one of 60: more than any image has neighbours.
    origins = [*np.repeat(np.arange(120), 5), *[120] * 60]
    first = {row: scene(row, 90) for row in range(121)}
    pictures = [
        resized(first[origin], 90 - each % 30, 88 - each % 25)
        for each, origin in enumerate(origins)
    ]
    neighbors = np.random.default_rng(0).integers(0, len(origins), (len(origins), 5))
    found = search(embeddings_of(origins), pictures, neighbors=neighbors)
    assert sorted(map(len, (each.rows for each in found))) == [5] * 120 + [60]
    for each in found:
        assert len({origins[row] for row in each.rows}) == 1


def test_identical_ones_by_digests_and_without():
    photo, other = crop(0, 200), crop(1, 200)
    pictures = [photo, other, photo, photo, crop(2, 200), other]
    embeddings = embeddings_of([0, 1, 0, 0, 2, 1], scale=0)
    digests = np.array([[0], [1], [0], [0], [2], [1]], np.uint8).repeat(32, axis=1)
    expected = [("identical", (0, 2, 3), 0), ("identical", (1, 5), 1)]
    for known in (digests, None):
        found = search(embeddings, pictures, digests=known)
        assert [(each.kind, each.rows, each.best) for each in found] == expected
    # Equal embeddings are no proof.
    found = search(embeddings, [crop(row, 200) for row in range(6)])
    assert found == ()


def test_the_best_has_the_most_pixels_and_stands_in_both_groups():
    photo = crop(4, 200)
    pictures = [photo, photo, resized(photo, 80, 80), *(crop(r, 90) for r in (5, 6, 7))]
    larger = resized(photo, 300, 300)
    embeddings = embeddings_of([0, 0, 0, 1, 2, 3, 0], scale=0.1)
    embeddings[1] = embeddings[0]
    found = search(embeddings, [*pictures, larger])
    # Of identical images only the first meets others.
    assert [(each.kind, each.rows, each.best) for each in found] == [
        ("identical", (0, 1), 0),
        ("near", (0, 2, 6), 6),
    ]
    assert found[1].sizes[2] == FileSize(300, 300, 7)


def test_copies_that_crowd_all_neighbours_hide_no_crop():
    photo = crop(4, 200)
    cut = photo.crop((14, 0, 200, 200))
    pictures = [*[photo] * 30, *[cut] * 30, *(crop(row, 90) for row in range(5, 9))]
    embeddings = embeddings_of([*[0] * 60, 1, 2, 3, 4], scale=0)
    embeddings[30:60] = unit(embeddings[30:60] + 0.05 * embeddings[60])
    digests = np.array([*[0] * 30, *[1] * 30, 2, 3, 4, 5], np.uint8)[:, None]
    found = search(embeddings, pictures, digests=digests)
    assert [each.kind for each in found] == ["identical", "identical", "near"]
    assert found[2].rows == (0, 30)


def plain(colour, noise, seed):
    random = np.random.default_rng(seed)
    values = np.array(colour) + random.normal(scale=noise, size=(60, 60, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def test_tinted_and_faint_pictures_are_not_all_the_same():
    # What they share is a colour, or the shade of one corner.
    shade = np.linspace(0, 12, 60)[:, None, None] * np.ones((1, 60, 3))
    pictures = [
        plain((180, 150, 90), noise, seed) for seed, noise in enumerate([9, 30])
    ]
    for seed in range(6):
        values = (
            200 + shade + np.random.default_rng(seed).normal(scale=2, size=shade.shape)
        )
        values[10 * (seed % 3) :][:14, 8 * seed :][:, :14] -= 9
        pictures.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    pictures += [Image.new("RGB", (60, 60), colour) for colour in ("red", "blue")]
    assert search(embeddings_of([0] * 10), pictures) == ()


def test_pictures_that_are_gone_are_no_duplicates():
    embeddings = embeddings_of([0, 0, 1, 2])
    assert search(embeddings, [None, None, crop(1), crop(2)]) == ()
    assert (
        find_duplicates(
            embeddings,
            nearest_rows(embeddings),
            None,
            digests=None,
            same_content=lambda one, two: False,
            measure=lambda row: FileSize(0, 0, 0),
        )
        == ()
    )


@pytest.mark.slow
def test_a_set_too_large_for_all_pairs(monkeypatch):
    monkeypatch.setattr(duplicates, "_ALL_PAIRS", 100)
    pictures = [scene(row, 60) for row in range(150)]
    pictures += [resized(pictures[row], 45, 45) for row in range(100)]
    found = search(embeddings_of([*range(150), *range(100)]), pictures)
    wanted = {(row, 150 + row) for row in range(100)}
    assert len({each.rows for each in found} & wanted) >= 97
    assert not {each.rows for each in found} - wanted
