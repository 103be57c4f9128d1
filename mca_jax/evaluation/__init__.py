"""How good a clustering is: against labels, and without them."""

from mca_jax.evaluation.metrics import (
    Scores,
    adjusted_rand_index,
    clustering_accuracy,
    contingency_table,
    expected_calibration_error,
    normalized_mutual_information,
    score_clustering,
)
from mca_jax.evaluation.names import (
    NameScores,
    is_related,
    rows_of_label,
    score_names,
    wu_palmer,
)
from mca_jax.evaluation.risk import (
    Risk,
    cluster_size_entropy,
    measure_clusters,
    measure_risk,
    neighborhood_consistency,
    neighborhood_imbalance,
    prediction_confidence,
)

__all__ = [
    "NameScores",
    "Risk",
    "Scores",
    "adjusted_rand_index",
    "cluster_size_entropy",
    "clustering_accuracy",
    "contingency_table",
    "expected_calibration_error",
    "is_related",
    "measure_clusters",
    "measure_risk",
    "neighborhood_consistency",
    "neighborhood_imbalance",
    "normalized_mutual_information",
    "prediction_confidence",
    "rows_of_label",
    "score_clustering",
    "score_names",
    "wu_palmer",
]
