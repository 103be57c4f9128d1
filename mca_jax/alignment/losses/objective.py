"""The weighted sum of all levels, and the prototypes that it carries along."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mca_jax.alignment.forward import Batch, BatchOutputs, forward_batch
from mca_jax.alignment.heads import Heads
from mca_jax.alignment.losses.consistency import consistency_loss
from mca_jax.alignment.losses.entropy_balance import entropy_balance_loss
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
from mca_jax.core.types import Params

__all__ = [
    "LossParts",
    "LossWeights",
    "Objective",
    "PrototypeReading",
    "Prototypes",
    "build_objective",
    "init_prototypes",
    "running_prototypes",
]

PrototypeReading: TypeAlias = Literal["assignments", "embeddings"]


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


class Objective(NamedTuple):
    """A loss in two halves; called with weights of the networks, it is the loss.

    Attributes:
      forward: ``(params, batch)`` to a tree of arrays ``[b, ...]``. Each row of them
        depends on the same row of the batch alone, so that several devices can
        compute it, each for its share.
      loss: ``(outputs, batch, prototypes, weights, prior)`` to the loss of the whole
        batch and ``(parts, prototypes)`` that it leaves.
    """

    forward: Callable[[Params, Batch], Any]
    loss: Callable[
        [Any, Batch, Prototypes, LossWeights, Float[Array, " k"]],
        tuple[Float[Array, ""], tuple[LossParts, Prototypes]],
    ]

    def __call__(
        self,
        params: Params,
        prototypes: Prototypes,
        batch: Batch,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[Float[Array, ""], tuple[LossParts, Prototypes]]:
        """Compute the loss of a batch under some weights of the networks."""
        outputs = self.forward(params, batch)
        return self.loss(outputs, batch, prototypes, weights, prior)


def init_prototypes(centers: Float[Array, "k d"]) -> Prototypes:
    """Initialize all running prototypes with the k-means centres, unit vectors."""
    return Prototypes(centers, centers, centers)


def running_prototypes(
    old: Float[Array, "k d"], batch_sum: Float[Array, "k d"], momentum: float
) -> Float[Array, "k d"]:
    """Move running prototypes towards the directions of sums over a batch."""
    return l2_normalize(momentum * old + (1.0 - momentum) * l2_normalize(batch_sum))


def build_objective(
    heads: Heads,
    *,
    prototype_reading: PrototypeReading = "assignments",
    prototype_temperature: float = 0.5,
    prototype_momentum: float = 0.9,
    confident_share: float = 0.9,
    label_temperature: float = 0.1,
    min_confidence: float = 0.5,
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

    Returns:
      Pure functions. Weights and prior are traced arguments, so that another
      weighting, an ablation for example, compiles nothing anew.
    """

    def loss(
        outputs: BatchOutputs,
        batch: Batch,
        prototypes: Prototypes,
        weights: LossWeights,
        prior: Float[Array, " k"],
    ) -> tuple[Float[Array, ""], tuple[LossParts, Prototypes]]:
        logits, q = outputs.logits, outputs.text_assignments
        features = outputs.text_features
        p, p_near = (
            jax.nn.softmax(x, axis=-1) for x in (logits, outputs.neighbor_logits)
        )
        # Trust scales a loss that is positive: with a gradient through it the
        # null noun would simply win everywhere.
        trust = jax.lax.stop_gradient(outputs.trust)

        confident = semantic_prototypes(q, features, confident_share=confident_share)
        carried = Prototypes(
            *(
                running_prototypes(old, batch_sum, prototype_momentum)
                for old, batch_sum in zip(
                    prototypes,
                    (p.T @ batch.images, q.T @ features, confident),
                    strict=True,
                )
            )
        )
        if prototype_reading == "assignments":
            prototype = assignment_prototype_loss(
                *(p, q, p_near, outputs.neighbor_text_assignments),
                temperature=prototype_temperature,
            )
        else:
            prototype = embedding_prototype_loss(
                carried.image, carried.text, temperature=prototype_temperature
            )
        labels, labelled = pseudo_labels(
            *(batch.images, features, carried.semantic),
            temperature=label_temperature,
            min_confidence=min_confidence,
        )
        parts = LossParts(
            total=jnp.zeros(()),
            consistency=consistency_loss(p, p_near),
            balance=entropy_balance_loss(p, prior) + entropy_balance_loss(q, prior),
            instance=instance_loss(p, q, trust),
            prototype=prototype,
            semantic=semantic_loss(logits, labels, labelled * trust),
            trust=jnp.mean(outputs.trust),
            labelled=jnp.mean(labelled),
        )
        total = (
            parts.consistency
            + weights.instance * parts.instance
            + weights.prototype * parts.prototype
            + weights.semantic * parts.semantic
            + weights.balance * parts.balance
        )
        return total, (parts._replace(total=total), jax.lax.stop_gradient(carried))

    return Objective(partial(forward_batch, heads), loss)
