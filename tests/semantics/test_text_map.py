"""The closed-form map between two spaces of nouns."""

import jax
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge

from mca_jax.core.errors import InputError
from mca_jax.semantics.text_map import apply_text_map, fit_text_map


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nouns(count=200, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(count, width)) + 0.5).astype(np.float32)


@pytest.mark.parametrize("ridge", [0.001, 1.0])
@pytest.mark.parametrize(("count", "s", "d"), [(200, 12, 7), (200, 7, 12), (9, 12, 5)])
def test_ridge_is_that_of_scikit_learn(count, s, d, ridge):
    x, y = nouns(count, s), nouns(count, d, seed=1)
    centered = x - x.mean(axis=0)
    alpha = ridge * (centered**2).sum() / s
    model = Ridge(alpha=alpha).fit(x.astype(np.float64), y.astype(np.float64))
    found = fit_text_map(x, y, ridge=ridge)
    np.testing.assert_allclose(found.matrix, model.coef_.T, atol=2e-4)
    np.testing.assert_allclose(found.offset, model.intercept_, atol=2e-4)
    placed = unit(model.predict(nouns(5, s, seed=2)))
    np.testing.assert_allclose(
        apply_text_map(found, nouns(5, s, seed=2)), placed, atol=1e-3
    )


def test_procrustes_is_that_of_scipy():
    x, y = nouns(), nouns(seed=1)
    centered_x, centered_y = x - x.mean(axis=0), y - y.mean(axis=0)
    turn, strength = orthogonal_procrustes(centered_x, centered_y)
    matrix = turn * strength / (centered_x**2).sum()
    found = fit_text_map(x, y, method="procrustes")
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-5)
    offset = y.mean(axis=0) - x.mean(axis=0) @ matrix
    np.testing.assert_allclose(found.offset, offset, atol=1e-5)


@pytest.mark.parametrize("width", [5, 12, 20])
def test_procrustes_scale_is_the_best_there_is(width):
    x, y = nouns(width=12), nouns(width=width, seed=1)
    matrix = np.asarray(fit_text_map(x, y, method="procrustes").matrix)
    centered_x, centered_y = x - x.mean(axis=0), y - y.mean(axis=0)

    def loss(scale):
        return ((centered_y - scale * centered_x @ matrix) ** 2).sum()

    assert loss(1.0) < min(loss(0.99), loss(1.01))


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_a_turned_space_is_turned_back(method):
    y = nouns()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))[0]
    x = (y @ turn).astype(np.float32)
    found = fit_text_map(x[:150], y[:150], method=method, ridge=1e-6)
    np.testing.assert_allclose(apply_text_map(found, x[150:]), y[150:], atol=1e-3)


def test_a_turn_keeps_the_similarities_of_the_text_encoder():
    x, y = nouns(), nouns(seed=1)
    matrix = np.asarray(fit_text_map(x, y, method="procrustes").matrix)
    product = matrix @ matrix.T
    np.testing.assert_allclose(product, product[0, 0] * np.eye(12), atol=1e-5)


def test_hand_worked():
    # One axis: x centred is (-1, 0, 1), y centred (-2, 0, 2); 4 / (2 + 2) = 1.
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])
    found = fit_text_map(x, y, ridge=1.0)
    np.testing.assert_allclose(found.matrix, [[1.0]], atol=1e-6)
    np.testing.assert_allclose(found.offset, [2.0], atol=1e-6)


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_jit_and_degenerate_sets(method):
    x, y = nouns(), nouns(seed=1)
    fit = jax.jit(lambda x, y: fit_text_map(x, y, method=method))
    plain = fit_text_map(x, y, method=method)
    for one, other in zip(fit(x, y), plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    same = np.repeat(x[:1], 5, axis=0)
    found = fit_text_map(same, y[:5], method=method, ridge=0.0)
    assert all(np.isfinite(part).all() for part in found)
    # Nothing is told apart: all go to the mean.
    placed = apply_text_map(found, same)
    np.testing.assert_allclose(
        placed, unit(y[:5].mean(axis=0)[None])[[0] * 5], atol=1e-3
    )


def test_bad_input():
    with pytest.raises(InputError, match="Unknown text map 'rigde'; did you mean"):
        fit_text_map(nouns(), nouns(), method="rigde")
    with pytest.raises(InputError, match="ridge at least 0, found -1"):
        fit_text_map(nouns(), nouns(), ridge=-1)
    with pytest.raises(InputError, match="both encoders embed, found 200 and 199"):
        fit_text_map(nouns(), nouns(199))
    with pytest.raises(InputError, match="found 1 and 1"):
        fit_text_map(nouns(1), nouns(1))
