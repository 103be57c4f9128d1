"""Simpler methods on the same embeddings, to compare with. They take no labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.heads import Heads, build_heads
from mca_jax.losses import Batch, LossParts, LossWeights, Prototypes, uniform_prior
from mca_jax.losses.balance import balance_loss
from mca_jax.losses.consistency import consistency_loss
from mca_jax.losses.objective import Objective
from mca_jax.losses.semantic import semantic_loss, semantic_prototypes
from mca_jax.numerics import l2_normalize
from mca_jax.retrieval import KMeansResult, spherical_kmeans
from mca_jax.training import (
    FitResult,
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
)
from mca_jax.types import Params, PRNGKey

__all__ = ["image_text_kmeans", "raw_kmeans", "sic_labels", "text_views"]


def raw_kmeans(
    key: PRNGKey,
    embeddings: Float[np.ndarray, "n d"],
    *,
    num_clusters: int,
    num_restarts: int = 10,
) -> KMeansResult:
    """Cluster the encoder's own embeddings, without any projection.

    Args:
      key: Key of the seeding.
      embeddings: Image embeddings; their norms don't matter.
      num_clusters: ``k``, at least 2.
      num_restarts: Seedings, of which the best objective is kept.

    Returns:
      Centres, assignments and objective.
    """
    rows = l2_normalize(jnp.asarray(embeddings, jnp.float32))
    return spherical_kmeans(
        key, rows, num_clusters=num_clusters, num_restarts=num_restarts
    )


def text_views(
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
    temperature: float,
) -> Float[Array, "n d"]:
    r"""Retrieve a text for each image: the weighted mean of its nearest nouns.

    .. math:: s_i = \mathrm{normalise}\Bigl(\sum_{j \in N_T(i)}
        \mathrm{softmax}_j(\langle u_i, t_j \rangle / \tau)\, t_j\Bigr)

    Args:
      nouns: Unit vectors.
      neighbors: Rows of each image's nearest nouns.
      similarities: Cosines to them.
      temperature: ``tau`` > 0.

    Returns:
      Unit vectors.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024, Section 3.1.
    """
    weights = jax.nn.softmax(similarities / temperature, axis=-1)
    total = jnp.zeros((neighbors.shape[0], nouns.shape[1]))
    # A column at a time: all nouns of all images at once would be r times as much.
    for column in range(neighbors.shape[1]):
        total = total + weights[:, column, None] * nouns[neighbors[:, column]]
    return l2_normalize(total)


def image_text_kmeans(
    key: PRNGKey,
    images: Float[Array, "n d"],
    views: Float[Array, "n d"],
    *,
    num_clusters: int,
    num_restarts: int = 10,
) -> KMeansResult:
    """Cluster each image together with its retrieved text.

    Args:
      key: Key of the seeding.
      images: Unit vectors.
      views: From :func:`text_views`.
      num_clusters: ``k``, at least 2.
      num_restarts: Seedings, of which the best objective is kept.

    Returns:
      Centres ``[k, 2 d]``, assignments and objective.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024: its variant
      without training.
    """
    rows = l2_normalize(jnp.concatenate([images, views], axis=1))
    return spherical_kmeans(
        key, rows, num_clusters=num_clusters, num_restarts=num_restarts
    )


def _sic_objective(
    heads: Heads, *, nouns_per_cluster: int, confident_share: float, momentum: float
) -> Objective:
    """The loss of SIC: consistency, balance and labels from semantic centres."""

    def objective(
        params: Params,
        prototypes: Prototypes,
        batch: Batch,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[Float[Array, ""], tuple[LossParts, Prototypes]]:
        logits = heads.image_logits(params, batch.images)
        p = jax.nn.softmax(logits, axis=-1)
        p_near = jax.nn.softmax(heads.image_logits(params, batch.neighbors), axis=-1)
        confident = semantic_prototypes(
            p, batch.images, confident_share=confident_share
        )
        image = l2_normalize(
            momentum * prototypes.image + (1 - momentum) * l2_normalize(confident)
        )
        wanted = min(nouns_per_cluster, batch.nouns.shape[0])
        _, nearest = jax.lax.top_k(image @ batch.nouns.T, wanted)
        semantic = l2_normalize(jnp.mean(batch.nouns[nearest], axis=1))
        labels = jnp.argmax(batch.images @ semantic.T, axis=-1).astype(jnp.int32)
        consistency = consistency_loss(p, p_near)
        balance = balance_loss(jnp.mean(p, axis=0), prior)
        labelled = semantic_loss(logits, labels, jnp.ones_like(p[:, 0]))
        total = consistency + weights.balance * balance + weights.semantic * labelled
        none, one = jnp.zeros(()), jnp.ones(())
        parts = LossParts(
            total=total,
            consistency=consistency,
            balance=balance,
            instance=none,
            prototype=none,
            semantic=labelled,
            trust=one,
            labelled=one,
        )
        carried = Prototypes(image=image, text=semantic, semantic=semantic)
        return total, (parts, jax.lax.stop_gradient(carried))

    return objective


def sic_labels(
    key: PRNGKey,
    data: TrainingData,
    centers: Float[Array, "k d"],
    *,
    initial_scale: float = 20.0,
    label_weight: float = 0.1,
    balance_weight: float = 5.0,
    nouns_per_cluster: int = 30,
    confident_share: float = 0.9,
    num_epochs: int = 30,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
) -> FitResult:
    r"""Train one head on pseudo-labels from semantic centres, in the manner of SIC.

    .. math:: L = -\mathrm{mean}_i \log\langle p_i, p_{i'} \rangle
        - 5\,H(\mathrm{mean}_i\,p_i)
        + 0.1\,\mathrm{CE}\bigl(p_i, \arg\max_c \langle u_i, h_c \rangle\bigr)

    with :math:`h_c` the mean of the nouns nearest to the confident images of
    cluster ``c``. Loss, weights and counts are SIC's; the head, its start at the
    k-means centres, the optimiser and the passes are this project's, so that only
    the use of the texts differs.

    Args:
      key: Root key of training.
      data: Embeddings and neighbour tables, on one device.
      centers: k-means centres, unit vectors.
      initial_scale: Starting inverse temperature of the assignments, > 0.
      label_weight: Weight of the pseudo-labels, at least 0.
      balance_weight: Weight of the balance of clusters, at least 0.
      nouns_per_cluster: Nouns that form a semantic centre, at least 1.
      confident_share: Share of a batch that counts as confident, in (0, 1].
      num_epochs: Most passes over the set, at least 1.
      batch_size: Images a step, cut to the set for small sets.
      learning_rate: Adam's step size at the start, > 0.

    Returns:
      Weights, clusters of all images, history and status.

    References:
      Cai et al., Semantic-Enhanced Image Clustering, AAAI 2023.
    """
    num_images, num_clusters = data.images.shape[0], centers.shape[0]
    batch_size = min(batch_size, num_images)
    heads = build_heads(num_clusters=num_clusters, initial_scale=initial_scale)
    objective = _sic_objective(
        heads,
        nouns_per_cluster=nouns_per_cluster,
        confident_share=confident_share,
        momentum=0.9,
    )
    optimizer = build_optimizer(
        learning_rate=learning_rate,
        total_steps=num_epochs * (num_images // batch_size),
    )
    return fit(
        key,
        build_trainer(heads, objective, optimizer, batch_size=batch_size),
        data,
        centers,
        weights=LossWeights(0.0, 0.0, label_weight, balance_weight),
        prior=uniform_prior(num_clusters),
        num_epochs=num_epochs,
    )
