"""How good a clustering is: against labels, and without them."""

from mca_jax.alignment.forward import (
    Predictions,
    assign_clusters,
    forward_pass,
    noun_evidence,
)
from mca_jax.evaluation.metrics import (
    Scores,
    adjusted_rand_index,
    clustering_accuracy,
    contingency_table,
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
    cluster_sizes,
    count_empty_clusters,
    measure_risk,
    measure_stored_risk,
    neighborhood_consistency,
    neighborhood_imbalance,
    prediction_confidence,
)

__all__ = [
    "NameScores",
    "Predictions",
    "Risk",
    "Scores",
    "adjusted_rand_index",
    "assign_clusters",
    "cluster_size_entropy",
    "cluster_sizes",
    "clustering_accuracy",
    "contingency_table",
    "count_empty_clusters",
    "is_related",
    "measure_risk",
    "measure_stored_risk",
    "neighborhood_consistency",
    "neighborhood_imbalance",
    "normalized_mutual_information",
    "noun_evidence",
    "prediction_confidence",
    "forward_pass",
    "rows_of_label",
    "score_clustering",
    "score_names",
    "wu_palmer",
]
