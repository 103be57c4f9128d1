"""Clusters unlabelled images into named groups.

Multi-level Cross-modal Alignment (Qiu et al., AAAI 2024) in JAX.
"""

from importlib.metadata import version

from mca_jax.checks import InputError
from mca_jax.clustering import cluster, score_result
from mca_jax.config import Config, apply_overrides
from mca_jax.outputs import write_outputs
from mca_jax.result import ClusterResult

__all__ = [
    "ClusterResult",
    "Config",
    "InputError",
    "apply_overrides",
    "cluster",
    "score_result",
    "write_outputs",
]

__version__ = version("mca-jax")
