"""The default settings, to copy and change.

Command: mca-jax cluster --config=experiments/configs/default.py
  --images=DIR --num_clusters=K --workdir=OUT
Hardware: any; two CPU cores are enough for some ten thousand images.
Expected: benchmarks/RESULTS.md.
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    return Config()
