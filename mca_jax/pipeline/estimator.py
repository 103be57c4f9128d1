"""The whole job as an estimator with scikit-learn's conventions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from mca_jax.core.errors import InputError
from mca_jax.data import ImageSource
from mca_jax.data.folder import ImageFolder
from mca_jax.model.constraints import Given
from mca_jax.model.predict import Predictor
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config
from mca_jax.semantics import NounTable

__all__ = ["MCA"]

# Rows that stand in for nouns where there are none; nothing is learnt from them.
_ALMOST_ZERO = np.float32(1e-12)
_STAND_INS = 32


class MCA(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Clusters images, or embeddings, into groups; with nouns the groups get names.

    ``X`` is a folder, paths of files, PIL images or pixels ``[n, h, w, 3]``, as for
    :func:`mca_jax.cluster`; or a table of embeddings ``[n, d]``. A table comes with
    ``noun_embeddings`` of the same encoder; without them the levels that read text are
    off, which leaves neighbours and balance, and the clusters have numbers for names.

    ``predict`` always answers with a cluster; :class:`mca_jax.Predictor` also says
    which images are none of these.

    Attributes:
      labels_: Cluster of each image, int32 ``[n]``. Files that could not be read are
        left out: ``result_.paths`` and ``result_.skipped`` say which.
      probabilities_: Assignment probabilities, float32 ``[n, k]``.
      cluster_names_: Name of each cluster, ``[k]``.
      result_: All that the run gave, as :func:`mca_jax.cluster` returns it.

    Example:
      >>> import numpy as np
      >>> axes = np.eye(4, dtype=np.float32)
      >>> model = MCA(2, noun_embeddings=axes, nouns=["cat", "boat", "tree", "lamp"])
      >>> labels = model.fit_predict(np.repeat(axes[:2], 20, axis=0))
      >>> sorted(model.cluster_names_.tolist())
      ['boat', 'cat']
      >>> model.cluster_names_[model.predict(axes[:1])]
      array(['cat'], dtype='<U4')
    """

    def __init__(
        self,
        n_clusters: int | str = "auto",
        *,
        encoder: str | None = None,
        seed: int | None = None,
        nouns: Sequence[str] | NounTable | None = None,
        noun_embeddings: Any = None,
        config: Config | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Keep the settings; nothing is checked before ``fit``.

        Args:
          n_clusters: At least 2 and at most ``n``; ``"auto"`` estimates it,
            ``"auto:5-60"`` in a range.
          encoder: ``"lite"``, ``"lite2"``, a Hugging Face id or a local folder, for
            images; None takes that of ``config``.
          seed: Of everything random; None takes that of ``config``.
          nouns: The nouns of ``noun_embeddings``.
          noun_embeddings: For a table of embeddings: those of the nouns, ``[m, d]``.
          config: All other settings; None takes the defaults.
          cache_dir: Folder that keeps embeddings of images for later runs.
        """
        self.n_clusters = n_clusters
        self.encoder = encoder
        self.seed = seed
        self.nouns = nouns
        self.noun_embeddings = noun_embeddings
        self.config = config
        self.cache_dir = cache_dir

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        *,
        constraints: Given | None = None,
    ) -> MCA:
        """Cluster images or embeddings.

        Args:
          X: Images, or a table of embeddings ``[n, d]``.
          y: Not read: there are no labels.
          constraints: As for :func:`mca_jax.cluster`.

        Raises:
          InputError: ``X`` and the parameters don't fit each other, a value is out of
            range, or no image can be read.
        """
        config = self.config or Config()
        if self.encoder is not None:
            config = replace(config, encoder=replace(config.encoder, name=self.encoder))
        if self.seed is not None:
            config = replace(config, seed=self.seed)
        images: Any = list(X) if isinstance(X, Iterator) else X
        if _is_table(images):
            table = validate_data(self, images, dtype=np.float32, ensure_min_samples=2)
            result = self._fit_table(np.asarray(table), config, constraints)
        elif self.noun_embeddings is not None or self.nouns is not None:
            raise InputError(
                "Expected nouns and noun_embeddings with a table of embeddings, found "
                "images; name a file of nouns as semantics.vocabulary in config"
            )
        else:
            result = cluster(
                images,
                num_clusters=self.n_clusters,
                config=config,
                cache_dir=self.cache_dir,
                constraints=constraints,
            )
        self.result_ = result
        self.labels_ = result.assignments
        self.probabilities_ = result.probabilities
        self.cluster_names_ = np.array([each.name for each in result.clusters])
        self._predictor = Predictor(result.model)
        return self

    def _fit_table(
        self,
        table: Float[np.ndarray, "n d"],
        config: Config,
        constraints: Given | None,
    ) -> ClusterResult:
        if self.noun_embeddings is not None or self.nouns is not None:
            return cluster(
                image_embeddings=table,
                noun_embeddings=self.noun_embeddings,
                nouns=self.nouns,
                num_clusters=self.n_clusters,
                config=config,
                constraints=constraints,
            )
        # A row of zeros is a point like others where no noun is compared with it.
        table = np.where(np.any(table, axis=1, keepdims=True), table, _ALMOST_ZERO)
        config = replace(
            config,
            losses=replace(
                config.losses,
                **{"instance": 0.0, "prototype": 0.0, "semantic": 0.0},
                prior="uniform",
            ),
            semantics=replace(config.semantics, min_uniqueness=0.0),
        )
        rows = np.linspace(0, len(table) - 1, min(_STAND_INS, len(table))).astype(int)
        result = cluster(
            image_embeddings=table,
            noun_embeddings=table[rows],
            nouns=[f"row {row}" for row in rows],
            num_clusters=self.n_clusters,
            config=config,
            constraints=constraints,
        )
        clusters = tuple(
            replace(each, name=f"cluster {each.index}", nouns=())
            for each in result.clusters
        )
        model = replace(result.model, clusters=clusters)
        # The warnings are of the names.
        return replace(result, clusters=clusters, model=model, warnings=())

    def _predict(self, X: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        check_is_fitted(self)
        images: Any = list(X) if isinstance(X, Iterator) else X
        if _is_table(images):
            table = validate_data(self, images, dtype=np.float32, reset=False)
            found = self._predictor.predict(image_embeddings=table)
        else:
            found = self._predictor.predict(images)
        return found.nearest, found.probabilities

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:  # noqa: N803
        """Assign images or embeddings to the clusters.

        Args:
          X: Of the kind that was fitted. Those of the fitted set get their label.

        Returns:
          Cluster of each that could be read, int32.
        """
        return self._predict(X)[0]

    def transform(self, X: Any) -> Float[np.ndarray, "n k"]:  # noqa: N803
        """Compute the assignment probabilities, float32; rows sum to 1.

        Args:
          X: As for ``predict``.
        """
        return self._predict(X)[1]

    def fit_transform(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        **fit_params: Any,
    ) -> Float[np.ndarray, "n k"]:
        """Cluster, and return the probabilities; images are read once.

        Args:
          X: As for ``fit``.
          y: Not read.
          **fit_params: ``constraints``, as for ``fit``.
        """
        return self.fit(X, y, **fit_params).probabilities_

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_names_)

    def __sklearn_tags__(self) -> Any:
        """Say that results are float32, whatever comes in."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Leave out compiled functions."""
        whole: Any = super().__getstate__()
        return {name: v for name, v in whole.items() if name != "_predictor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take compiled functions anew, if it was fitted."""
        super().__setstate__(state)
        if "result_" in state:
            self._predictor = Predictor(self.result_.model)


def _is_table(values: Any) -> bool:
    """Tell a table of numbers, also a bad one, from images."""
    known = (str, os.PathLike, Image.Image, ImageFolder, ImageSource)
    if isinstance(values, known):
        return False
    if len(getattr(values, "shape", (0,))) != 1 or not isinstance(values, Iterable):
        return len(getattr(values, "shape", ())) <= 2
    first: Any = next(iter(values), None)
    return not isinstance(first, (str, os.PathLike, Image.Image)) and np.ndim(first) < 2
