"""Strict settings for every test, and the fixtures that all share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# A job in the background of a shell is started without it, and so would be all that
# the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before jax starts: more virtual devices than cores deadlock otherwise, since
# XLA's CPU thread pool is sized by the number of cores.
os.environ.setdefault("PJRT_NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

# Embeddings of nouns are kept in the home folder otherwise.
_KEPT = tempfile.TemporaryDirectory(prefix="mca_jax-tests-")
os.environ["MCA_JAX_CACHE"] = f"{_KEPT.name}/nouns"
# Workers and commands share what they compile, through the environment of the first
# process; with a size it is under a lock.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{_KEPT.name}/compiled")
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**30)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_compilation_cache_max_size", 2**30)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

jax.config.update("jax_num_cpu_devices", 8)
# Runs take one device unless a test says otherwise.
jax.config.update("jax_default_device", jax.devices()[0])
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each compiled function maps pieces of memory, of which Linux lets a process have
# 65,530: a worker that has compiled thousands can compile no more.
_MOST_MAPS = 20_000


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_functions() -> Iterator[None]:
    """Forget what was compiled once it is very much; the files of it stay."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    """A key that is the same in every run; MCA_TEST_SEED pins another."""
    return jax.random.key(int(os.environ.get("MCA_TEST_SEED", "0")))
