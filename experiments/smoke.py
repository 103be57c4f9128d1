"""The smallest size of a run that goes through every stage, for CI."""

from __future__ import annotations

from dataclasses import replace

from mca_jax.pipeline.config import Config

__all__ = ["smoke_size"]

_IMAGES = 20
_CLUSTERS = 4
_EPOCHS = 2


def smoke_size(config: Config) -> Config:
    """Cut a run to a minute on two cores, without a network.

    Few images of each split, and whatever the data set's folder holds will do;
    the encoder is the embedded one. The scores say nothing.

    Args:
      config: Settings of the full run.

    Returns:
      Settings of the small one.
    """
    return replace(
        config,
        num_clusters=_CLUSTERS,
        data=replace(config.data, limit=_IMAGES, any_size=True),
        encoder=replace(config.encoder, name="lite"),
        train=replace(config.train, epochs=_EPOCHS, batch_size=_IMAGES),
    )
