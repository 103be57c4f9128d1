"""Reads images as the encoder of a finished run saw its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax
import numpy as np

from mca_jax.core.errors import InputError
from mca_jax.data import Batch, ImageSource, load_batches
from mca_jax.encoders import Encoder, build_encoder
from mca_jax.encoders.rows import compile_rows
from mca_jax.model.cluster_model import ClusterModel

__all__ = ["ImageReader", "load_encoder"]


def load_encoder(model: ClusterModel) -> Encoder:
    """Load the encoder that a model was trained with.

    Args:
      model: The model.

    Returns:
      The encoder.

    Raises:
      InputError: There is none, or it gives other embeddings by now.
    """
    name, expected = model.encoder["name"], model.encoder["fingerprint"]
    if not expected:
        raise InputError(
            "Expected image_embeddings, found images: this run was made from given "
            "embeddings and knows no encoder"
        )
    encoder = build_encoder(name, dtype=model.config["encoder"]["dtype"])
    found = encoder.image_fingerprint or encoder.fingerprint
    if found != expected:
        raise InputError(
            f"Expected encoder {name!r} with fingerprint {expected[:16]}, found "
            f"{found[:16]}: its weights or preprocessing changed since the run; "
            "restore them or run it again"
        )
    return encoder


class ImageReader:
    """Embeds images window by window, with one compilation for all.

    Attributes:
      encoder: The encoder of the run.
    """

    def __init__(self, model: ClusterModel) -> None:
        """Load and prepare the encoder.

        Args:
          model: Model of the run.

        Raises:
          InputError: There is no encoder, or it isn't that of the run any more.
        """
        self.encoder = load_encoder(model)
        # What a run of an earlier release did not note takes today's defaults.
        settings = {"batch_size": 32, "store_dtype": "float32", "threads": 0}
        settings |= model.config["encoder"]
        self._batch_size = settings["batch_size"]
        self._store_dtype = settings["store_dtype"]
        self._threads = settings["threads"] or None
        self._encode = compile_rows(
            self.encoder.encode_images, self.encoder.params, self._batch_size
        )

    def read(
        self, source: ImageSource, rows: range, progress: Callable[[int], Any]
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Embed some rows: while one batch computes, the next is decoded.

        Args:
          source: Where the images come from.
          rows: Consecutive rows; all their embeddings are held at once.
          progress: Called with the number of images done since the last call.

        Returns:
          Unit vectors, float32 ``[len(rows), d]``, and by row the reason why
          there is none.
        """
        encoder, encode = self.encoder, self._encode
        vectors = np.zeros((len(rows), encoder.width), np.float32)
        reasons: dict[int, str] = {}
        first_rows: dict[bytes, int] = {}
        repeated: list[tuple[int, bytes]] = []
        computing: tuple[Batch, jax.Array] | None = None

        def finish(batch: Batch, embeddings: jax.Array) -> None:
            # Rounded as training kept them.
            known = np.asarray(embeddings, self._store_dtype)
            known = known[: len(batch.images)]
            for image, vector in zip(batch.images, known, strict=True):
                first_rows[image.digest] = image.row
                vectors[image.row - rows.start] = vector
                if not np.isfinite(vector).all():
                    reasons[image.row] = "the encoder gives no finite embedding"
            progress(len(batch.images))

        batches = load_batches(
            source,
            encoder.preprocess,
            image_size=encoder.image_size,
            batch_size=self._batch_size,
            rows=rows,
            # As in training, for the same embeddings.
            min_side=2 * max(encoder.image_size),
            threads=self._threads,
        )
        with closing(batches):
            for batch in batches:
                for image in batch.others:
                    if image.reason:
                        reasons[image.row] = image.reason
                    else:
                        repeated.append((image.row, image.digest))
                progress(len(batch.others))
                if batch.images:
                    embeddings = encode(batch.pixels)
                    if computing is not None:
                        finish(*computing)
                    computing = (batch, embeddings)
        if computing is not None:
            finish(*computing)
        for row, digest in repeated:
            first = first_rows[digest]
            vectors[row - rows.start] = vectors[first - rows.start]
            if first in reasons:
                reasons[row] = reasons[first]
        return vectors, reasons
