"""Clusters unlabelled images into named groups.

Multi-level Cross-modal Alignment (Qiu et al., AAAI 2024) in JAX.
"""

from importlib.metadata import version

from mca_jax.core.errors import InputError
from mca_jax.evaluation.runs import score_result
from mca_jax.model.cluster_model import ClusterModel, Prediction
from mca_jax.model.predict import Predictor, load
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.edit.edits import (
    load_result,
    merge_clusters,
    rename_cluster,
    rerun,
    save_version,
    split_cluster,
)
from mca_jax.report.write import write_outputs

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
