"""Assigns new images to the clusters of a finished run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.core.arrays import as_numbers
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.data import Images, ImageSource, open_source
from mca_jax.data.decode import MAX_PIXELS
from mca_jax.data.files import SkippedImage, TooFewImagesError, list_reasons
from mca_jax.encoders import Encoder, build_encoder
from mca_jax.encoders.device import choose_batch_size
from mca_jax.encoders.embed_images import encode_rows
from mca_jax.encoders.encoder import compile_encoder
from mca_jax.model.assign import Assigned, build_assign, build_projection
from mca_jax.model.cluster_model import NONE_OF_THESE, ClusterModel, Prediction
from mca_jax.model.files import read_model
from mca_jax.model.result import ClusterResult, read_result

__all__ = [
    "OUTLIER_QUANTILE",
    "Images",
    "Predictor",
    "load",
    "load_encoder",
    "project_images",
]

OUTLIER_QUANTILE = 0.005
"""Default share of the training images that lie below the threshold."""

# Rows that are assigned at once, in one compiled shape.
_BLOCK = 1024
# Images that are held at once, as embeddings.
_WINDOW = 2048
# Nouns that are named of each image.
_NUM_NOUNS = 3


def load(folder: str | os.PathLike[str]) -> Predictor:
    """Load a finished run from its workdir, or from where ``save`` put a result.

    Returns:
      What assigns new images; ``load(folder).result`` is the result itself.

    Raises:
      InputError: The folder is not a finished run's, or a file of it is damaged.

    Example:
      >>> import tempfile
      >>> import mca_jax
      >>> from mca_jax.pipeline.example import example_result
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     files = mca_jax.write_outputs(example_result(), folder)
      ...     predictor = load(folder)
      >>> predictor.predict(image_embeddings=np.eye(4)).names
      ('cat', 'boat', 'tree', 'none of these')
    """
    return Predictor(read_model(folder), folder)


def load_encoder(model: ClusterModel) -> Encoder:
    """Load the encoder that a model was trained with.

    Raises:
      InputError: There is none, or it gives other embeddings by now.
    """
    name, expected = model.encoder["name"], model.encoder["fingerprint"]
    if not expected:
        raise InputError(
            "Expected image_embeddings, found images: this run was made from given "
            "embeddings and knows no encoder"
        )
    settings = model.config["encoder"]
    revision = settings.get("revision") or None
    encoder = build_encoder(
        name,
        dtype=settings["dtype"],
        revision=revision,
        image=settings.get("image", ""),
    )
    found = encoder.image_fingerprint or encoder.fingerprint
    if found != expected:
        raise InputError(
            f"Expected encoder {name!r} with fingerprint {expected[:16]}, found "
            f"{found[:16]}: its weights or preprocessing changed since the run; "
            "restore them or run it again"
        )
    return encoder


def _build_embed(model: ClusterModel) -> Callable[..., tuple[np.ndarray, dict]]:
    """Return the function that embeds rows as training did, compiled once.

    It takes a source, consecutive rows of it and a progress callback, and returns unit
    vectors, float32 ``[len(rows), d]``, and by row the reason why there is none.
    """
    encoder = load_encoder(model)
    # What a run of an earlier release did not record takes today's defaults.
    settings = {"batch_size": 0, "store_dtype": "float32", "threads": 0}
    settings |= model.config["encoder"]
    batch_size = choose_batch_size(settings["batch_size"])
    encode = compile_encoder(encoder.encode_images, encoder.params, batch_size)

    def embed(
        source: ImageSource, rows: range, progress: Callable[[int], Any] | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        # Rounded as training kept them.
        table = np.zeros((len(rows), encoder.width), settings["store_dtype"])
        reasons, _ = encode_rows(
            encoder,
            source,
            rows,
            table,
            first=rows.start,
            batch_size=batch_size,
            encode=encode,
            threads=settings["threads"] or None,
            progress=progress,
        )
        return table.astype(np.float32), reasons

    return embed


def project_images(model: ClusterModel, embeddings: np.ndarray) -> np.ndarray:
    """Project embeddings ``[n, d]`` to what is clustered, unit vectors ``[n, c]``."""
    project, arrays = build_projection(model)
    vectors = np.asarray(embeddings, np.float32)
    blocks = [
        np.asarray(project(arrays, jnp.asarray(vectors[start : start + _BLOCK])))
        for start in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(blocks)


class Predictor:
    """Assigns images to the clusters of a model.

    Attributes:
      model: The model.

    Example:
      >>> from mca_jax.pipeline.example import example_result
      >>> predictor = Predictor(example_result().model)
      >>> predictor.predict(image_embeddings=np.eye(4)[1:2]).nouns[0][0]
      'boat'
    """

    def __init__(
        self, model: ClusterModel, folder: str | os.PathLike[str] | None = None
    ) -> None:
        """Take a model; nothing is compiled or loaded yet.

        Args:
          model: The model.
          folder: Where its run is, for :attr:`result`; None where it is nowhere.
        """
        self.model = model
        self._folder = folder
        assign, arrays = build_assign(model)
        self._assign = jax.jit(assign)
        self._arrays = jax.device_put(arrays)
        self._embed: Callable[..., tuple[np.ndarray, dict]] | None = None

    @cached_property
    def result(self) -> ClusterResult:
        """The result of the run, read from its folder when it is first asked for.

        Raises:
          InputError: The model was not loaded from a folder, or a file is damaged.
        """
        if self._folder is None:
            raise InputError(
                "Expected a predictor from mca_jax.load, found one of a model alone, "
                "which has no result"
            )
        return read_result(self._folder)

    def predict(
        self,
        images: Images | None = None,
        *,
        image_embeddings: Any = None,
        outlier_quantile: float = OUTLIER_QUANTILE,
    ) -> Prediction:
        """Assign images to clusters.

        An image of the training set gets the cluster that it has in the run.

        Args:
          images: Folder, read recursively, also as ``find_images`` returns it;
            paths of files; PIL images; or pixels, uint8 ``[n, h, w, 3]``.
          image_embeddings: In place of ``images``: vectors of the run's encoder,
            ``[n, d]``.
          outlier_quantile: Sets the threshold for "none of these": fewer than this
            share of the training images lie below it, in [0, 1]. No label is needed
            for it. 0 flags nothing but what is farther out than every training image.

        Returns:
          Clusters, probabilities and nouns of all images that could be read.

        Raises:
          InputError: No image can be read, the embeddings don't fit the model, an
            argument is out of range, or the encoder isn't that of the run.
        """
        if (images is None) == (image_embeddings is None):
            found = "neither" if images is None else "both"
            raise InputError(f"Expected images or image_embeddings, found {found}")
        if images is None:
            vectors = self._check_vectors(image_embeddings)
            paths = tuple(f"row-{row:06d}" for row in range(len(vectors)))
            return self._describe(paths, vectors, self._threshold(outlier_quantile), ())
        assert images is not None
        parts = list(self.stream(images, outlier_quantile=outlier_quantile))
        if not any(part.paths for part in parts):
            skipped = [each for part in parts for each in part.skipped]
            raise TooFewImagesError(
                f"No readable image among {len(skipped)}: {list_reasons(skipped)}",
                skipped,
            )
        return _join(parts)

    def stream(
        self,
        images: Images,
        *,
        outlier_quantile: float = OUTLIER_QUANTILE,
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[Prediction]:
        """Assign any number of images in bounded memory.

        Args:
          images: As for ``predict``.
          outlier_quantile: As for ``predict``.
          progress: Called with the number of images done since the last call.

        Yields:
          One part for each 2048 images, in their order; a part may have no image
          that could be read.

        Raises:
          InputError: As for ``predict``, but for images that can't be read.
        """
        threshold = self._threshold(outlier_quantile)
        # Runs of earlier versions know of no such settings.
        data = self.model.config.get("data", {})
        source = open_source(
            images,
            max_pixels=round(data.get("max_megapixels", MAX_PIXELS / 10**6) * 10**6),
            partial_jpegs=data.get("partial_jpegs", False),
        )
        if self._embed is None:
            self._embed = _build_embed(self.model)
        count = len(source.names)
        listed = source.skipped
        for start in range(0, count, _WINDOW):
            rows = range(start, min(start + _WINDOW, count))
            vectors, reasons = self._embed(source, rows, progress)
            good = [row for row in rows if row not in reasons]
            skipped = [
                SkippedImage(source.names[row], reasons[row]) for row in sorted(reasons)
            ]
            yield self._describe(
                tuple(source.names[row] for row in good),
                vectors[np.asarray(good, np.int64) - start],
                threshold,
                (*listed, *skipped),
            )
            listed = ()

    def _threshold(self, outlier_quantile: float) -> float:
        check_in_range("outlier_quantile", outlier_quantile, 0, 1)
        quantiles = self.model.closeness
        # Rounding may move an image by the last digits, not over the threshold.
        entry = int(round(outlier_quantile * (len(quantiles) - 1), 6))
        return float(quantiles[entry]) - 1e-5

    def _check_vectors(self, vectors: Any) -> np.ndarray:
        """Check given embeddings.

        Raises:
          InputError: They don't fit the model.
        """
        array = np.asarray(as_numbers("image_embeddings", vectors), np.float32)
        width = self.model.network.mean.shape[0]
        if array.ndim != 2 or array.shape[1] != width:
            raise InputError(
                f"Expected image_embeddings of shape [n, {width}], found "
                f"{list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise InputError("Expected finite image_embeddings, found other values")
        return array

    def assign(self, vectors: np.ndarray) -> Assigned:
        """Assign embeddings block by block, in one compiled shape.

        Args:
          vectors: Embeddings of images, float32 ``[n, d]``.

        Returns:
          All that the model says of them, as arrays on the host.
        """
        blocks = []
        for start in range(0, max(len(vectors), 1), _BLOCK):
            part = vectors[start : start + _BLOCK]
            padded = np.zeros((_BLOCK, vectors.shape[1]), np.float32)
            padded[: len(part)] = part
            assigned = self._assign(self._arrays, jnp.asarray(padded))
            blocks.append([np.asarray(each)[: len(part)] for each in assigned])
        columns: list[Any] = [
            np.concatenate(each) for each in zip(*blocks, strict=True)
        ]
        return Assigned(*columns)

    def _describe(
        self,
        paths: tuple[str, ...],
        vectors: np.ndarray,
        threshold: float,
        skipped: tuple[SkippedImage, ...],
    ) -> Prediction:
        """Put the answer for some images together."""
        assigned: Any = self.assign(vectors)
        clusters = np.where(assigned.closeness < threshold, -1, assigned.clusters)
        # The last name is that of -1.
        names = [*(cluster.name for cluster in self.model.clusters), NONE_OF_THESE]
        return Prediction(
            paths=paths,
            clusters=clusters.astype(np.int32),
            nearest=assigned.clusters,
            names=tuple(names[cluster] for cluster in clusters),
            confidences=assigned.probabilities[
                np.arange(len(paths)), assigned.clusters
            ],
            probabilities=assigned.probabilities,
            closeness=assigned.closeness,
            threshold=threshold,
            nouns=tuple(
                tuple(self.model.nouns[noun] for noun in row[:_NUM_NOUNS])
                for row in assigned.noun_rows
            ),
            skipped=skipped,
        )


def _join(parts: Sequence[Prediction]) -> Prediction:
    """Put the parts of a stream into one."""
    arrays = ("clusters", "nearest", "confidences", "probabilities", "closeness")
    joined: dict[str, Any] = {
        name: np.concatenate([vars(part)[name] for part in parts]) for name in arrays
    }
    for name in ("paths", "names", "nouns", "skipped"):
        joined[name] = tuple(item for part in parts for item in vars(part)[name])
    return Prediction(**joined, threshold=parts[0].threshold)
