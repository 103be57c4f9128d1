"""The model of a run: all that is needed to place a new image, and no picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mca_jax.data.files import SkippedImage

__all__ = [
    "NONE_OF_THESE",
    "Cluster",
    "ClusterModel",
    "Memory",
    "Network",
    "Prediction",
    "ScoredNoun",
    "Split",
]

NONE_OF_THESE = "none of these"
"""What an image is called that is far from all clusters."""


@dataclass(frozen=True)
class ScoredNoun:
    """A noun that speaks for a cluster.

    Attributes:
      name: The noun, with spaces.
      synset: WordNet 3.0 id such as ``"n02084071"``, or empty.
      score: Share of the cluster's text evidence, in [0, 1].
      gloss: Its definition, or empty.
    """

    name: str
    synset: str
    score: float
    gloss: str


@dataclass(frozen=True)
class Cluster:
    """One group of images.

    Attributes:
      index: Number of the cluster, from 0: its column of the probabilities.
      size: Number of its images; 0 for a dead cluster.
      name: Its printable name, distinct from the other clusters' names.
      confidence: Mean assignment probability of its images, in [0, 1].
      nouns: The nouns behind the name, best first.
      exemplars: Rows of the images nearest to its centre, nearest first.
      id: What edits name it by: the index that it had in the run, and the same when
        other clusters are merged or split. -1 takes the index.
      guess: Whether the name is a guess: images and nouns hardly fit.
    """

    index: int
    size: int
    name: str
    confidence: float
    nouns: tuple[ScoredNoun, ...]
    exemplars: tuple[int, ...]
    id: int = -1
    guess: bool = False

    def __post_init__(self) -> None:
        """Take the index for want of an id."""
        if self.id < 0:
            object.__setattr__(self, "id", self.index)


class Network(NamedTuple):
    """A projection and the three networks behind it.

    Attributes:
      mean: Subtracted from an embedding first, float32 ``[d]``.
      axes: Scaled principal axes, float32 ``[d, c]``.
      noun_mean: Subtracted from the embedding of a noun in place of ``mean``,
        float32 ``[d]``.
      params: Weights of the three networks, a nested dict of arrays.
      constants: Arguments of ``build_heads``: number of clusters, starting scale,
        and the attention's width, temperature and null similarity.
    """

    mean: np.ndarray
    axes: np.ndarray
    noun_mean: np.ndarray
    params: Any
    constants: dict[str, Any]


class Memory(NamedTuple):
    """The training images as points, to smooth a new image as they were smoothed.

    Attributes:
      projected: Unit vectors to find the nearest images by, float32 ``[n, c]``.
      before: The same images before the last step of smoothing, ``[n, c]``.
      num_near: Nearest images whose mean a new image takes, at least 1; 0 where
        nothing was smoothed, and then there are no rows.
    """

    projected: np.ndarray
    before: np.ndarray
    num_near: int


class Split(NamedTuple):
    """One cluster cut into parts by networks of its own.

    A model's *columns* are the outputs of its network, then those of each split
    in turn.

    Attributes:
      members: Columns before the split that made up the cluster, bool.
      network: Reads what the model's own projection gives.
    """

    members: np.ndarray
    network: Network


@dataclass(frozen=True)
class ClusterModel:
    """A trained clustering, with the edits that were made since.

    Attributes:
      encoder: ``name``, ``fingerprint``, ``domain`` and ``licence``; the name is
        ``"given embeddings"`` for a run without an encoder.
      config: The settings that the result depends on, as plain JSON.
      network: Projection and networks as they were trained.
      nouns: Nouns of the semantic space, ``m`` names.
      synsets: Their WordNet ids, or empty.
      glosses: Their definitions, or empty.
      memory: The training images as points.
      noun_rows: Their rows in the vocabulary, int32 ``[m]``.
      noun_embeddings: Their projected unit vectors, float32 ``[m, c]``.
      num_neighbors: Nouns that an image attends to, at least 1.
      centers: Unit direction from the mean image to the mean image of each
        column of the network, float32 ``[k, d]``; zero for a dead one.
      closeness: Quantiles of the largest cosine of a training image to
        ``centers``, float32 ``[1001]``, ascending: entry ``i`` is that of
        ``i / 1000``. An image below a low one is none of these.
      splits: Clusters that were cut, in order.
      groups: Cluster of each column, int32; -1 for a column whose cluster was cut.
      clusters: Names, nouns, sizes and confidences of the clusters.
      edits: What was done since training, oldest first, as plain JSON.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> example_result().model.nouns
      ('cat', 'boat', 'tree')
    """

    encoder: dict[str, str]
    config: dict[str, Any]
    network: Network
    nouns: tuple[str, ...]
    synsets: tuple[str, ...]
    glosses: tuple[str, ...]
    memory: Memory
    noun_rows: np.ndarray
    noun_embeddings: np.ndarray
    num_neighbors: int
    centers: np.ndarray
    closeness: np.ndarray
    splits: tuple[Split, ...]
    groups: np.ndarray
    clusters: tuple[Cluster, ...]
    edits: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Prediction:
    """Where a model places images.

    Attributes:
      paths: One an image: the path relative to the folder, the path as it was
        given in a list, or ``"row-000012"`` for arrays.
      clusters: Cluster of each image, int32 ``[n]``; -1 for none of these.
      nearest: Cluster of each image, also of one that is none of these, int32
        ``[n]``.
      names: Name of each image's cluster, or ``"none of these"``.
      confidences: Probability of the nearest cluster, float32 ``[n]`` in [0, 1].
      probabilities: Of every cluster, float32 ``[n, k]``; rows sum to 1.
      closeness: Largest cosine to the middle of a cluster, float32 ``[n]`` in
        [-1, 1]; what lies below ``threshold`` is none of these.
      threshold: The least closeness of an image that belongs to a cluster.
      nouns: Nouns of the semantic space that each image attends to, most first.
      skipped: Files that could not be read.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> from mca_jax.model.predict import Predictor
      >>> predictor = Predictor(example_result().model)
      >>> predictor.predict(image_embeddings=np.eye(4)).clusters[3]
      np.int32(-1)
    """

    paths: tuple[str, ...]
    clusters: np.ndarray
    nearest: np.ndarray
    names: tuple[str, ...]
    confidences: np.ndarray
    probabilities: np.ndarray
    closeness: np.ndarray
    threshold: float
    nouns: tuple[tuple[str, ...], ...]
    skipped: tuple[SkippedImage, ...] = ()
