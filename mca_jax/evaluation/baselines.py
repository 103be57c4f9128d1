"""Simpler methods on the same embeddings, to compare with. They take no labels."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

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
from mca_jax.parallel import (
    DATA_AXIS,
    HostRows,
    Rows,
    ShardedRows,
    Table,
    mesh_of,
    over_devices,
    place_rows,
    replicate,
)
from mca_jax.parallel.collectives import counted_rows, mean_rows
from mca_jax.retrieval.streamed import map_blocks
from mca_jax.training import (
    Checkpointer,
    FitResult,
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
)
from mca_jax.training.loop import EpochHook
from mca_jax.types import Params, PRNGKey

__all__ = ["image_text_rows", "sic_labels", "text_views", "unit_rows"]

_BLOCK = 65536
# What float16 leaves of a unit norm.
_NORM_TOLERANCE = 1e-2


def _norms_are_one(rows: HostRows) -> bool:
    """Whether a table on the host has unit rows already, read block by block."""
    for start in range(0, rows.shape[0], _BLOCK):
        block = np.asarray(rows.array[start : start + _BLOCK], np.float32)
        if np.abs(np.linalg.norm(block, axis=1) - 1).max() > _NORM_TOLERANCE:
            return False
    return True


def unit_rows(rows: Float[Array, "n d"] | Rows) -> Float[Array, "n d"] | Rows:
    """Scale embeddings to unit norm, without any projection.

    Args:
      rows: Embeddings of the images as an encoder gives them.

    Returns:
      Unit vectors, where the rows are. A table on the host that has unit rows
      already is taken as it is, since a copy may not fit.
    """
    if isinstance(rows, ShardedRows):
        # Zeros that fill up stay zeros.
        scale = over_devices(l2_normalize, rows.mesh, split=(True,), split_out=True)
        return ShardedRows(scale(rows.array), rows.count, rows.mesh)
    if not isinstance(rows, HostRows):
        return l2_normalize(rows)
    if _norms_are_one(rows):
        return rows
    return map_blocks(l2_normalize, rows)


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


def _beside_texts(
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"],
    similarities: Float[Array, "n r"],
    *,
    temperature: float,
    axis_name: str | None = None,
    count: int | None = None,
) -> Float[Array, "n e"]:
    views = text_views(nouns, neighbors, similarities, temperature=temperature)
    rows = l2_normalize(jnp.concatenate([images, views], axis=1))
    # What fills up the last devices takes part in no sum.
    counted = counted_rows(rows.shape[0], axis_name, count)
    return jnp.where(counted[:, None], rows, 0.0)


def image_text_rows(
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    neighbors: Int[Array, "n r"] | Table,
    similarities: Float[Array, "n r"] | Table,
    *,
    temperature: float,
) -> Float[Array, "n e"] | Rows:
    """Put each image's retrieved text beside it.

    Args:
      images: Unit vectors, on one device, over several or on the host.
      nouns: Unit vectors.
      neighbors: Rows of each image's nearest nouns.
      similarities: Cosines to them.
      temperature: That of :func:`text_views`.

    Returns:
      Unit vectors ``[n, 2 d]`` where the images are; k-means of them is TAC
      without training.

    References:
      Li et al., Image Clustering with External Guidance, ICML 2024: its variant
      without training.
    """
    join = partial(_beside_texts, temperature=temperature)
    if isinstance(images, ShardedRows):
        function = over_devices(
            partial(join, axis_name=DATA_AXIS, count=images.count),
            images.mesh,
            split=(True, False, True, True),
            split_out=True,
        )
        near = (place_rows(x, images.mesh).array for x in (neighbors, similarities))
        rows = function(images.array, replicate(nouns, images.mesh), *near)
        return ShardedRows(rows, images.count, images.mesh)
    if not isinstance(images, HostRows):
        return join(images, nouns, jnp.asarray(neighbors), jnp.asarray(similarities))
    near_host, cosines = np.asarray(neighbors), np.asarray(similarities)
    nouns = jnp.asarray(np.asarray(nouns))
    shape = (images.shape[0], 2 * images.shape[1])
    with tempfile.TemporaryFile() as file:
        joined = np.memmap(file, np.float32, mode="w+", shape=shape)
    for start in range(0, images.shape[0], images.block_size):
        block = slice(start, start + images.block_size)
        own = jnp.asarray(np.asarray(images.array[block], np.float32))
        joined[block] = join(
            own, nouns, jnp.asarray(near_host[block]), jnp.asarray(cosines[block])
        )
    return HostRows(joined, images.block_size, images.mesh)


def _sic_objective(
    heads: Heads,
    *,
    nouns_per_cluster: int,
    confident_share: float,
    momentum: float,
    **whole: Any,
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
            p, batch.images, confident_share=confident_share, **whole
        )
        image = l2_normalize(
            momentum * prototypes.image + (1 - momentum) * l2_normalize(confident)
        )
        wanted = min(nouns_per_cluster, batch.nouns.shape[0])
        _, nearest = jax.lax.top_k(image @ batch.nouns.T, wanted)
        semantic = l2_normalize(jnp.mean(batch.nouns[nearest], axis=1))
        labels = jnp.argmax(batch.images @ semantic.T, axis=-1).astype(jnp.int32)
        consistency = consistency_loss(p, p_near, **whole)
        balance = balance_loss(mean_rows(p, **whole), prior)
        labelled = semantic_loss(logits, labels, jnp.ones_like(p[:, 0]), **whole)
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
    on_epoch: EpochHook | None = None,
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
    mesh = mesh_of(data.images)
    heads = build_heads(num_clusters=num_clusters, initial_scale=initial_scale)
    objective = _sic_objective(
        heads,
        nouns_per_cluster=nouns_per_cluster,
        confident_share=confident_share,
        momentum=0.9,
        axis_name=None if mesh is None else DATA_AXIS,
        batch_size=None if mesh is None else batch_size,
    )
    optimizer = build_optimizer(
        learning_rate=learning_rate,
        total_steps=num_epochs * (num_images // batch_size),
    )
    return fit(
        key,
        build_trainer(heads, objective, optimizer, batch_size=batch_size, mesh=mesh),
        data,
        centers,
        weights=LossWeights(0.0, 0.0, label_weight, balance_weight),
        prior=uniform_prior(num_clusters),
        num_epochs=num_epochs,
        on_epoch=on_epoch,
        checkpointer=checkpointer,
    )
