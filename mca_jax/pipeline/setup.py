"""What the settings make of training: networks, loss and compiled steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mca_jax.alignment import Heads, build_heads
from mca_jax.alignment.losses import build_objective
from mca_jax.core.parallel import DATA_AXIS, mesh_of
from mca_jax.pipeline.config import Config
from mca_jax.training.data import TrainingData
from mca_jax.training.loop import Trainer, build_trainer
from mca_jax.training.optimizer import build_optimizer

__all__ = ["TrainingSetup", "build_setup"]


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
    mesh = mesh_of(data.images)
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
        axis_name=None if mesh is None else DATA_AXIS,
        batch_size=None if mesh is None else batch_size,
    )
    optimizer = build_optimizer(
        learning_rate=train.learning_rate,
        total_steps=train.epochs * (num_images // batch_size),
    )
    trainer = build_trainer(
        heads, objective, optimizer, batch_size=batch_size, mesh=mesh
    )
    return TrainingSetup(heads, constants, trainer)
