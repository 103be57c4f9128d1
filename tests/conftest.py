"""Strict settings for every test, and the fixtures that all share."""

import os

# Before jax starts: more virtual devices than cores deadlock otherwise, since
# XLA's CPU thread pool is sized by the number of cores.
os.environ.setdefault("PJRT_NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key() -> jax.Array:
    """A key that is the same in every run; MCA_TEST_SEED pins another."""
    return jax.random.key(int(os.environ.get("MCA_TEST_SEED", "0")))
