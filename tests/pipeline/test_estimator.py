"""The estimator: scikit-learn's own checks, and images in."""

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dont_overwrite_parameters,
    check_fit2d_1feature,
    check_fit2d_predict1d,
    check_methods_subset_invariance,
    parametrize_with_checks,
)

import mca_jax
from mca_jax import MCA, Config, InputError, apply_overrides

SMALL = apply_overrides(
    Config(), ["train.epochs=2", "train.batch_size=20", "retrieval.kmeans_restarts=2"]
)
ONE_CLUSTER = "sets n_clusters=1, which is refused; run below with 2"


def expected_failures(estimator):
    return {
        "check_dont_overwrite_parameters": ONE_CLUSTER,
        "check_fit2d_1feature": ONE_CLUSTER,
        "check_fit2d_predict1d": ONE_CLUSTER,
        "check_methods_subset_invariance": ONE_CLUSTER,
    }


@pytest.mark.slow
@parametrize_with_checks(
    [MCA(3, config=SMALL)], expected_failed_checks=expected_failures
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


class AlwaysTwo(MCA):
    """Takes no other number of clusters."""

    n_clusters = property(lambda self: 2, lambda self, value: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        check_dont_overwrite_parameters,
        check_fit2d_1feature,
        check_fit2d_predict1d,
        check_methods_subset_invariance,
    ],
)
def test_checks_of_one_cluster_with_two(check):
    check("AlwaysTwo", AlwaysTwo(config=SMALL))


@pytest.fixture(scope="module")
def groups():
    """Three groups of twenty around axes, with a noun on each axis."""
    rng = np.random.default_rng(0)
    axes = np.eye(6, dtype=np.float32)
    rows = np.repeat(axes[:3], 20, axis=0) + rng.normal(0, 0.05, (60, 6))
    return rows.astype(np.float32), axes


def test_with_nouns_clusters_have_names(groups):
    rows, axes = groups
    nouns = ["cat", "boat", "tree", "lamp", "stone", "river"]
    model = MCA(3, nouns=nouns, noun_embeddings=axes, config=SMALL, seed=1)
    labels = model.fit_predict(rows)
    assert list(model.cluster_names_[labels[[0, 20, 40]]]) == nouns[:3]
    np.testing.assert_array_equal(model.predict(rows), labels)
    np.testing.assert_allclose(model.transform(rows), model.probabilities_, atol=1e-5)
    same = mca_jax.cluster(
        image_embeddings=rows,
        noun_embeddings=axes,
        nouns=nouns,
        num_clusters=3,
        config=apply_overrides(SMALL, ["seed=1"]),
    )
    np.testing.assert_array_equal(same.assignments, labels)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(rows), labels)
    assert clone(model).get_params().keys() == model.get_params().keys()
    assert (clone(model).seed, clone(model).nouns) == (1, nouns)


def test_without_nouns_it_stands_in_a_pipeline(groups):
    rows, _ = groups
    model = make_pipeline(StandardScaler(), MCA(3, config=SMALL))
    labels = model.fit_predict(rows)
    assert adjusted_rand_score(np.repeat(range(3), 20), labels) == 1.0
    assert list(model[-1].cluster_names_) == ["cluster 0", "cluster 1", "cluster 2"]
    assert list(model.get_feature_names_out()) == ["mca0", "mca1", "mca2"]


@pytest.mark.slow
def test_images_come_as_pictures_paths_and_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(
            (rng.integers(0, 99, (48, 48, 3)) + 150 * (row % 2)).astype(np.uint8)
        )
        for row in range(12)
    ]
    for row, picture in enumerate(pictures):
        picture.save(tmp_path / f"{row:02d}.png")
    (tmp_path / "nouns.txt").write_text("night\nday\nstone\nsnow\ncoal\nsky\n")
    vocabulary = f"semantics.vocabulary={tmp_path / 'nouns.txt'}"
    model = MCA(2, config=apply_overrides(SMALL, [vocabulary]), encoder="lite")
    paths = sorted(tmp_path.glob("*.png"))
    expected = model.fit(tmp_path).labels_
    for images in (pictures, paths, iter(paths)):
        np.testing.assert_array_equal(model.predict(images), expected)
    np.testing.assert_array_equal(clone(model).fit_predict(pictures), expected)


def test_nouns_of_images_are_a_setting():
    with pytest.raises(InputError, match=r"semantics\.vocabulary in config"):
        MCA(2, nouns=["cat", "dog"]).fit([Image.new("RGB", (8, 8))] * 3)
