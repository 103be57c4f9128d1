"""The stages of a run between embeddings and clusters, each a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.config import Config
from mca_jax.heads import Heads, build_heads
from mca_jax.losses import LossWeights, build_objective, uniform_prior
from mca_jax.retrieval import (
    KMeansResult,
    apply_projection,
    fit_projection,
    image_neighbors,
    noun_neighbors,
    spherical_kmeans,
)
from mca_jax.semantics import NounTable, SemanticSpace, build_semantic_space
from mca_jax.training import (
    FitResult,
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
)
from mca_jax.types import PRNGKey

__all__ = [
    "EpochHook",
    "Prepared",
    "RunKeys",
    "TrainedHeads",
    "prepare",
    "project",
    "split_key",
    "train_heads",
]

_IMAGES_PER_AXIS = 8

EpochHook = Callable[[str, dict[str, float]], None]


class RunKeys(NamedTuple):
    """Independent keys of a run's random stages.

    Attributes:
      kmeans: Seeding of k-means.
      training: Initialisation, order and neighbours of training.
    """

    kmeans: PRNGKey
    training: PRNGKey


class Prepared(NamedTuple):
    """Everything that training reads, and where it came from.

    Attributes:
      data: Embeddings and neighbour tables.
      kmeans: Spherical k-means of the images.
      space: The semantic space with its audit.
      noun_rows: Row in the vocabulary of each noun in ``data``, int32 ``[m]``:
        those of the space that are some image's neighbour.
    """

    data: TrainingData
    kmeans: KMeansResult
    space: SemanticSpace
    noun_rows: Int[np.ndarray, " m"]


class TrainedHeads(NamedTuple):
    """The trained networks and, if asked for, the run without text.

    Attributes:
      heads: The three networks as functions.
      fit: Weights, logits, history and status.
      consistency_only: Assignments of a run with all levels off, or None.
    """

    heads: Heads
    fit: FitResult
    consistency_only: Int[np.ndarray, " n"] | None


def split_key(seed: int) -> RunKeys:
    """Derive the keys of a run from its seed.

    Args:
      seed: At least 0.

    Returns:
      One key a stage.
    """
    return RunKeys(*jax.random.split(jax.random.key(seed), 2))


def project(
    images: Float[Array, "n d"], nouns: Float[Array, "m d"], config: Config
) -> tuple[Float[Array, "n c"], Float[Array, "m c"]]:
    """Move images and nouns to the principal axes of the images.

    Args:
      images: Embeddings of the set.
      nouns: Embeddings of all nouns.
      config: Number of axes and whitening.

    Returns:
      Unit vectors of the images and of the nouns.
    """
    settings, clusters = config.encoder, config.num_clusters
    # Whitened in as many directions as there are images, all would be equally
    # far from each other: an axis needs some images to be estimated from.
    supported = max(clusters, images.shape[0] // _IMAGES_PER_AXIS)
    projection = fit_projection(
        images,
        components=min(max(settings.components, clusters), supported),
        whitening=settings.whitening,
    )
    return (
        apply_projection(projection, images),
        apply_projection(projection, nouns, jnp.mean(nouns, axis=0)),
    )


def prepare(
    keys: RunKeys,
    images: Float[Array, "n d"],
    nouns: Float[Array, "m d"],
    table: NounTable,
    config: Config,
) -> Prepared:
    """Run k-means, filter the nouns, find all neighbours.

    Args:
      keys: Keys of the run.
      images: Unit vectors.
      nouns: Unit vectors, one a row of ``table``.
      table: The vocabulary.
      config: Settings of semantics and retrieval.

    Returns:
      What training reads.

    Raises:
      InputError: More clusters than images, or no noun passes the filters.
    """
    settings, retrieval = config.semantics, config.retrieval
    kmeans = spherical_kmeans(
        keys.kmeans,
        images,
        num_clusters=config.num_clusters,
        num_restarts=retrieval.kmeans_restarts,
    )
    space = build_semantic_space(
        table,
        nouns,
        kmeans.centers,
        nouns_per_center=settings.nouns_per_center,
        min_uniqueness=settings.min_uniqueness,
        min_depth=settings.min_depth,
        drop_ancestors=settings.drop_ancestors,
        concrete_only=settings.concrete_only,
        allow_people=settings.allow_people,
        allow_offensive=settings.allow_offensive,
    )
    near_images = image_neighbors(
        images,
        num_neighbors=retrieval.image_neighbors,
        block_size=retrieval.block_size,
    )
    near_nouns = noun_neighbors(
        images,
        space.embeddings,
        num_neighbors=retrieval.noun_neighbors,
        block_size=retrieval.block_size,
    )
    # Most nouns of the space are no image's neighbour; training never reads them.
    used, compact = np.unique(np.asarray(near_nouns.indices), return_inverse=True)
    data = TrainingData(
        images=images,
        nouns=space.embeddings[used],
        image_neighbors=near_images.indices,
        noun_neighbors=jnp.asarray(compact.reshape(images.shape[0], -1), jnp.int32),
        noun_similarities=near_nouns.similarities,
    )
    return Prepared(data, kmeans, space, space.rows[used])


def train_heads(
    key: PRNGKey,
    prepared: Prepared,
    config: Config,
    *,
    consistency_only: bool = False,
    on_epoch: EpochHook | None = None,
) -> TrainedHeads:
    """Train the three networks; takes no labels.

    Args:
      key: Key of training; the run without text uses the same.
      prepared: From :func:`prepare`.
      config: Settings of heads, losses and training.
      consistency_only: Also train with all three levels off, to compare.
      on_epoch: Called with ``"train"`` or ``"consistency only"`` and the row of
        the history after each pass.

    Returns:
      Trained networks.
    """
    losses, train = config.losses, config.train
    num_images = prepared.data.images.shape[0]
    batch_size = min(train.batch_size, num_images)
    cosines = np.asarray(prepared.data.noun_similarities, np.float64)
    mean, deviation = float(cosines.mean()), max(float(cosines.std()), 1e-6)
    heads = build_heads(
        num_clusters=config.num_clusters,
        initial_scale=config.heads.initial_scale,
        attention_width=config.heads.attention_width,
        attention_temperature=config.heads.attention_temperature * deviation,
        null_similarity=mean + config.heads.null_score * deviation,
    )
    objective = build_objective(
        heads,
        prototype_reading=losses.prototype_reading,
        prototype_temperature=losses.prototype_temperature,
        prototype_momentum=losses.prototype_momentum,
        confident_share=losses.confident_share,
        label_temperature=losses.label_temperature,
        min_confidence=losses.min_confidence,
    )
    optimizer = build_optimizer(
        learning_rate=train.learning_rate,
        total_steps=train.epochs * (num_images // batch_size),
    )
    trainer = build_trainer(heads, objective, optimizer, batch_size=batch_size)

    def run(name: str, weights: LossWeights) -> FitResult:
        hook = None if on_epoch is None else partial(on_epoch, name)
        return fit(
            key,
            trainer,
            prepared.data,
            prepared.kmeans.centers,
            weights=weights,
            prior=uniform_prior(config.num_clusters),
            num_epochs=train.epochs,
            loss_tolerance=train.loss_tolerance,
            changed_tolerance=train.changed_tolerance,
            on_epoch=hook,
        )

    full = LossWeights(
        losses.instance, losses.prototype, losses.semantic, losses.balance
    )
    result = run("train", full)
    if not consistency_only:
        return TrainedHeads(heads, result, None)
    plain = run("consistency only", LossWeights(0.0, 0.0, 0.0, losses.balance))
    return TrainedHeads(heads, result, np.asarray(jnp.argmax(plain.logits, axis=1)))
