"""Sets that stay on the host give what those on the device give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mca_jax.alignment import build_heads
from mca_jax.alignment.losses import LossWeights, build_objective, uniform_prior
from mca_jax.core.errors import InputError
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import (
    HostRows,
    ShardedRows,
    data_mesh,
    shard_images,
)
from mca_jax.core.parallel.rows import device_budget
from mca_jax.neighbors import (
    apply_projection,
    approximate,
    fit_projection,
    image_neighbors,
    noun_neighbors,
    probe_neighbors,
    spherical_kmeans,
)
from mca_jax.neighbors.approximate import _on_devices, _probe, measure_recall
from mca_jax.training import TrainingData, build_trainer, fit


def groups(key, n, d=16, k=4, noise=0.15):
    rows = jnp.eye(d)[jnp.arange(n) % k] + noise * jax.random.normal(key, (n, d))
    return l2_normalize(rows)


@pytest.fixture
def rows_on_disk(key, tmp_path):
    """203 rows in four groups, in a file."""
    np.save(tmp_path / "rows.npy", np.asarray(groups(key, 203)))
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def build_data(images, nouns):
    near, texts = (
        image_neighbors(images, num_neighbors=9),
        noun_neighbors(images, nouns),
    )
    return TrainingData(images, nouns, near.indices, texts.indices, texts.similarities)


@functools.cache
def shared_trainer(mesh, driver):
    """One trainer for all tests: what is compiled is compiled once."""
    heads = build_heads(num_clusters=4)
    return build_trainer(
        heads,
        build_objective(heads),
        # Not Adam, which would hide gradients of another length.
        optax.sgd(0.05),
        batch_size=42,
        # Four would be a pass: an epoch is a sample, the same one everywhere.
        max_steps=3,
        mesh=mesh,
        driver=driver,
    )


def train(key, data, *, mesh=None, driver="jit"):
    return fit(
        key,
        shared_trainer(mesh, driver),
        data,
        jnp.eye(16)[:4],
        weights=LossWeights(),
        prior=uniform_prior(4),
        num_epochs=2,
    )


@pytest.fixture(scope="module")
def nouns():
    return groups(jax.random.key(5), 31, noise=0.3)


@pytest.fixture(scope="module")
def on_one_device(nouns):
    rows = groups(jax.random.key(4), 203)
    return np.asarray(rows), train(jax.random.key(6), build_data(rows, nouns))


@pytest.mark.parametrize(
    ("where", "driver"),
    [
        ("host", "jit"),
        ("devices", "jit"),
        ("host and devices", "jit"),
        ("devices", "pmap"),
    ],
)
def test_training_is_the_same_wherever_the_set_is(on_one_device, nouns, where, driver):
    rows, expected = on_one_device
    mesh = None if where == "host" else data_mesh(8)
    images = shard_images(
        rows,
        mesh,
        bytes_per_row=100,
        budget_gib=1.0 if where == "devices" else 1e-9,
    )
    assert isinstance(images, ShardedRows if where == "devices" else HostRows)
    data = build_data(images, nouns)
    result = train(jax.random.key(6), data, mesh=mesh, driver=driver)
    np.testing.assert_array_equal(result.assignments, expected.assignments)
    for one, other in zip(result.history, expected.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert one["changed"] == other["changed"]
    for left, right in zip(
        jax.tree.leaves(result.params), jax.tree.leaves(expected.params), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_a_step_that_fails_stops_a_set_on_the_host(key, nouns, rows_on_disk):
    bad = np.array(rows_on_disk)
    data = build_data(HostRows(bad, 64), nouns)
    bad[:50] = np.nan
    result = train(key, data)
    assert result.failure is not None
    assert result.failure.step == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.params))


def test_neighbours_on_the_host_are_those_on_the_device(rows_on_disk):
    placed, host = jnp.asarray(rows_on_disk), HostRows(rows_on_disk, 37)
    expected, found = image_neighbors(placed), image_neighbors(host)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
    nouns = placed[::7]
    expected, found = noun_neighbors(placed, nouns), noun_neighbors(host, nouns)
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_kmeans_is_the_same_wherever_the_set_is(key, rows_on_disk):
    options = {"num_clusters": 4, "num_restarts": 1, "sample_size": 60}
    placed = jnp.asarray(rows_on_disk)
    expected = spherical_kmeans(key, placed, **options)
    for images in (
        HostRows(rows_on_disk, 37),
        shard_images(rows_on_disk, data_mesh(8), bytes_per_row=1),
    ):
        found = spherical_kmeans(key, images, **options)
        np.testing.assert_array_equal(found.assignments, expected.assignments)
        np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)
        np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-5)
    whole = spherical_kmeans(key, placed, num_clusters=4, num_restarts=2)
    assert float(found.objective) == pytest.approx(float(whole.objective), rel=1e-3)


def test_an_empty_cluster_is_refilled_on_the_host():
    from mca_jax.neighbors.kmeans import streamed_lloyd

    rows = HostRows(np.float32([[1, 0], [1, 0], [0, 1]]), 2)
    start = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    centers, assignments, objective = streamed_lloyd(rows, start, max_iterations=9)
    np.testing.assert_array_equal(assignments, [0, 0, 1])
    np.testing.assert_allclose(centers, [[1.0, 0.0], [0.0, 1.0]], atol=1e-6)
    assert objective == pytest.approx(1.0)


def test_kmeans_of_a_sample_goes_on_over_all_rows_until_few_move(key, monkeypatch):
    from mca_jax.neighbors import kmeans

    rows = jnp.asarray(groups(key, 600, k=9, noise=0.4))
    tried = []
    for tolerance, most in ((0.0, 0), (0.5, 10), (0.0, 99)):
        monkeypatch.setattr(kmeans, "_POLISHED", tolerance)
        tried.append(
            spherical_kmeans(
                *(key, rows),
                num_clusters=9,
                num_restarts=1,
                sample_size=90,
                max_polishing=most,
            )
        )
    bare, once, settled = tried
    # Without iterations of their own the rows go to the centres of the sample.
    nearest = np.argmax(np.asarray(rows) @ np.asarray(bare.centers).T, axis=1)
    np.testing.assert_array_equal(bare.assignments, nearest)
    # The first assigns all rows anew, and more than half of them count as moved.
    assert bare.objective < once.objective <= settled.objective
    again = kmeans.lloyd_iterations(rows, settled.centers, max_iterations=1)
    np.testing.assert_array_equal(again.assignments, settled.assignments)


def test_a_sample_smaller_than_the_clusters_is_refused(key, rows_on_disk):
    with pytest.raises(InputError, match="k-means sample at least 5, found 4"):
        spherical_kmeans(key, jnp.asarray(rows_on_disk), num_clusters=5, sample_size=4)


def test_float16_on_disk_is_float32_in_what_is_computed(rows_on_disk):
    half = np.asarray(rows_on_disk, np.float16)
    expected = fit_projection(jnp.asarray(half, jnp.float32), components=5)
    found = fit_projection(HostRows(half, 50), components=5)
    np.testing.assert_allclose(np.abs(found.axes), np.abs(expected.axes), atol=2e-4)
    mapped = apply_projection(found, HostRows(half, 50))
    assert isinstance(mapped, HostRows)
    assert np.asarray(mapped).dtype == np.float32


def test_all_lists_are_the_exact_search(key, rows_on_disk):
    placed = jnp.asarray(rows_on_disk)
    expected = image_neighbors(placed, num_neighbors=6)
    found = probe_neighbors(key, placed, num_neighbors=6, num_probes=99)
    np.testing.assert_array_equal(found.table.indices, expected.indices)
    np.testing.assert_allclose(
        found.table.similarities, expected.similarities, atol=1e-6
    )
    assert found.recall == 1.0


def test_lists_are_searched_alike_over_eight_devices(key, rows_on_disk):
    expected = probe_neighbors(key, jnp.asarray(rows_on_disk), num_neighbors=6)
    with jax.default_device(None):
        assert _on_devices(jnp.add, (True, True)) is not jnp.add
        for images in (
            shard_images(rows_on_disk, data_mesh(8), bytes_per_row=1),
            HostRows(rows_on_disk, 37, data_mesh(8)),
        ):
            found = probe_neighbors(key, images, num_neighbors=6)
            np.testing.assert_array_equal(
                np.asarray(found.table.indices), expected.table.indices
            )
            np.testing.assert_allclose(
                np.asarray(found.table.similarities),
                expected.table.similarities,
                atol=1e-6,
            )
            assert found.recall == expected.recall
    assert _on_devices(jnp.add, (True, True)) is jnp.add


def test_an_accelerator_searches_the_rows_that_it_holds(key, monkeypatch):
    rows = groups(key, 500, k=20, noise=0.3)
    expected = probe_neighbors(key, rows, num_neighbors=6, num_probes=3)
    shapes = set()
    merge = approximate._merge_placed

    def note(known, table, queries, columns, **options):
        assert table is rows
        shapes.add((len(queries), len(columns)))
        return merge(known, table, queries, columns, **options)

    # Here a CPU stands for it; benchmarks/RESULTS.md has the run on a card.
    monkeypatch.setattr(approximate, "_is_cpu", lambda: False)
    monkeypatch.setattr(approximate, "_merge_placed", note)
    found = probe_neighbors(key, rows, num_neighbors=6, num_probes=3)
    np.testing.assert_array_equal(found.table.indices, expected.table.indices)
    assert found.recall == expected.recall
    # Of few shapes: each is compiled for.
    assert len(shapes) == len({width for _, width in shapes})


@pytest.mark.parametrize("rounds", [False, True])
def test_a_hint_from_rounded_rows_changes_no_neighbour(key, monkeypatch, rounds):
    asked = []
    gate = approximate._nearest_cosine

    def note(*arrays):
        asked.append(arrays[0].dtype)
        return gate(*arrays)

    monkeypatch.setattr(approximate, "_multiplies_rounded_faster", lambda: rounds)
    monkeypatch.setattr(approximate, "_nearest_cosine", note)
    rows = jnp.asarray(groups(key, 500, k=20, noise=0.3))
    # Every list is looked into: what is missing is what the hint has hidden.
    found = probe_neighbors(key, rows, num_neighbors=6, num_probes=99)
    expected = image_neighbors(rows, num_neighbors=6)
    np.testing.assert_array_equal(found.table.indices, expected.indices)
    assert set(asked) == {jnp.dtype(jnp.bfloat16 if rounds else jnp.float32)}


def test_rounding_moves_a_cosine_by_less_than_the_slack():
    random = np.random.default_rng(0)
    # Numbers halfway between two of bfloat16, where rounding is at its worst.
    worst = (1 + 2.0**-8) * np.exp2(random.integers(-3, 3, size=(64, 64)))
    spread = random.normal(size=(64, 64)) ** 3
    for rows in (worst, spread):
        unit = np.asarray(l2_normalize(jnp.asarray(rows, jnp.float32)))
        short = np.asarray(jnp.asarray(unit, jnp.bfloat16), np.float64)
        moved = np.abs(short @ short.T - unit.astype(np.float64) @ unit.T)
        assert 0 < moved.max() < approximate._ROUNDED_BY


def test_lists_are_searched_on_the_device_that_was_chosen(key, rows_on_disk):
    used = []

    def note_devices(function, split):
        def note(*args):
            found = function(*args)
            used.append(jax.tree.leaves(found)[0].devices())
            return found

        return note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "_on_devices", note_devices)
        with jax.default_device(jax.devices()[3]):
            probe_neighbors(key, HostRows(rows_on_disk, 37), num_neighbors=6)
    assert len(used) > 14
    assert all(devices == {jax.devices()[3]} for devices in used)


def test_few_lists_find_most_neighbours_of_clustered_images(key):
    centers = l2_normalize(jax.random.normal(key, (30, 16)))
    noise = 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (900, 16))
    rows = l2_normalize(centers[jnp.arange(900) % 30] + noise)
    found = probe_neighbors(key, rows, num_neighbors=5, num_probes=3)
    exact = np.asarray(image_neighbors(rows, num_neighbors=5).indices)
    shared = [
        len(set(a) & set(b)) / 5
        for a, b in zip(exact.tolist(), found.table.indices.tolist(), strict=True)
    ]
    assert 0.8 < np.mean(shared) <= 1.0
    # Recall is measured on 256 of the 900.
    assert found.recall == pytest.approx(np.mean(shared), abs=0.05)
    names = np.asarray(found.table.indices)
    assert (names != np.arange(900)[:, None]).all()
    assert all(len(set(row)) == 5 for row in names.tolist())


def test_an_image_looks_into_the_lists_nearest_to_itself():
    # Lists A at 0 degrees and B at 90; an image of A at 40 degrees has its nearest
    # in A, and at 50 degrees, in B.
    degrees = np.array([0.0, 1.0, 2.0, 40.0, 90.0, 89.0, 88.0, 50.0])
    angles = np.deg2rad(degrees)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    centers, lists = np.eye(2, dtype=np.float32), np.arange(8) // 4
    one, two = (
        _probe(HostRows(rows, 4), centers, lists, num_neighbors=2, num_probes=probes)
        for probes in (1, 2)
    )
    assert one[1][3].tolist() == [2, 1]
    assert two[1][3].tolist() == [7, 2]
    np.testing.assert_allclose(two[0][3], np.cos(np.deg2rad([10, 38])), rtol=1e-6)
    # A list of one image: those that look into it look into the other one too.
    alone = _probe(
        HostRows(rows, 4),
        centers,
        np.array([0] + [1] * 7),
        num_neighbors=2,
        num_probes=1,
    )
    assert alone[1][1].tolist() == [2, 0]
    assert alone[1][5].tolist() == [4, 6]


def test_lists_with_too_few_rows_borrow_from_others(key):
    rows = l2_normalize(jax.random.normal(key, (20, 4)))
    found = probe_neighbors(key, rows, num_neighbors=15, num_probes=1)
    names = np.asarray(found.table.indices)
    assert all(len(set(row)) == 15 for row in names.tolist())
    assert (names >= 0).all()


def test_recall_by_hand(key):
    rows = HostRows(np.asarray(jnp.eye(4)[jnp.array([0, 0, 0, 1, 1, 1])]), 6)
    right = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])
    assert measure_recall(key, rows, right) == 1.0
    half = np.array([[1, 3], [0, 3], [0, 3], [4, 0], [3, 0], [3, 0]])
    assert measure_recall(key, rows, half) == 0.5


def test_the_budget_says_where_a_set_is(rows_on_disk):
    assert device_budget(2.0) == 2 * 2**30
    assert device_budget(0.0) > 2**20
    options = {"bytes_per_row": 2**20}
    # 203 MiB for one device, 26 MiB for each of eight.
    for budget, devices, place in [
        (203 / 1024, 1, jax.Array),
        (202 / 1024, 1, HostRows),
        (26 / 1024, 8, ShardedRows),
        (25 / 1024, 8, HostRows),
    ]:
        mesh = data_mesh(8) if devices == 8 else None
        placed = shard_images(rows_on_disk, mesh, budget_gib=budget, **options)
        assert isinstance(placed, place), (budget, devices)
        np.testing.assert_array_equal(np.asarray(placed), rows_on_disk)
