"""Simpler methods on the same embeddings, to compare with. They take no labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.alignment import Heads, build_heads
from mca_jax.alignment.losses import (
    Batch,
    LossParts,
    LossWeights,
    Objective,
    Prototypes,
    consistency_loss,
    entropy_balance_loss,
    semantic_loss,
    semantic_prototypes,
    uniform_prior,
)
from mca_jax.alignment.losses.objective import running_prototypes
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel import mesh_of
from mca_jax.core.types import Params, PRNGKey
from mca_jax.training import (
    Checkpointer,
    FitResult,
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
)
from mca_jax.training.epochs import steps_per_epoch
from mca_jax.training.loop import EpochCallback

__all__ = ["sic_labels"]


def _sic_objective(
    heads: Heads, *, nouns_per_cluster: int, confident_share: float, momentum: float
) -> Objective:
    """The loss of SIC: consistency, balance and labels from semantic centres."""

    def forward(params: Params, batch: Batch) -> tuple[Array, Array]:
        return (
            heads.image_logits(params, batch.images),
            heads.image_logits(params, batch.neighbors),
        )

    def loss(
        outputs: tuple[Array, Array],
        batch: Batch,
        prototypes: Prototypes,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[Float[Array, ""], tuple[LossParts, Prototypes]]:
        p, p_near = (jax.nn.softmax(logits, axis=-1) for logits in outputs)
        confident = semantic_prototypes(
            p, batch.images, confident_share=confident_share
        )
        image = running_prototypes(prototypes.image, confident, momentum)
        wanted = min(nouns_per_cluster, batch.nouns.shape[0])
        _, nearest = jax.lax.top_k(image @ batch.nouns.T, wanted)
        semantic = l2_normalize(jnp.mean(batch.nouns[nearest], axis=1))
        labels = jnp.argmax(batch.images @ semantic.T, axis=-1).astype(jnp.int32)
        consistency = consistency_loss(p, p_near)
        balance = entropy_balance_loss(p, prior)
        labelled = semantic_loss(outputs[0], labels, jnp.ones_like(p[:, 0]))
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

    return Objective(forward, loss)


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
    max_steps: int | None = None,
    learning_rate: float = 1e-3,
    on_epoch: EpochCallback | None = None,
    checkpointer: Checkpointer | None = None,
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
      data: Embeddings and neighbour tables.
      centers: k-means centres, unit vectors.
      initial_scale: Starting inverse temperature of the assignments, > 0.
      label_weight: Weight of the pseudo-labels, at least 0.
      balance_weight: Weight of the balance of clusters, at least 0.
      nouns_per_cluster: Nouns that form a semantic centre, at least 1.
      confident_share: Share of a batch that counts as confident, in (0, 1].
      num_epochs: Most passes over the set, at least 1.
      batch_size: Images a step, cut to the set for small sets.
      max_steps: Most steps of an epoch; None for a whole pass.
      learning_rate: Adam's step size at the start, > 0.
      on_epoch: Called with each pass's row of the history.
      checkpointer: As for ``fit``.

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
        total_steps=num_epochs * steps_per_epoch(num_images, batch_size, max_steps),
    )
    return fit(
        key,
        build_trainer(
            heads,
            objective,
            optimizer,
            batch_size=batch_size,
            max_steps=max_steps,
            mesh=mesh_of(data.images),
        ),
        data,
        centers,
        weights=LossWeights(0.0, 0.0, label_weight, balance_weight),
        prior=uniform_prior(num_clusters),
        num_epochs=num_epochs,
        on_epoch=on_epoch,
        checkpointer=checkpointer,
    )
