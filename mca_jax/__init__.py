"""Clusters unlabelled images into named groups.

Multi-level Cross-modal Alignment (Qiu et al., AAAI 2024) in JAX.
"""

from importlib.metadata import version

from mca_jax.checks import InputError
from mca_jax.clustering import cluster, score_result
from mca_jax.config import Config, apply_overrides
from mca_jax.model import ClusterModel, Prediction
from mca_jax.outputs import write_outputs
from mca_jax.prediction import Predictor, load
from mca_jax.refine import (
    load_result,
    merge_clusters,
    rename_cluster,
    rerun,
    save_version,
    split_cluster,
)
from mca_jax.result import ClusterResult

__all__ = [
    "ClusterModel",
    "ClusterResult",
    "Config",
    "InputError",
    "Prediction",
    "Predictor",
    "apply_overrides",
    "cluster",
    "load",
    "load_result",
    "merge_clusters",
    "rename_cluster",
    "rerun",
    "save_version",
    "score_result",
    "split_cluster",
    "write_outputs",
]

__version__ = version("mca-jax")
