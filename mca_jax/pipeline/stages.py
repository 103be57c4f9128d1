"""The stages of a run between embeddings and clusters, each a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mca_jax.alignment import Heads
from mca_jax.alignment.forward import Predictions, forward_pass
from mca_jax.alignment.losses import LossWeights
from mca_jax.core.parallel import (
    Rows,
    default_mesh,
    mesh_of,
    shard_images,
    shard_like,
    shard_rows,
)
from mca_jax.core.progress import EpochCallback
from mca_jax.core.types import PRNGKey
from mca_jax.model.calibration import calibrate
from mca_jax.neighbors import (
    KMeansResult,
    Projection,
    apply_projection,
    fit_projection,
    noun_neighbors,
    spherical_kmeans,
)
from mca_jax.neighbors.graph import (
    Neighborhood,
    find_neighborhood,
    near_images,
    smoothing_neighbors,
)
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.setup import TrainingSetup, build_setup
from mca_jax.semantics import NounTable, SemanticSpace, build_semantic_space
from mca_jax.training import Checkpointer, FitResult, TrainingData, fit
from mca_jax.training.initialization import Initialization, choose_initialization
from mca_jax.training.loop import WeightsHook

__all__ = [
    "calibrate_heads",
    "Prepared",
    "Projected",
    "RunKeys",
    "TrainedHeads",
    "find_initialization",
    "gather_data",
    "shard_embeddings",
    "prepare",
    "project",
    "predict_prepared",
    "split_key",
    "train_heads",
]

_IMAGES_PER_AXIS = 8
_START_STREAM = 2
_PROBING_STREAM = 2
_CALIBRATION_STREAM = 3


class RunKeys(NamedTuple):
    """Independent keys of a run's random stages.

    Attributes:
      kmeans: Seeding of k-means.
      training: Initialisation, order and neighbours of training.
    """

    kmeans: PRNGKey
    training: PRNGKey


class Projected(NamedTuple):
    """Images and nouns in the space that is clustered, and the way there.

    Attributes:
      images: Unit vectors of the images, ``[n, c]``.
      nouns: Unit vectors of all nouns, ``[m, c]``.
      projection: The map of the images.
      noun_mean: Mean embedding of the nouns, subtracted from them in place of
        the images' mean, ``[d]``.
    """

    images: Float[Array, "n c"] | Rows
    nouns: Float[Array, "m c"]
    projection: Projection
    noun_mean: Float[Array, " d"]


class Prepared(NamedTuple):
    """Everything that training reads, and where it came from.

    Attributes:
      data: Embeddings and neighbour tables.
      kmeans: Spherical k-means of the images.
      space: The semantic space with its audit.
      noun_rows: Row in the vocabulary of each noun in ``data``, int32 ``[m]``:
        those of the space that are some image's neighbour.
      initialization: Where training begins, and how much it should use each cluster.
      neighborhood: Neighbours and smoothed images; None for images that were
        smoothed before.
    """

    data: TrainingData
    kmeans: KMeansResult
    space: SemanticSpace
    noun_rows: Int[np.ndarray, " m"]
    initialization: Initialization
    neighborhood: Neighborhood | None = None


class TrainedHeads(NamedTuple):
    """The trained networks.

    Attributes:
      heads: The three networks as functions.
      fit: Weights, clusters, history and status.
      constants: What ``build_heads`` was given.
    """

    heads: Heads
    fit: FitResult
    constants: dict[str, Any]


def split_key(seed: int) -> RunKeys:
    """Derive the keys of a run from its seed.

    Args:
      seed: At least 0.

    Returns:
      One key a stage.
    """
    return RunKeys(*jax.random.split(jax.random.key(seed), 2))


def shard_embeddings(embeddings: np.ndarray, config: Config) -> Rows:
    """Put embeddings where the run reads them.

    Args:
      embeddings: One row an image, also memory-mapped or float16.
      config: Settings of the memory budget.

    Returns:
      The table on the device, over several where there are several, or on the
      host where it is too large for them.
    """
    retrieval = config.retrieval
    # Embeddings; projected ones, smoothed ones and two steps of them on the way;
    # scores of k-means; and tables of neighbours.
    width = max(config.encoder.components, config.num_clusters)
    width = min(width, embeddings.shape[1])
    columns = embeddings.shape[1] + 4 * width + config.num_clusters
    columns += 2 * retrieval.image_neighbors + 3 * retrieval.noun_neighbors
    return shard_images(
        embeddings,
        default_mesh(),
        bytes_per_row=4 * columns,
        budget_gib=config.train.memory_budget_gib,
    )


def project(
    images: Float[Array, "n d"] | Rows, nouns: Float[Array, "m d"], config: Config
) -> Projected:
    """Move images and nouns to the principal axes of the images.

    Args:
      images: Embeddings of the set.
      nouns: Embeddings of all nouns.
      config: Number of axes and whitening.

    Returns:
      Both as unit vectors, and the map.
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
    noun_mean = jnp.mean(nouns, axis=0)
    return Projected(
        apply_projection(projection, images),
        apply_projection(projection, nouns, noun_mean),
        projection,
        noun_mean,
    )


