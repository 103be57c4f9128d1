"""The number of clusters of a run: given, or estimated before anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from mca_jax.core.arrays import as_whole_number
from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.parallel import same_on_all_hosts
from mca_jax.core.progress import Clock
from mca_jax.core.random import make_keys
from mca_jax.data.files import (
    SkippedImage,
    TooFewImagesError,
    count_unread,
    describe_unread,
    list_reasons,
)
from mca_jax.neighbors.cluster_count import ClusterCount, estimate_cluster_count
from mca_jax.pipeline.config import Config

__all__ = ["CountRange", "check_enough", "parse_num_clusters", "settle_num_clusters"]

_AUTO = re.compile(r"auto(?::(\d+)-(\d+))?", re.IGNORECASE)


class CountRange(NamedTuple):
    """Numbers of clusters among which one is to be estimated.

    Attributes:
      least: Smallest, at least 2.
      most: Largest; None leaves it to the number of images.
    """

    least: int = 2
    most: int | None = None


def parse_num_clusters(value: int | str) -> int | CountRange:
    """Read a number of clusters as a user writes it.

    Args:
      value: A whole number, ``"auto"`` or ``"auto:LOW-HIGH"``.

    Returns:
      The number, or the range to estimate one in.

    Raises:
      InputError: It is none of these, or the range is empty or starts below 2.

    Example:
      >>> parse_num_clusters("20"), parse_num_clusters("auto:5-60")
      (20, CountRange(least=5, most=60))
    """
    if not isinstance(value, str):
        return as_whole_number("num_clusters", value)
    text = value.strip()
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    found = _AUTO.fullmatch(text)
    if not found:
        raise InputError(
            "Expected num_clusters as a whole number, auto or auto:LOW-HIGH such as "
            f"auto:5-60, found {value!r}"
        )
    if found[1] is None:
        return CountRange()
    least, most = int(found[1]), int(found[2])
    check_in_range(f"the low end of num_clusters={text}", least, 2)
    if most < least:
        raise InputError(
            f"Expected num_clusters=auto:LOW-HIGH with LOW at most HIGH, found {text!r}"
        )
    return CountRange(least, most)


def check_enough(
    count: int, skipped: Iterable[SkippedImage], wanted: int | CountRange
) -> None:
    """Check that there are enough images for a number of clusters.

    Args:
      count: Number of images.
      skipped: Files that are not among them.
      wanted: Number of clusters, or the range to look for it in.

    Raises:
      InputError: There are fewer, or the number is below 2; files that were not
        read are named.
    """
    num_clusters = wanted.least if isinstance(wanted, CountRange) else wanted
    skipped = tuple(skipped)
    unreadable = [each for each in skipped if each.kind == "unreadable"]
    if count < num_clusters and unreadable:
        raise TooFewImagesError(
            f"Only {count:,} of {count + len(unreadable):,} images could be read, "
            f"fewer than num_clusters={num_clusters}: {list_reasons(unreadable)}",
            skipped,
        )
    if count < num_clusters and count_unread(skipped):
        raise TooFewImagesError(
            f"Found {count:,} image{'s' * (count != 1)}, fewer than "
            f"num_clusters={num_clusters}; {describe_unread(skipped)}",
            skipped,
        )
    if count < 2:
        raise InputError(f"Expected at least 2 images to cluster, found {count}")
    check_in_range("num_clusters", num_clusters, 2, count)


def settle_num_clusters(
    embeddings: np.ndarray,
    wanted: int | CountRange,
    config: Config,
    clock: Clock,
    *,
    views: np.ndarray | None = None,
) -> tuple[Config, dict[str, Any]]:
    """Put the number of clusters into the settings; estimate it if it isn't given.

    Args:
      embeddings: Of the images, ``[n, d]``.
      wanted: From :func:`parse_num_clusters`.
      config: All other settings. The same settings, images and range give the same
        number, so that a run that is typed again goes on.
      clock: Told of the stage.
      views: Embeddings of some images' views; None where there are none.

    Returns:
      The settings with the number, and what to note among the metrics: the
      estimate under ``"cluster_count"``, or nothing.

    Raises:
      InputError: The range goes beyond the images.
    """
    if not isinstance(wanted, CountRange):
        return replace(config, num_clusters=wanted), {}
    clock.report_stage("Counting clusters")
    found = estimate_cluster_count(
        make_keys(jax.random.key(config.seed)).cluster_count,
        embeddings,
        views=views,
        least=wanted.least,
        most=wanted.most,
        components=config.encoder.components,
        whitening=config.encoder.whitening,
        shrinkage=config.encoder.shrinkage,
        smoothing_steps=config.retrieval.smoothing_steps,
    )
    clock.stop()
    # Hosts of different make may round apart, and then would train different heads.
    agreed = same_on_all_hosts(np.array([found.num_clusters, found.low, found.high]))
    count, low, high = agreed.tolist()
    noted = _metric(found._replace(num_clusters=count, low=low, high=high))
    return replace(config, num_clusters=count), {"cluster_count": noted}


def _metric(found: ClusterCount) -> dict[str, Any]:
    """Turn an estimate into plain JSON values."""
    return {
        "num_clusters": found.num_clusters,
        "interval": [found.low, found.high],
        "range": [int(found.counts[0]), int(found.counts[-1])],
        "num_images": found.num_images,
        "partition": found.partition,
        "modes": found.modes,
        "scores": [float(score) for score in found.scores],
    }
