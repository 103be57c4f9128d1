"""The stages of a run from embeddings to trained networks, each a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mca_jax.alignment import Heads, build_heads
from mca_jax.alignment.forward import Predictions, forward_pass
from mca_jax.alignment.losses import LossWeights, build_objective
from mca_jax.core.parallel import (
    Rows,
    default_mesh,
    fetch_rows,
    mesh_of,
    shard_images,
    shard_like,
    shard_rows,
)
from mca_jax.core.progress import EpochCallback
from mca_jax.core.random import RunKeys, named_key
from mca_jax.core.types import Params, PRNGKey
from mca_jax.neighbors import (
    KMeansResult,
    Projection,
    apply_projection,
    fit_projection,
    fit_spaces,
    noun_neighbors,
    spherical_kmeans,
    view_covariance,
)
from mca_jax.neighbors.graph import (
    Neighborhood,
    find_neighborhood,
    near_images,
    smoothing_neighbors,
)
from mca_jax.neighbors.retrieved_text import text_trust
from mca_jax.pipeline.config import Config
from mca_jax.pipeline.inputs import Nouns
from mca_jax.semantics import build_semantic_space
from mca_jax.semantics.audit import SpaceAudit
from mca_jax.training import (
    Checkpointer,
    FitResult,
    Trainer,
    TrainingData,
    build_optimizer,
    build_trainer,
    fit,
)
from mca_jax.training.epochs import steps_per_epoch
from mca_jax.training.initialization import (
    Initialization,
    choose_initialization,
    consensus_initialization,
    uniform_initialization,
)
from mca_jax.training.loop import WeightsHook

__all__ = [
    "Prepared",
    "Projected",
    "TrainingSetup",
    "build_setup",
    "cluster_images",
    "find_initialization",
    "find_neighbors",
    "gather_data",
    "predict_prepared",
    "project",
    "select_nouns",
    "shard_embeddings",
    "train_heads",
]

_IMAGES_PER_AXIS = 8
# Scores of one iteration of all restarts of k-means beyond which there are fewer.
_MOST_SCORES = 2**23
_LEAST_RESTARTS = 10
# Images that trust is measured on.
_TRUST_SAMPLE = 5_000
# Trust from which the levels of text count fully.
_ENOUGH_TRUST = 0.3


class Projected(NamedTuple):
    """Images and nouns in the space that is clustered, and the way there.

    Attributes:
      images: Unit vectors.
      nouns: All nouns.
      projection: The map of the images.
      noun_mean: Mean embedding of the nouns, subtracted from them in place of
        the images' mean.
    """

    images: Float[Array, "n c"] | Rows
    nouns: Nouns
    projection: Projection
    noun_mean: Float[Array, " d"]


class Prepared(NamedTuple):
    """What training and the simpler methods read.

    Attributes:
      data: Embeddings and neighbour tables.
      kmeans: Spherical k-means of the images.
      nouns: The nouns of ``data``: those of the space that are some image's neighbour.
      initialization: Where training begins, and how much it should use each cluster.
      trust: How far the nouns fit the images, in [0, 1], from ``text_trust``.
    """

    data: TrainingData
    kmeans: KMeansResult
    nouns: Nouns
    initialization: Initialization
    trust: float

    @property
    def text_share(self) -> float:
        """How far the levels of text count, in [0, 1]: all, unless no noun fits."""
        return min(1.0, self.trust / _ENOUGH_TRUST)


class TrainingSetup(NamedTuple):
    """Networks and compiled steps; runs of other loss weights may share one.

    Attributes:
      heads: The three networks as functions.
      constants: What ``build_heads`` was given.
      trainer: Compiled functions.
    """

    heads: Heads
    constants: dict[str, Any]
    trainer: Trainer


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
    width *= 2 if config.encoder.image else 1
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
    images: Float[Array, "n d"] | Rows,
    nouns: Nouns,
    config: Config,
    *,
    spaces: Sequence[int] = (),
    views: Float[Any, "s v d"] | None = None,
) -> Projected:
    """Move images and nouns to the axes on which the images differ.

    Args:
      images: Embeddings of the images.
      nouns: The vocabulary.
      config: Settings of the axes.
      spaces: Widths of the spaces that the embeddings consist of, see
        ``Encoder.spaces``; each has axes of its own.
      views: Embeddings of some images' views, which show what to ignore; None takes
        principal axes.
    """
    settings, clusters = config.encoder, config.num_clusters
    # Whitened in as many directions as there are images, all would be equally
    # far from each other: an axis needs some images to be estimated from.
    supported = max(clusters, images.shape[0] // _IMAGES_PER_AXIS)

    def fit(rows: Float[Array, "n s"] | Rows, columns: slice) -> Projection:
        within = None
        if views is not None:
            within = view_covariance(jnp.asarray(views[..., columns]))
        return fit_projection(
            rows,
            components=min(max(settings.components, clusters), supported),
            whitening=settings.whitening,
            within=within,
            shrinkage=settings.shrinkage,
        )

    projection = fit_spaces(images, spaces, fit)
    noun_mean = jnp.mean(nouns.embeddings, axis=0)
    return Projected(
        apply_projection(projection, images),
        nouns._replace(
            embeddings=apply_projection(projection, nouns.embeddings, noun_mean)
        ),
        projection,
        noun_mean,
    )


def find_neighbors(
    key: PRNGKey, images: Float[Array, "n c"] | Rows, config: Config
) -> Neighborhood:
    """Find the nearest images of every image, and smooth the set by them."""
    retrieval = config.retrieval
    count = smoothing_neighbors(
        images.shape[0], config.num_clusters, retrieval.smoothing_neighbors
    )
    found = find_neighborhood(
        key,
        images,
        num_smoothing=min(count, retrieval.image_neighbors),
        smoothing_steps=retrieval.smoothing_steps,
        **_search(config),
    )
    # Else the stage behind it would be charged for the time.
    return jax.block_until_ready(found)


def _search(config: Config) -> dict[str, int]:
    """How the nearest images are searched."""
    retrieval = config.retrieval
    return {
        "num_neighbors": retrieval.image_neighbors,
        "exact_up_to": retrieval.exact_up_to,
        "num_probes": retrieval.probes,
        "block_size": retrieval.block_size,
    }


def _restarts(num_images: int, config: Config) -> int:
    """Restarts of k-means: as many as are wanted, fewer where each costs much."""
    wanted, retrieval = config.retrieval.kmeans_restarts, config.retrieval
    size = min(num_images, retrieval.kmeans_sample) * config.num_clusters
    return min(wanted, max(_LEAST_RESTARTS, _MOST_SCORES // size))


def cluster_images(
    key: PRNGKey, images: Float[Array, "n c"] | Rows, config: Config
) -> KMeansResult:
    """Cluster unit vectors by spherical k-means."""
    retrieval = config.retrieval
    found = spherical_kmeans(
        key,
        images,
        num_clusters=config.num_clusters,
        num_restarts=_restarts(images.shape[0], config),
        sample_size=max(retrieval.kmeans_sample, config.num_clusters),
    )
    return jax.block_until_ready(found)


def select_nouns(
    nouns: Nouns, centers: Float[Array, "k c"], config: Config
) -> tuple[Nouns, SpaceAudit]:
    """Filter the nouns to the semantic space.

    Returns:
      The nouns that are kept, and which filter took each of the others.

    Raises:
      InputError: No noun passes the filters.
    """
    settings, mesh = config.semantics, default_mesh()
    # Over several processes jaxlib 0.11 crashes when it compiles the filters for
    # split rows: there each process filters all nouns, which is the same.
    sharded: Float[Array, "m d"] | Rows = nouns.embeddings
    if mesh is not None and jax.process_count() == 1:
        sharded = shard_rows(nouns.embeddings, mesh)
    space = build_semantic_space(
        nouns.table,
        sharded,
        centers,
        nouns_per_center=settings.nouns_per_center,
        min_uniqueness=settings.min_uniqueness,
        min_depth=settings.min_depth,
        drop_ancestors=settings.drop_ancestors,
        concrete_only=settings.concrete_only,
        allow_people=settings.allow_people,
        allow_offensive=settings.allow_offensive,
        photographed_only=settings.photographed_only,
    )
    return Nouns(nouns.table, space.embeddings, space.rows), space.audit


def gather_data(
    keys: RunKeys,
    images: Float[Array, "n d"] | Rows,
    kmeans: KMeansResult,
    nouns: Nouns,
    config: Config,
    *,
    near: Any = None,
    unsmoothed: Float[Array, "n d"] | Rows | None = None,
) -> Prepared:
    """Find the nearest nouns of every image, and where training begins.

    Args:
      keys: Keys of the run.
      images: Unit vectors, smoothed.
      kmeans: Their k-means.
      nouns: The semantic space.
      config: Settings of retrieval, heads and losses.
      near: Rows of each image's nearest images; None searches them.
      unsmoothed: The images before they were smoothed, by which the trust in the
        nouns is measured; None measures it by ``images``.
    """
    retrieval = config.retrieval
    if near is None:
        near = near_images(keys.neighbor_search, images, **_search(config))[0].indices
    near_nouns = noun_neighbors(
        images,
        nouns.embeddings,
        num_neighbors=retrieval.noun_neighbors,
        block_size=retrieval.block_size,
    )
    # Most nouns of the space are no image's neighbour; training never reads them.
    used, compact = np.unique(np.asarray(near_nouns.indices), return_inverse=True)
    nouns = nouns.keep(used)
    data = TrainingData(
        images=images,
        nouns=nouns.embeddings,
        image_neighbors=near,
        noun_neighbors=shard_like(
            compact.reshape(images.shape[0], -1).astype(np.int32), images
        ),
        noun_similarities=near_nouns.similarities,
    )
    trust = measure_trust(
        named_key(keys.initialization, "trust"),
        images if unsmoothed is None else unsmoothed,
        kmeans,
        nouns,
        config,
    )
    prepared = Prepared(data, kmeans, nouns, uniform_initialization(kmeans), trust)
    start = find_initialization(keys.initialization, prepared, config)
    return prepared._replace(initialization=start)


def measure_trust(
    key: PRNGKey,
    images: Float[Array, "n d"] | Rows,
    kmeans: KMeansResult,
    nouns: Nouns,
    config: Config,
) -> float:
    """Measure how far the nouns fit the images, on a sample; see ``text_trust``.

    Smoothed images would not do: neighbours share their nouns then, whatever the
    nouns know.
    """
    rows = np.linspace(0, images.shape[0] - 1, min(images.shape[0], _TRUST_SAMPLE))
    rows = np.unique(rows.astype(int))
    return text_trust(
        key,
        jnp.asarray(fetch_rows(images, rows)),
        nouns.embeddings,
        np.asarray(kmeans.assignments)[rows],
        num_clusters=config.num_clusters,
        num_neighbors=config.retrieval.noun_neighbors,
        temperature=config.heads.attention_temperature,
    )


def find_initialization(
    key: PRNGKey, prepared: Prepared, config: Config
) -> Initialization:
    """Choose where training begins.

    See ``consensus_initialization``, which brings the text in where a level of text
    is on, and ``choose_initialization``.
    """
    losses, retrieval = config.losses, config.retrieval
    temperature = config.heads.attention_temperature
    text_weight = prepared.text_share * retrieval.text_weight
    consensus = consensus_initialization(
        named_key(key, "consensus"),
        prepared.data,
        prepared.kmeans,
        text_weight=text_weight if losses.has_text else 0.0,
        trust=prepared.trust,
        attention_temperature=temperature,
        num_restarts=_restarts(prepared.data.images.shape[0], config),
        sample_size=max(retrieval.kmeans_sample, config.num_clusters),
    )
    return choose_initialization(
        key,
        prepared.data.images,
        consensus,
        num_clusters=config.num_clusters,
        prior=losses.prior,
        kmeans_sample=retrieval.kmeans_sample,
    )


def build_setup(data: TrainingData, config: Config) -> TrainingSetup:
    """Build networks, loss and optimiser for a set.

    Args:
      data: Embeddings and neighbour tables.
      config: Settings of heads, losses and training. Seed and the levels' weights
        are not read: they are arguments of a run.

    Returns:
      Nothing is compiled yet; the first run does it.
    """
    losses, train = config.losses, config.train
    num_images = data.images.shape[0]
    batch_size = min(train.batch_size, num_images)
    cosines = np.asarray(data.noun_similarities, np.float64)
    mean, deviation = float(cosines.mean()), max(float(cosines.std()), 1e-6)
    constants = {
        "num_clusters": config.num_clusters,
        "initial_scale": config.heads.initial_scale,
        "attention_width": config.heads.attention_width,
        "attention_temperature": config.heads.attention_temperature * deviation,
        "null_similarity": mean + config.heads.null_score * deviation,
        "attention": config.heads.attention,
    }
    heads = build_heads(**constants)
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
        total_steps=train.epochs
        * steps_per_epoch(num_images, batch_size, train.max_steps),
    )
    trainer = build_trainer(
        heads,
        objective,
        optimizer,
        batch_size=batch_size,
        max_steps=train.max_steps,
        mesh=mesh_of(data.images),
        driver=train.driver,
    )
    return TrainingSetup(heads, constants, trainer)


def train_heads(
    key: PRNGKey,
    setup: TrainingSetup,
    data: TrainingData,
    initialization: Initialization,
    config: Config,
    *,
    text_share: float = 1.0,
    name: str = "train",
    on_epoch: EpochCallback | None = None,
    on_weights: WeightsHook | None = None,
    checkpointer: Callable[[str], Checkpointer] | None = None,
) -> FitResult:
    """Train the three networks; takes no labels.

    Args:
      key: Key of training.
      setup: From :func:`build_setup`.
      data: From :func:`gather_data`.
      initialization: Where to begin.
      config: Settings of losses and training.
      text_share: How far the levels of text count, in [0, 1].
      name: What this training is called, such as ``"consistency only"``.
      on_epoch: Called with the name and the row of the history after each epoch.
      on_weights: As for ``fit``.
      checkpointer: Opens the checkpoints of the training of that name, from which
        it resumes; None keeps none.
    """
    losses, train = config.losses, config.train
    return fit(
        key,
        setup.trainer,
        data,
        initialization.centers,
        weights=LossWeights(
            instance=losses.instance * text_share,
            prototype=losses.prototype * text_share,
            semantic=losses.semantic * text_share,
            balance=losses.balance,
        ),
        prior=initialization.prior,
        num_epochs=train.epochs,
        loss_tolerance=train.loss_tolerance,
        changed_tolerance=train.changed_tolerance,
        on_epoch=None if on_epoch is None else partial(on_epoch, name),
        on_weights=on_weights,
        checkpointer=None if checkpointer is None else checkpointer(name),
    )


def predict_prepared(heads: Heads, params: Params, data: TrainingData) -> Predictions:
    """Run the networks over the set that they were trained on, to the host."""
    return forward_pass(
        heads,
        params,
        images=data.images,
        nouns=data.nouns,
        noun_neighbors=data.noun_neighbors,
        noun_similarities=data.noun_similarities,
    )
