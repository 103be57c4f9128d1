"""Semantic level: pseudo-labels from the texts that mean the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["pseudo_labels", "semantic_loss", "semantic_prototypes"]


def semantic_prototypes(
    text_assignments: Float[Array, "b k"],
    text_features: Float[Array, "b d"],
    *,
    confident_share: float = 0.9,
) -> Float[Array, "k d"]:
    r"""Sum the text features of each cluster over its confident images.

    .. math:: h_c \propto \sum_{i\ \mathrm{confident}} \hat q_{ic}\,\hat s_i

    Args:
      text_assignments: ``q_hat``; no gradient flows into it.
      text_features: ``s_hat``, attention-weighted mean noun of each image.
      confident_share: Share of the batch that counts as confident, in (0, 1]:
        images are ranked by their largest assignment.

    Returns:
      Unnormalised sums over the batch.
    """
    assignments = jax.lax.stop_gradient(text_assignments)
    confidence = jnp.max(assignments, axis=-1)
    kept = confidence >= jnp.quantile(confidence, 1.0 - confident_share)
    chosen = assignments * kept.astype(assignments.dtype)[:, None]
    return chosen.T @ jax.lax.stop_gradient(text_features)


def pseudo_labels(
    images: Float[Array, "b d"],
    text_features: Float[Array, "b d"],
    prototypes: Float[Array, "k d"],
    *,
    temperature: float = 0.1,
    min_confidence: float = 0.5,
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    r"""Label each image with the nearest semantic prototype.

    .. math:: y_i = \arg\max_c \langle u_i + \hat s_i, h_c \rangle

    Args:
      images: Unit vectors ``u``.
      text_features: Unit vectors ``s_hat``.
      prototypes: Unit vectors ``h``.
      temperature: Of the softmax that gives the confidence, > 0.
      min_confidence: Labels of a lower confidence are not used, in [0, 1).

    Returns:
      Labels, and 1 where the label is used, else 0. No gradient flows through.
    """
    scores = (images + text_features) @ prototypes.T / temperature
    confidence = jnp.max(jax.nn.softmax(scores, axis=-1), axis=-1)
    kept = (confidence >= min_confidence).astype(images.dtype)
    labels = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return jax.lax.stop_gradient(labels), jax.lax.stop_gradient(kept)


def semantic_loss(
    image_logits: Float[Array, "b k"],
    labels: Int[Array, " b"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    r"""Cross-entropy of the image assignments with the pseudo-labels.

    .. math:: L_{sem} = -\frac1b \sum_i w_i \log p_{i, y_i}

    Args:
      image_logits: Logits of the image network.
      labels: Pseudo-labels in ``[0, k)``.
      weights: Weight of each image, in [0, 1]: 0 where the label is not used.

    Returns:
      Weighted mean over the batch, at least 0.
    """
    log_p = jax.nn.log_softmax(image_logits, axis=-1)
    own = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return -jnp.mean(weights * own)
