"""Axes of several spaces side by side."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.parallel import HostRows
from mca_jax.neighbors import apply_projection, fit_projection, fit_spaces

WIDTHS = (6, 4)


def fit(rows, columns, **settings):
    assert rows.shape[1] in WIDTHS
    return fit_projection(rows, components=3, whitening=0.25, **settings)


@pytest.fixture
def table():
    """Two spaces of which the second is a hundred times as wide."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200, 6)) * np.arange(1, 7)
    second = 100 * rng.normal(size=(200, 4)) + 7
    return np.concatenate([first, second], axis=1).astype(np.float32)


def test_each_space_has_its_axes_and_an_equal_part(table):
    found = fit_spaces(jnp.asarray(table), WIDTHS, fit)
    assert found.axes.shape == (10, 6)
    np.testing.assert_array_equal(found.axes[:6, 3:], 0)
    np.testing.assert_array_equal(found.axes[6:, :3], 0)
    raw = (table - np.asarray(found.mean)) @ np.asarray(found.axes)
    energies = [np.mean(np.sum(raw[:, part] ** 2, axis=1)) for part in np.s_[:3, 3:]]
    np.testing.assert_allclose(energies, 1, rtol=1e-4)
    for columns, part in zip(np.s_[:6, 6:], np.s_[:3, 3:], strict=True):
        rows = jnp.asarray(table[:, columns])
        alone = apply_projection(fit(rows, columns), rows)
        own = raw[:, part] / np.linalg.norm(raw[:, part], axis=1, keepdims=True)
        # But for signs of axes, which cosines don't see.
        np.testing.assert_allclose(own @ own.T, alone @ alone.T, atol=1e-4)


def test_nouns_are_as_near_as_in_the_first_space_alone(table):
    rng = np.random.default_rng(1)
    nouns = np.zeros((9, 10), np.float32)
    nouns[:, :6] = rng.normal(size=(9, 6))
    both = fit_spaces(jnp.asarray(table), WIDTHS, fit)
    alone = fit_projection(jnp.asarray(table[:, :6]), components=3, whitening=0.25)
    cosines = []
    for projection, width in ((both, 10), (alone, 6)):
        images = apply_projection(projection, jnp.asarray(table[:, :width]))
        names = jnp.asarray(nouns[:, :width])
        placed = apply_projection(projection, names, jnp.mean(names, axis=0))
        cosines.append(np.asarray(images @ placed.T))
    # One factor for each image: how much of it lies in the first space.
    factors = np.linalg.norm(cosines[0], axis=1) / np.linalg.norm(cosines[1], axis=1)
    assert factors.max() < 1
    np.testing.assert_allclose(cosines[0], cosines[1] * factors[:, None], atol=1e-5)


def test_tables_on_the_host_give_the_same(table):
    expected = fit_spaces(jnp.asarray(table), WIDTHS, fit)
    found = fit_spaces(HostRows(table, 64), WIDTHS, fit)
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.abs(each), np.abs(other), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("widths", [(), (10,)])
def test_one_space_is_as_before(table, widths):
    rows = jnp.asarray(table)
    expected = fit_projection(rows, components=3)
    found = fit_spaces(
        rows, widths, lambda part, columns: partial(fit_projection, components=3)(part)
    )
    np.testing.assert_array_equal(found.axes, expected.axes)