def prepare(
    keys: RunKeys,
    images: Float[Array, "n d"] | Rows,
    nouns: Float[Array, "m d"],
    table: NounTable,
    config: Config,
    *,
    grouped: Prepared | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Prepared:
    """Smooth the images, run k-means, filter the nouns, find all neighbours.

    Args:
      keys: Keys of the run.
      images: Unit vectors.
      nouns: Unit vectors, one a row of ``table``.
      table: The vocabulary.
      config: Settings of semantics and retrieval.
      grouped: What other settings of semantics gave for the same images and keys,
        whose neighbours and k-means are taken over; None finds them.
      on_stage: Told what begins.

    Returns:
      What training reads.

    Raises:
      InputError: More clusters than images, or no noun passes the filters.
    """
    settings, retrieval = config.semantics, config.retrieval
    begin = on_stage or (lambda stage: None)
    if grouped is not None and grouped.neighborhood is not None:
        neighborhood, kmeans = grouped.neighborhood, grouped.kmeans
    else:
        begin("Finding neighbours")
        count = smoothing_neighbors(
            images.shape[0], config.num_clusters, retrieval.smoothing_neighbors
        )
        neighborhood = find_neighborhood(
            _probing_key(config),
            images,
            num_smoothing=min(count, retrieval.image_neighbors),
            smoothing_steps=retrieval.smoothing_steps,
            **_search(config),
        )
        # Without it a stage would be charged for the one before.
        jax.block_until_ready(neighborhood)
        begin("k-means")
        kmeans = spherical_kmeans(
            keys.kmeans,
            neighborhood.images,
            num_clusters=config.num_clusters,
            num_restarts=retrieval.kmeans_restarts,
            sample_size=max(retrieval.kmeans_sample, config.num_clusters),
        )
    mesh = mesh_of(images)
    # Over several processes jaxlib 0.11 crashes when it compiles the filters for
    # split rows: there each process filters all nouns, which is the same.
    placed: Float[Array, "m d"] | Rows = nouns
    if mesh is not None and jax.process_count() == 1:
        placed = shard_rows(nouns, mesh)
    jax.block_until_ready(kmeans)
    begin("Filtering nouns")
    space = build_semantic_space(
        table,
        placed,
        kmeans.centers,
        nouns_per_center=settings.nouns_per_center,
        min_uniqueness=settings.min_uniqueness,
        min_depth=settings.min_depth,
        drop_ancestors=settings.drop_ancestors,
        concrete_only=settings.concrete_only,
        allow_people=settings.allow_people,
        allow_offensive=settings.allow_offensive,
    )
    begin("Finding nouns")
    return gather_data(neighborhood.images, kmeans, space, config, neighborhood)


def gather_data(
    images: Float[Array, "n d"] | Rows,
    kmeans: KMeansResult,
    space: SemanticSpace,
    config: Config,
    neighborhood: Neighborhood | None = None,
) -> Prepared:
    """Find all neighbours of images among images and nouns.

    Args:
      images: Unit vectors.
      kmeans: Their k-means.
      space: The nouns that are kept.
      config: Settings of retrieval.
      neighborhood: Where the neighbours of the images are known already.

    Returns:
      What training reads.
    """
    retrieval = config.retrieval
    if neighborhood is None:
        near, _ = near_images(_probing_key(config), images, **_search(config))
    else:
        near = neighborhood.neighbors
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
        image_neighbors=near.indices,
        noun_neighbors=shard_like(
            compact.reshape(images.shape[0], -1).astype(np.int32), images
        ),
        noun_similarities=near_nouns.similarities,
    )
    start = find_initialization(data, kmeans, config)
    return Prepared(data, kmeans, space, space.rows[used], start, neighborhood)


