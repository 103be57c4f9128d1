"""Clusters unlabelled images into named groups.

Multi-level Cross-modal Alignment (Qiu et al., AAAI 2024) in JAX. The packages in the
order of the data; each imports itself and those before it:

- ``core``: types, errors, numerics, files, devices and hosts
- ``data``: files and pixels to decoded batches; named data sets
- ``encoders``: images and nouns to unit vectors
- ``semantics``: nouns to a semantic space, and to names
- ``neighbors``: the set as points: projection, neighbours, k-means, number of clusters
- ``alignment``: the paper's networks and losses
- ``training``: initialization, steps, convergence, checkpoints
- ``model``: what is left after training, and new images
- ``evaluation``: metrics, risk, baselines, comparison
- ``report``: the page and all other files of a run
- ``pipeline``: settings, the whole job, edits, the command and the estimator
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mca_jax.core.errors import InputError
    from mca_jax.evaluation.runs import score_result
    from mca_jax.model.cluster_model import ClusterModel, Prediction
    from mca_jax.model.constraints import Constraints
    from mca_jax.model.predict import Predictor, load
    from mca_jax.model.questions import Question
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
    from mca_jax.pipeline.estimator import MCA
    from mca_jax.pipeline.teach import Learned, learn, questions
    from mca_jax.report.write import write_outputs

    __version__: str

__all__ = [
    "ClusterModel",
    "ClusterResult",
    "Config",
    "Constraints",
    "InputError",
    "Learned",
    "MCA",
    "Prediction",
    "Predictor",
    "Question",
    "apply_overrides",
    "cluster",
    "learn",
    "load",
    "load_result",
    "merge_clusters",
    "questions",
    "rename_cluster",
    "rerun",
    "save_version",
    "score_result",
    "split_cluster",
    "write_outputs",
]

# Imported when they are first asked for: the command's help and code that needs one
# function don't wait for jax and all the rest.
_HOMES = {
    "ClusterModel": "mca_jax.model.cluster_model",
    "ClusterResult": "mca_jax.model.result",
    "Config": "mca_jax.pipeline.config",
    "Constraints": "mca_jax.model.constraints",
    "InputError": "mca_jax.core.errors",
    "Learned": "mca_jax.pipeline.teach",
    "MCA": "mca_jax.pipeline.estimator",
    "Prediction": "mca_jax.model.cluster_model",
    "Predictor": "mca_jax.model.predict",
    "Question": "mca_jax.model.questions",
    "apply_overrides": "mca_jax.pipeline.config",
    "cluster": "mca_jax.pipeline.cluster",
    "learn": "mca_jax.pipeline.teach",
    "load": "mca_jax.model.predict",
    "load_result": "mca_jax.pipeline.edit.edits",
    "merge_clusters": "mca_jax.pipeline.edit.edits",
    "questions": "mca_jax.pipeline.teach",
    "rename_cluster": "mca_jax.pipeline.edit.edits",
    "rerun": "mca_jax.pipeline.edit.edits",
    "save_version": "mca_jax.pipeline.edit.edits",
    "score_result": "mca_jax.evaluation.runs",
    "split_cluster": "mca_jax.pipeline.edit.edits",
    "write_outputs": "mca_jax.report.write",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value = version("mca-jax")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
