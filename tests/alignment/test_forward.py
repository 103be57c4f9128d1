"""Read-out and risk of large sets, block by block, give those of small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.alignment import build_heads
from mca_jax.alignment import forward as evaluator
from mca_jax.alignment.forward import assign_clusters, forward_pass
from mca_jax.core import host_tables as scratch
from mca_jax.core.errors import InputError
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import HostRows
from mca_jax.evaluation import measure_risk, risk
from mca_jax.neighbors import noun_neighbors

COUNT, CLUSTERS = 203, 5


@pytest.fixture
def tables_in_files(monkeypatch):
    """Treats small tables as large ones: 40 images at once, and files for all."""
    monkeypatch.setattr(scratch, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 40 * 4 * CLUSTERS)
    monkeypatch.setattr(evaluator, "_MOST_PROBABILITIES", 40 * CLUSTERS)
    monkeypatch.setattr(risk, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(risk, "_BLOCK_BYTES", 40 * 4 * CLUSTERS)


@pytest.fixture(scope="module")
def trained():
    """Networks that are sure of some images and of others not, and their set."""
    key = jax.random.key(3)
    images = l2_normalize(jax.random.normal(key, (COUNT, 16)))
    nouns = l2_normalize(jax.random.normal(jax.random.fold_in(key, 1), (29, 16)))
    heads = build_heads(num_clusters=CLUSTERS)
    params = heads.init(key, images[:CLUSTERS])
    near = noun_neighbors(images, nouns, num_neighbors=4)
    tables = {
        "noun_neighbors": near.indices,
        "noun_similarities": near.similarities,
    }
    return heads, params, images, {"nouns": nouns, **tables}


class Watched(np.ndarray):
    """A table that notes how many rows are asked for at once."""

    most = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        if np.ndim(found) == self.ndim:
            Watched.most = max(Watched.most, len(found))
        return found


def test_blocks_give_what_the_whole_gives(trained, tables_in_files, monkeypatch):
    heads, params, images, others = trained
    with monkeypatch.context() as large:
        large.setattr(evaluator, "_MOST_PROBABILITIES", 2**26)
        expected = forward_pass(heads, params, images=images, **others)
    assert not isinstance(expected.probabilities, np.memmap)
    for table in (images, HostRows(np.asarray(images), 64)):
        found = forward_pass(heads, params, images=table, **others)
        assert isinstance(found.probabilities, np.memmap)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)
        np.testing.assert_array_equal(
            assign_clusters(found.probabilities), expected.probabilities.argmax(axis=1)
        )


def test_no_more_than_a_block_is_read_from_the_host(trained, tables_in_files):
    heads, params, images, others = trained
    table = np.asarray(images).copy().view(Watched)
    Watched.most = 0
    forward_pass(heads, params, images=HostRows(table, 64), **others)
    assert Watched.most == 40


def test_a_tie_goes_to_the_first_cluster(tables_in_files):
    table = np.array([[0.5, 0.5], [0.2, 0.8]], np.float32)
    assert assign_clusters(table).tolist() == [0, 1]


def draw(count=97, clusters=CLUSTERS, neighbors=6):
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(count, clusters))
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    offsets = random.integers(1, count, size=(count, neighbors))
    return table.astype(np.float32), (np.arange(count)[:, None] + offsets) % count


def test_risk_of_a_stored_table_is_that_of_an_array(tables_in_files, tmp_path):
    table, neighbors = draw()
    expected = measure_risk(jnp.asarray(table), jnp.asarray(neighbors))
    np.save(tmp_path / "rows.npy", table)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = measure_risk(stored, neighbors)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_risk_of_a_large_table_is_measured_in_blocks(tables_in_files):
    table, neighbors = draw()
    table = table.view(Watched)
    Watched.most = 0
    measure_risk(table, neighbors)
    assert Watched.most == 40


def test_tables_of_other_images_are_refused(tables_in_files):
    table, neighbors = draw()
    with pytest.raises(InputError, match="same images, found 97 and 96"):
        measure_risk(table, neighbors[:-1])
