"""Votes of images for nouns: by hand, fairly sampled."""

import numpy as np
import pytest

from mca_jax.semantics.evidence import group_evidence, noun_votes, spread_sample


def test_votes_by_hand() -> None:
    nowhere = np.zeros(2)
    votes = noun_votes(
        np.array([[3.0, 0.0], [0.0, 2.0]]),
        np.eye(2),
        image_mean=nowhere,
        noun_mean=nowhere,
        sharpness=1.0,
    )
    # Cosines are 1 and 0, of standard deviation 1/2: logits 2 and 0.
    sure = np.exp(2) / (1 + np.exp(2))
    np.testing.assert_allclose(votes, [[sure, 1 - sure], [1 - sure, sure]], rtol=1e-6)


def test_what_all_images_share_is_no_evidence() -> None:
    rng = np.random.default_rng(0)
    images, nouns = rng.normal(size=(20, 8)), rng.normal(size=(5, 8))
    shared = rng.normal(size=8) * 10
    plain = noun_votes(images, nouns, image_mean=np.zeros(8), noun_mean=np.zeros(8))
    moved = noun_votes(images + shared, nouns, image_mean=shared, noun_mean=np.zeros(8))
    np.testing.assert_allclose(moved, plain, atol=1e-4)
    np.testing.assert_allclose(plain.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # What small groups leave of the hundred goes to the large ones.
        ((500, 3, 0, 40), (57, 3, 0, 40)),
        ((500, 3, 500), (48, 3, 48)),
        ((2, 2), (2, 2)),
        # Eight of each, even where that is more than a hundred.
        ((20,) * 30, (8,) * 30),
    ],
)
def test_sample_has_of_every_group(
    sizes: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    groups = np.random.default_rng(1).permutation(
        np.repeat(np.arange(len(sizes)), sizes)
    )
    rows = spread_sample(groups, len(sizes), size=100, least=8)
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(groups[rows], minlength=len(sizes))
    assert tuple(counts.tolist()) == expected


def test_evidence_is_a_mean() -> None:
    votes = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    evidence = group_evidence(votes, np.array([0, 0, 2]), 3)
    assert evidence.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]]
