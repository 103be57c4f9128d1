"""All keys of a run: no stream of numbers is another's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.core.random import RunKeys, make_keys, named_key
from mca_jax.pipeline.baselines import BASELINES

# Restarts of k-means, repeats of an estimate, epochs and steps are this many at most.
CHILDREN = 2000


def bits(keys):
    return np.asarray(jax.random.key_data(keys)).reshape(-1, 2)


def test_the_children_of_a_split_are_folds():
    # Why small numbers can't tell streams apart: restart i is fold i.
    key = jax.random.key(3)
    folds = [jax.random.fold_in(key, index) for index in range(4)]
    np.testing.assert_array_equal(
        bits(jax.random.split(key, 4)), bits(jnp.stack(folds))
    )


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_all_streams_of_a_run_differ(seed):
    root = jax.random.key(seed)
    keys = make_keys(root)
    named = [root, *keys, named_key(keys.training, "weights")]
    named += [named_key(keys.baselines, name) for name in BASELINES]
    # Restart or step i of each, and what those are split into.
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    children = jnp.stack([fold(key, jnp.arange(CHILDREN)) for key in named])
    grandchildren = jax.vmap(lambda key: jax.random.split(key, 4))(children.reshape(-1))
    every = np.concatenate(
        [bits(jnp.stack(named)), bits(children), bits(grandchildren)]
    )
    assert len(np.unique(every, axis=0)) == len(every)
    assert len(every) == len(named) * (1 + CHILDREN * 5)


def test_a_key_depends_on_its_root_and_its_name_alone():
    one, other = make_keys(jax.random.key(0)), make_keys(jax.random.key(1))
    assert not (bits(jnp.stack(one)) == bits(jnp.stack(other))).all(axis=1).any()
    assert bool(one.kmeans == named_key(jax.random.key(0), "kmeans"))
    assert RunKeys._fields == tuple(dict.fromkeys(RunKeys._fields))