def _probing_key(config: Config) -> PRNGKey:
    return jax.random.fold_in(jax.random.key(config.seed), _PROBING_STREAM)


def _search(config: Config) -> dict[str, int]:
    """How the nearest images are searched."""
    retrieval = config.retrieval
    return {
        "num_neighbors": retrieval.image_neighbors,
        "exact_up_to": retrieval.exact_up_to,
        "num_probes": retrieval.probes,
        "block_size": retrieval.block_size,
    }


def find_initialization(
    data: TrainingData, kmeans: KMeansResult, config: Config
) -> Initialization:
    """Choose where training begins; see ``choose_initialization``.

    Args:
      data: Embeddings and neighbour tables.
      kmeans: Spherical k-means of the images.
      config: All settings.

    Returns:
      Centres and prior.
    """
    key = jax.random.fold_in(split_key(config.seed).kmeans, _START_STREAM)
    return choose_initialization(
        key,
        data,
        kmeans,
        num_clusters=config.num_clusters,
        prior=config.losses.prior,
        attention_temperature=config.heads.attention_temperature,
        kmeans_sample=config.retrieval.kmeans_sample,
    )


def train_heads(
    key: PRNGKey,
    prepared: Prepared,
    config: Config,
    *,
    name: str = "train",
    on_epoch: EpochCallback | None = None,
    on_weights: WeightsHook | None = None,
    checkpointer: Callable[[str], Checkpointer] | None = None,
    setup: TrainingSetup | None = None,
) -> TrainedHeads:
    """Train the three networks; takes no labels.

    Args:
      key: Key of training.
      prepared: From :func:`prepare`.
      config: Settings of heads, losses and training.
      name: What this training is called, such as ``"consistency only"``.
      on_epoch: Called with the name and the row of the history after each pass.
      on_weights: As for ``fit``.
      checkpointer: Opens the checkpoints of the training of that name, which it
        then goes on from; None keeps none.
      setup: From ``build_setup``, to share what a run with other weights of the
        losses has compiled; None builds it.

    Returns:
      Trained networks.
    """
    losses, train = config.losses, config.train
    setup = setup or build_setup(prepared.data, config)

    result = fit(
        key,
        setup.trainer,
        prepared.data,
        prepared.initialization.centers,
        weights=LossWeights(
            losses.instance, losses.prototype, losses.semantic, losses.balance
        ),
        prior=prepared.initialization.prior,
        num_epochs=train.epochs,
        loss_tolerance=train.loss_tolerance,
        changed_tolerance=train.changed_tolerance,
        on_epoch=None if on_epoch is None else partial(on_epoch, name),
        on_weights=on_weights,
        checkpointer=None if checkpointer is None else checkpointer(name),
    )
    return TrainedHeads(setup.heads, result, setup.constants)


def calibrate_heads(
    trained: TrainedHeads, prepared: Prepared, config: Config
) -> TrainedHeads:
    """Give the networks confidences that mean something; see ``calibrate``.

    Args:
      trained: Networks as they were trained.
      prepared: What they were trained on.
      config: Its seed draws the images that the temperature is fitted on.

    Returns:
      The same networks with other confidences; no assignment changes.
    """
    params = calibrate(
        jax.random.fold_in(split_key(config.seed).kmeans, _CALIBRATION_STREAM),
        trained.heads,
        trained.fit.params,
        images=prepared.data.images,
        image_neighbors=prepared.data.image_neighbors,
        assignments=trained.fit.assignments,
    )
    return trained._replace(fit=trained.fit._replace(params=params))


def predict_prepared(trained: TrainedHeads, prepared: Prepared) -> Predictions:
    """Read the trained networks out over the set that they were trained on.

    Args:
      trained: From :func:`train_heads`.
      prepared: What it was given.

    Returns:
      Assignments and attention of the whole set, on the host.
    """
    data = prepared.data
    return forward_pass(
        trained.heads,
        trained.fit.params,
        images=data.images,
        nouns=data.nouns,
        noun_neighbors=data.noun_neighbors,
        noun_similarities=data.noun_similarities,
    )
