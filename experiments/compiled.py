"""Keeps what XLA compiles for later runs: most of the time of a small one."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from mca_jax.encoders.embed_nouns import noun_cache_dir

__all__ = ["keep_compiled"]

_MOST_BYTES = 2**30
_LEAST_SECONDS = 0.3


def _processor() -> str:
    """Tell processors apart for which code differs; a home folder may be shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags"))][:2]
    text = "\n".join([platform.machine(), platform.processor(), *told])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep_compiled() -> None:
    """Let this process use and fill the user's folder of compiled functions.

    The folder is ``compiled-*`` in that of the noun embeddings and is held below a
    GiB. One that is chosen through jax's own settings stands, and so does their
    switch that turns it off.
    """
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        return
    folder = os.path.join(noun_cache_dir(), f"compiled-{_processor()}")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
