"""Views in a run: embedded once, or given; and what trust does to the text."""

import numpy as np
import pytest
from encoders.small_encoder import build_small_encoder
from small_runs import NOUNS, blobs

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.data import open_source
from mca_jax.encoders.embed_images import embed_images
from mca_jax.encoders.embed_views import embed_views


def run(changes=(), **given):
    config = mca_jax.apply_overrides(mca_jax.Config(), ["train.epochs=1", *changes])
    given = {
        "image_embeddings": blobs(),
        "noun_embeddings": np.eye(8, dtype=np.float32),
        "nouns": NOUNS,
        "num_clusters": 4,
    } | given
    return mca_jax.cluster(config=config, **given)


def test_views_are_embedded_once_and_kept(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 20, 20, 3), np.uint8)
    encoder, source = build_small_encoder(), open_source(pixels)
    done = []

    def views():
        found, warnings = embed_views(
            *(encoder, source, range(9)),
            num_images=5,
            num_views=3,
            cache_dir=tmp_path,
            progress=done.append,
        )
        assert warnings == ()
        return found

    first = views()
    assert first.shape == (5, 3, encoder.width)
    np.testing.assert_allclose(np.linalg.norm(first, axis=2), 1, rtol=1e-5)
    # Views of one image differ from each other, and less than images do.
    assert np.ptp(first, axis=1).max() > 1e-3
    files = sorted(path.name for path in tmp_path.rglob("chunk-*"))
    np.testing.assert_array_equal(views(), first)
    assert files == sorted(path.name for path in tmp_path.rglob("chunk-*"))
    # The images' own embeddings lie beside them, and are others.
    assert embed_images(encoder, source, cache_dir=tmp_path).num_computed == 9


def test_given_views_choose_the_axes():
    rows = blobs()
    # All that views differ in is the first class's direction.
    views = np.repeat(rows[:40, None], 3, axis=1)
    views[:, :, 0] += np.random.default_rng(0).normal(scale=3, size=(40, 3))
    plain, ignoring = run(), run(view_embeddings=views)
    strength = [
        np.linalg.norm(result.model.network.axes[0])
        / np.linalg.norm(result.model.network.axes[1])
        for result in (plain, ignoring)
    ]
    assert strength[0] == pytest.approx(1, abs=0.5)
    # A metric of s + s/8 along it and of s/8 along the others: a third of their length.
    assert strength[1] == pytest.approx(1 / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (np.zeros((5, 1, 8)), r"at least 2 views of each image.*\[5, 1, 8\]"),
        (np.zeros((5, 2, 7)), r"width 8, found \[5, 2, 7\]"),
        (np.full((5, 2, 8), np.nan), "finite view_embeddings"),
    ],
)
def test_views_that_do_not_fit(views, message):
    with pytest.raises(InputError, match=message):
        run(view_embeddings=views)


def test_views_of_pixels_are_made_not_given():
    with pytest.raises(InputError, match="view_embeddings go with image_embeddings"):
        mca_jax.cluster(
            np.zeros((4, 8, 8, 3), np.uint8),
            num_clusters=2,
            view_embeddings=np.zeros((2, 2, 8)),
        )


def test_nouns_that_say_nothing_are_warned_of():
    fit = run()
    assert fit.metrics["label_free"]["text_trust"] == 1
    assert not [text for text in fit.warnings if "hardly fit" in text]
    # The same noun over and over: it can't tell the images apart.
    flat = np.ones((8, 8)) + 0.01 * np.random.default_rng(0).normal(size=(8, 8))
    changes = ["semantics.min_uniqueness=0", "retrieval.noun_neighbors=8"]
    unfit = run(changes, noun_embeddings=flat.astype(np.float32))
    assert unfit.metrics["label_free"]["text_trust"] < 0.3
    assert any("The nouns hardly fit" in text for text in unfit.warnings)
