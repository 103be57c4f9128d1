"""Views: parts of an image, the same wherever the image lies."""

import io

import numpy as np
import pytest
from PIL import Image

from mca_jax.data import open_source
from mca_jax.data.views import draw_view, pick_rows, view_source


def pixels(count=3, side=40):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def views_of(source, rows, seed=0):
    views = view_source(source, rows, num_views=2, seed=seed)
    contents = [views.read(place)[0] for place in range(len(views.names))]
    return [np.asarray(views.decode(content, 8)) for content in contents]


def test_a_view_is_a_part_of_the_image_in_other_light():
    image = Image.new("RGB", (60, 40), (100, 150, 50))
    random = np.random.default_rng(1)
    for _ in range(30):
        view = draw_view(random, image)
        share = view.width * view.height / 2400
        # A pixel more or less on each side, where a side is rounded.
        assert 0.27 <= share <= 1
        assert view.width <= 60
        assert view.height <= 40


def test_half_of_the_views_are_mirrored_and_a_fifth_grey():
    ramp = np.zeros((32, 32, 3), np.uint8)
    ramp[:, :, 0] = np.arange(32) * 8
    image, random = Image.fromarray(ramp), np.random.default_rng(2)
    views = [np.asarray(draw_view(random, image), float) for _ in range(300)]
    mirrored = np.mean([view[0, 0].sum() > view[0, -1].sum() for view in views])
    grey = np.mean([np.ptp(view, axis=2).max() == 0 for view in views])
    assert 0.4 < mirrored < 0.6
    assert 0.12 < grey < 0.28


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_tiny_and_narrow_images_have_views(size):
    view = draw_view(np.random.default_rng(0), Image.new("RGB", size))
    assert min(view.size) == 1


def test_views_depend_on_content_and_seed_and_not_on_the_row():
    source = open_source(pixels())
    swapped = open_source(pixels()[::-1])
    both, moved = views_of(source, [0, 2]), views_of(swapped, [0, 2])
    for one, other in zip(both[:2], moved[2:], strict=True):
        np.testing.assert_array_equal(one, other)
    other_seed = views_of(source, [0], seed=1)
    assert not any(
        one.shape == two.shape and (one == two).all()
        for one in both[:2]
        for two in other_seed
    )
    assert both[0].shape != both[1].shape or (both[0] != both[1]).any()


def test_files_have_views_and_keep_their_identity(tmp_path):
    content = io.BytesIO()
    Image.fromarray(pixels(1)[0]).save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    source = open_source(tmp_path)
    views = view_source(source, [0], num_views=2, seed=0)
    assert views.names == ("a.png view 0.0", "a.png view 0.1")
    assert views.identify(1) == source.identify(0)
    own = views_of(source, [0])
    # Pixels of an array are another content; a file read again is the same.
    for one, other in zip(own, views_of(source, [0]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_images_change_few_picks():
    names = [f"{row}.jpg" for row in range(1000)]
    before = pick_rows(names[:900], range(900), 100, seed=0)
    after = pick_rows(names, range(1000), 100, seed=0)
    assert before == sorted(set(before))
    assert len(before) == len(after) == 100
    assert 75 <= len(set(before) & set(after)) < 100
    assert pick_rows(names, range(5), 100, seed=0) == [0, 1, 2, 3, 4]
    assert pick_rows(names, range(1000), 100, seed=1) != after
