"""Places vectors among the clusters of a model: pure functions, nothing compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mca_jax.alignment import build_heads
from mca_jax.core.numerics import l2_normalize
from mca_jax.model.cluster_model import ClusterModel, Network
from mca_jax.neighbors import Projection, apply_projection, blocked_topk, smooth_new

__all__ = [
    "Membership",
    "Assigned",
    "build_membership",
    "build_assign",
    "build_projection",
]


class Membership(NamedTuple):
    """Clusters of projected vectors.

    Attributes:
      clusters: Cluster of each vector, int32 ``[b]``.
      probabilities: Of every cluster, ``[b, k]``; rows sum to 1.
    """

    clusters: Int[Array, " b"]
    probabilities: Float[Array, "b k"]


class Assigned(NamedTuple):
    """What a model says of images.

    Attributes:
      clusters: The cluster of each image, also of one far from all, int32
        ``[b]``.
      probabilities: Of every cluster, ``[b, k]``; rows sum to 1.
      closeness: Largest cosine to a centre, ``[b]`` in [-1, 1].
      noun_rows: Nearest nouns of each image, most attended first, int32
        ``[b, r]``.
      noun_weights: Attention on them, ``[b, r]``; rows sum to 1.
      trust: How much these nouns say at all, ``[b]`` in (0, 1).
    """

    clusters: Int[Array, " b"]
    probabilities: Float[Array, "b k"]
    closeness: Float[Array, " b"]
    noun_rows: Int[Array, "b r"]
    noun_weights: Float[Array, "b r"]
    trust: Float[Array, " b"]


def _weights(network: Network) -> dict[str, Any]:
    """The arrays of a network as an argument of compiled functions."""
    arrays = network._asdict()
    del arrays["constants"]
    return arrays


def _project(
    weights: dict[str, Any], vectors: Float[Array, "b d"], mean: str = "mean"
) -> Array:
    return apply_projection(Projection(weights[mean], weights["axes"]), vectors)


def build_projection(
    model: ClusterModel,
) -> tuple[Callable[[Any, Float[Array, "b d"]], Array], Any]:
    """Build the function from embeddings to the space that was clustered.

    Args:
      model: The model.

    Returns:
      A pure function of arrays and embeddings to unit vectors ``[b, c]``, smoothed
      where the training images were, and the arrays.
    """
    memory = model.memory
    arrays = {
        "mean": model.network.mean,
        "axes": model.network.axes,
        "projected": memory.projected,
        "before": memory.before,
    }
    num_near = min(memory.num_near, len(memory.projected))

    def project(arrays: Any, embeddings: Float[Array, "b d"]) -> Array:
        vectors = _project(arrays, embeddings)
        if not num_near:
            return vectors
        _, near = blocked_topk(
            vectors,
            arrays["projected"],
            num_neighbors=num_near,
            block_size=vectors.shape[0],
        )
        return smooth_new(arrays["before"], near)

    return project, arrays


def build_membership(
    model: ClusterModel, *, of: Literal["images", "nouns"] = "images"
) -> tuple[Callable[[Any, Float[Array, "b c"]], Membership], Any]:
    """Build the function from projected vectors to clusters.

    The image goes down a tree: first to a column of the model's network; if the
    cluster of that column was cut, then to one of the parts. So a merged cluster
    holds exactly the images of those that it was made of, and the parts of a cut
    one exactly its images.

    Args:
      model: The model.
      of: Which head reads them: that of images or that of nouns.

    Returns:
      A pure function of arrays and projected vectors, and the arrays.
    """
    networks = [model.network, *(split.network for split in model.splits)]
    heads = [build_heads(**network.constants) for network in networks]
    read = [each.image_logits if of == "images" else each.text_logits for each in heads]
    mean = "mean" if of == "images" else "noun_mean"
    arrays = {
        "networks": [_weights(network) for network in networks],
        "members": [split.members for split in model.splits],
        "groups": model.groups,
    }
    num_clusters = len(model.clusters)

    def assign(arrays: Any, vectors: Float[Array, "b c"]) -> Membership:
        first, *rest = arrays["networks"]
        columns = jax.nn.softmax(read[0](first["params"], vectors), axis=-1)
        chosen = jnp.argmax(columns, axis=-1)
        for index, (weights, members) in enumerate(
            zip(rest, arrays["members"], strict=True), start=1
        ):
            inside = _project(weights, vectors, mean)
            parts = jax.nn.softmax(read[index](weights["params"], inside), axis=-1)
            whole = jnp.sum(jnp.where(members[None, :], columns, 0.0), axis=-1)
            part = columns.shape[-1] + jnp.argmax(parts, axis=-1)
            chosen = jnp.where(members[chosen], part, chosen)
            columns = jnp.concatenate([columns, whole[:, None] * parts], axis=-1)
        groups = arrays["groups"]
        # Columns of a cut cluster belong to none; a row beyond the last takes them.
        target = jnp.where(groups < 0, num_clusters, groups)
        sums = jnp.zeros((num_clusters + 1, vectors.shape[0]))
        sums = sums.at[target].add(columns.T)
        return Membership(groups[chosen].astype(jnp.int32), sums[:num_clusters].T)

    return assign, arrays


def build_assign(
    model: ClusterModel,
) -> tuple[Callable[[Any, Float[Array, "b d"]], Assigned], Any]:
    """Build the function from image embeddings to clusters and nouns.

    Args:
      model: The model.

    Returns:
      A pure function of arrays and embeddings, and the arrays.
    """
    project, projection_arrays = build_projection(model)
    assign, membership_arrays = build_membership(model)
    heads = build_heads(**model.network.constants)
    arrays = {
        "projection": projection_arrays,
        "membership": membership_arrays,
        "centers": model.centers,
        "nouns": model.noun_embeddings,
    }
    num_neighbors = min(model.num_neighbors, len(model.nouns))

    def place(arrays: Any, embeddings: Float[Array, "b d"]) -> Assigned:
        network = arrays["membership"]["networks"][0]
        photos = project(arrays["projection"], embeddings)
        clusters, probabilities = assign(arrays["membership"], photos)
        nouns = arrays["nouns"]
        cosines, rows = blocked_topk(
            photos, nouns, num_neighbors=num_neighbors, block_size=photos.shape[0]
        )
        attended = heads.attend(network["params"], photos, nouns[rows], cosines)
        order = jnp.argsort(-attended.weights, axis=-1, stable=True)
        directions = l2_normalize(embeddings - network["mean"][None, :])
        return Assigned(
            clusters,
            probabilities,
            jnp.max(directions @ arrays["centers"].T, axis=-1),
            jnp.take_along_axis(rows, order, axis=-1).astype(jnp.int32),
            jnp.take_along_axis(attended.weights, order, axis=-1),
            attended.trust,
        )

    return place, arrays
