"""The weighted sum of all levels, and the prototypes that it carries along."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, TypeAlias, TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.alignment.losses.consistency import consistency_loss
from mca_jax.alignment.losses.entropy_balance import balance_loss
from mca_jax.alignment.losses.instance import instance_loss
from mca_jax.alignment.losses.prototype import (
    assignment_prototype_loss,
    embedding_prototype_loss,
)
from mca_jax.alignment.losses.semantic import (
    pseudo_labels,
    semantic_loss,
    semantic_prototypes,
)
from mca_jax.core.numerics import l2_normalize
from mca_jax.core.parallel.collectives import global_sum, mean_rows, valid_rows
from mca_jax.core.types import Params

__all__ = [
    "Batch",
    "LossParts",
    "LossWeights",
    "Objective",
    "PrototypeReading",
    "Prototypes",
    "build_objective",
    "init_prototypes",
]

PrototypeReading: TypeAlias = Literal["assignments", "embeddings"]


class Batch(NamedTuple):
    """Anchors, one neighbour of each, and the nouns of both.

    Attributes:
      images: Embeddings of the anchors, unit vectors ``[b, d]``.
      neighbors: Embeddings of their neighbours, ``[b, d]``.
      nouns: Embeddings of all nouns that any image has, ``[m, d]``.
      rows: Rows of the anchors' nouns, ``[b, r]``.
      similarities: Cosines of anchors and nouns, ``[b, r]``.
      neighbor_rows: Rows of the neighbours' nouns, ``[b, r]``.
      neighbor_similarities: Their cosines, ``[b, r]``.
    """

    images: Float[Array, "b d"]
    neighbors: Float[Array, "b d"]
    nouns: Float[Array, "m d"]
    rows: Int[Array, "b r"]
    similarities: Float[Array, "b r"]
    neighbor_rows: Int[Array, "b r"]
    neighbor_similarities: Float[Array, "b r"]


class LossWeights(NamedTuple):
    """Weight of each part; 0 switches it off. Consistency has weight 1.

    Attributes:
      instance: ``lambda_i``.
      prototype: ``lambda_p``.
      semantic: ``lambda_s``.
      balance: ``lambda_e``, for images and texts alike.
    """

    instance: float | Float[Array, ""] = 1.0
    prototype: float | Float[Array, ""] = 1.0
    semantic: float | Float[Array, ""] = 1.0
    balance: float | Float[Array, ""] = 5.0


class LossParts(NamedTuple):
    """The parts of the loss before weighting, to be shown.

    Attributes:
      total: The weighted sum.
      consistency: ``L_con``.
      balance: ``L_ent`` of the images plus that of the texts.
      instance: ``L_inst``.
      prototype: ``L_proto``.
      semantic: ``L_sem``.
      trust: Mean ``1 - a_null``, in [0, 1].
      labelled: Share of the batch with a used pseudo-label, in [0, 1].
    """

    total: Float[Array, ""]
    consistency: Float[Array, ""]
    balance: Float[Array, ""]
    instance: Float[Array, ""]
    prototype: Float[Array, ""]
    semantic: Float[Array, ""]
    trust: Float[Array, ""]
    labelled: Float[Array, ""]


class Prototypes(NamedTuple):
    """Running means of the clusters, carried from step to step.

    Attributes:
      image: Image prototypes ``mu``, unit vectors ``[k, d]``.
      text: Text prototypes ``nu``, unit vectors ``[k, d]``.
      semantic: Semantic prototypes ``h`` (confident images only), ``[k, d]``.
    """

    image: Float[Array, "k d"]
    text: Float[Array, "k d"]
    semantic: Float[Array, "k d"]


Objective: TypeAlias = Callable[
    [Params, Prototypes, Batch, LossWeights, Float[Array, " k"]],
    tuple[Float[Array, ""], tuple[LossParts, Prototypes]],
]
"""``(params, prototypes, batch, weights, prior)`` to loss and what it leaves."""


class _Whole(TypedDict):
    """How the rows of a device are part of the whole batch."""

    axis_name: str | None
    batch_size: int | None


class _TextSide(NamedTuple):
    """What the nouns say of a batch of images.

    Attributes:
      assignments: ``q_hat``, attention-weighted assignment of the nouns.
      views: ``s_hat``, attention-weighted mean noun, unit vectors.
      trust: ``1 - a_null``.
    """

    assignments: Float[Array, "b k"]
    views: Float[Array, "b d"]
    trust: Float[Array, " b"]


def init_prototypes(centers: Float[Array, "k d"]) -> Prototypes:
    """Start all running prototypes at the k-means centres.

    Args:
      centers: Unit vectors.

    Returns:
      Prototypes before the first step.
    """
    return Prototypes(centers, centers, centers)


def _read_nouns(
    heads: Heads,
    params: Params,
    images: Float[Array, "b d"],
    nouns: Float[Array, "b r d"],
    noun_assignments: Float[Array, "b r k"],
    similarities: Float[Array, "b r"],
) -> _TextSide:
    attended = heads.attend(params, images, nouns, similarities)
    assignments = jnp.einsum("br,brk->bk", attended.weights, noun_assignments)
    views = l2_normalize(jnp.einsum("br,brd->bd", attended.weights, nouns))
    return _TextSide(assignments, views, attended.trust)


def _both_text_sides(
    heads: Heads, params: Params, batch: Batch
) -> tuple[_TextSide, _TextSide]:
    """Read the nouns of anchors and neighbours."""
    own, near = batch.nouns[batch.rows], batch.nouns[batch.neighbor_rows]
    if batch.nouns.shape[0] <= 2 * batch.rows.size:
        # Fewer nouns than places in the batch: assign each noun once.
        table = jax.nn.softmax(heads.text_logits(params, batch.nouns), axis=-1)
        own_q, near_q = table[batch.rows], table[batch.neighbor_rows]
    else:
        own_q = jax.nn.softmax(heads.text_logits(params, own), axis=-1)
        near_q = jax.nn.softmax(heads.text_logits(params, near), axis=-1)
    return (
        _read_nouns(heads, params, batch.images, own, own_q, batch.similarities),
        _read_nouns(
            heads, params, batch.neighbors, near, near_q, batch.neighbor_similarities
        ),
    )


def _running(
    old: Float[Array, "k d"], batch_sum: Float[Array, "k d"], momentum: float
) -> Float[Array, "k d"]:
    return l2_normalize(momentum * old + (1.0 - momentum) * l2_normalize(batch_sum))


def _carry_prototypes(
    prototypes: Prototypes,
    p: Float[Array, "b k"],
    images: Float[Array, "b d"],
    text: _TextSide,
    *,
    momentum: float,
    confident_share: float,
    axis_name: str | None,
    batch_size: int | None,
) -> Prototypes:
    """Move the running prototypes towards those of the batch."""
    confident = semantic_prototypes(
        text.assignments,
        text.views,
        confident_share=confident_share,
        axis_name=axis_name,
        batch_size=batch_size,
    )
    q = text.assignments
    if batch_size is not None:
        valid = valid_rows(p.shape[0], axis_name, batch_size)[:, None]
        p, q = jnp.where(valid, p, 0.0), jnp.where(valid, q, 0.0)
    image, views = (
        global_sum(sums, axis_name) for sums in (p.T @ images, q.T @ text.views)
    )
    return Prototypes(
        image=_running(prototypes.image, image, momentum),
        text=_running(prototypes.text, views, momentum),
        semantic=_running(prototypes.semantic, confident, momentum),
    )


def _weighted_sum(parts: LossParts, weights: LossWeights) -> Float[Array, ""]:
    return (
        parts.consistency
        + weights.instance * parts.instance
        + weights.prototype * parts.prototype
        + weights.semantic * parts.semantic
        + weights.balance * parts.balance
    )


def build_objective(
    heads: Heads,
    *,
    prototype_reading: PrototypeReading = "assignments",
    prototype_temperature: float = 0.5,
    prototype_momentum: float = 0.9,
    confident_share: float = 0.9,
    label_temperature: float = 0.1,
    min_confidence: float = 0.5,
    axis_name: str | None = None,
    batch_size: int | None = None,
) -> Objective:
    r"""Build the loss over a batch.

    .. math::
      L = L_{con} + \lambda_i L_{inst} + \lambda_p L_{proto}
        + \lambda_s L_{sem} + \lambda_e L_{ent}

    Args:
      heads: The three networks.
      prototype_reading: ``"assignments"`` contrasts columns of the assignment
        matrices, ``"embeddings"`` contrasts mean embeddings.
      prototype_temperature: ``tau_p`` > 0.
      prototype_momentum: Share of the old running prototype that a step keeps,
        in [0, 1).
      confident_share: Share of the batch that forms the semantic prototypes.
      label_temperature: Of the pseudo-labels' confidence, > 0.
      min_confidence: Confidence from which a pseudo-label is used, in [0, 1).
      axis_name: Axis of the devices that share the batch; None for one device.
        The loss is that of the whole batch on each device, and the mean over
        devices of its gradients is the gradient.
      batch_size: Images of the whole batch, where other rows fill the last
        devices up; None counts every row.

    Returns:
      A pure function. Weights and prior are traced arguments, so that another
      weighting, an ablation for example, compiles nothing anew.
    """
    whole = _Whole(axis_name=axis_name, batch_size=batch_size)
    carry = partial(
        _carry_prototypes,
        momentum=prototype_momentum,
        confident_share=confident_share,
        **whole,
    )
    label = partial(
        pseudo_labels, temperature=label_temperature, min_confidence=min_confidence
    )
    columns_loss = partial(
        assignment_prototype_loss, temperature=prototype_temperature, **whole
    )

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
        text, near = _both_text_sides(heads, params, batch)
        # Trust scales a loss that is positive: with a gradient through it the
        # null noun would simply win everywhere.
        trust = jax.lax.stop_gradient(text.trust)

        carried = carry(prototypes, p, batch.images, text)
        if prototype_reading == "assignments":
            prototype = columns_loss(p, text.assignments, p_near, near.assignments)
        else:
            prototype = embedding_prototype_loss(
                carried.image, carried.text, temperature=prototype_temperature
            )
        labels, labelled = label(batch.images, text.views, carried.semantic)
        parts = LossParts(
            total=jnp.zeros(()),
            consistency=consistency_loss(p, p_near, **whole),
            balance=balance_loss(mean_rows(p, **whole), prior)
            + balance_loss(mean_rows(text.assignments, **whole), prior),
            instance=instance_loss(p, text.assignments, trust, **whole),
            prototype=prototype,
            semantic=semantic_loss(logits, labels, labelled * trust, **whole),
            trust=mean_rows(text.trust, **whole),
            labelled=mean_rows(labelled, **whole),
        )
        total = _weighted_sum(parts, weights)
        carried = jax.lax.stop_gradient(carried)
        return total, (parts._replace(total=total), carried)

    return objective
