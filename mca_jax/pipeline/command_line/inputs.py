"""What a run reads: a folder of one's own, or splits of a named data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.parallel import is_first_host
from mca_jax.core.text import printable
from mca_jax.data import (
    ImageSource,
    find_images,
    folder_labels,
    load_image,
    open_source,
)
from mca_jax.data.datasets import DATASETS, ImageDataset, load_dataset
from mca_jax.data.folder import ImageFolder
from mca_jax.data.own_folders import LEFT_OUT_REASONS
from mca_jax.pipeline.config import (
    Config,
    config_from_dict,
    config_to_dict,
    settings_of_result,
)
from mca_jax.semantics import name_synsets

__all__ = [
    "ReadLabels",
    "RunInput",
    "absolute_folder",
    "open_input",
    "print_left_out",
    "reopen_input",
    "with_dataset",
]

_OUTSIDE_CONFIG = ("images", "labels", "constraints")

ReadLabels = Callable[[Sequence[str]], tuple[np.ndarray, tuple[str, ...]]]
"""Paths as in a result to the class of each, int32, and the names of the classes."""


class RunInput(NamedTuple):
    """Images of a run, and what evaluation needs.

    Attributes:
      images: The images to cluster.
      config: All settings, with the splits that were left open.
      settings: All settings that the result depends on, as plain JSON, for the
        run's ``config.json``.
      about: Which data set, and which splits are clustered and scored, for
        ``metrics.json``; empty for a folder.
      read_labels: Labels of the clustered images, or None if nobody asked for
        scores or there are none.
      held_out: Images to score on that are not clustered, or None.
      read_held_out: Their labels, or None.
    """

    images: ImageSource
    config: Config
    settings: dict[str, Any]
    about: dict[str, Any]
    read_labels: ReadLabels | None
    held_out: ImageSource | None
    read_held_out: ReadLabels | None

    @property
    def is_scored(self) -> bool:
        """Whether labels are read in the end."""
        return self.read_labels is not None or self.read_held_out is not None

    def thumbnails(self, paths: Sequence[str]) -> Callable[[int], Image.Image] | None:
        """Return what loads a picture for the report, or None for files.

        Args:
          paths: Paths of the result.

        Returns:
          Row of the result to its picture.
        """
        if self.images.root:
            return None
        rows = {name: row for row, name in enumerate(self.images.names)}
        return lambda row: load_image(self.images, rows[paths[row]])


def with_dataset(config: Config, name: str) -> Config:
    """Choose a named data set in settings.

    Args:
      config: The settings.
      name: Name of the data set.

    Returns:
      The same if they are for this data set; else with its own splits, and as
      many clusters as it has classes.

    Raises:
      InputError: There is no such data set.
    """
    dataset = DATASETS[check_one_of("--dataset", name, DATASETS)]
    if config.data.dataset == name:
        return config
    data = replace(config.data, dataset=name, train="", score="")
    return replace(config, data=data, num_clusters=dataset.num_classes)


def _labels_of(dataset: ImageDataset) -> ReadLabels:
    """Look labels up by the names of images, some of which may be left out."""

    def read(paths: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        rows = {name: row for row, name in enumerate(dataset.images.names)}
        labels = dataset.read_labels()[[rows[path] for path in paths]]
        return labels, tuple(each.name for each in dataset.classes)

    return read


def _has_labels(dataset: ImageDataset) -> bool:
    """Whether a split has labels, as those of STL-10's unlabeled images are not."""
    try:
        dataset.read_labels()
    except InputError:
        return False
    return True


def _open_dataset(config: Config, data_dir: str | None) -> RunInput:
    """Open the splits of a named data set."""
    spec, data = DATASETS[config.data.dataset], config.data
    data = replace(data, train=data.train or spec.train, score=data.score or spec.score)
    sizes: dict[str, Any] = {"limit": data.limit, "any_size": data.any_size}
    sizes["name_synsets"] = name_synsets
    train = load_dataset(data.dataset, data_dir, split=data.train, **sizes)
    same = data.score == data.train
    score = train
    if not same:
        score = load_dataset(data.dataset, data_dir, split=data.score, **sizes)
    # Now, since to find them damaged after the training would be late. What was
    # read is dropped.
    score.read_labels()
    labelled = same or _has_labels(train)
    config = replace(config, data=data)
    return RunInput(
        images=train.images,
        config=config,
        settings={**_settings(config), "images": "", "labels": ""},
        about={
            "dataset": data.dataset,
            "clustered_split": data.train,
            "scored_split": data.score,
            "num_clustered": len(train.images.names),
            "num_scored": len(score.images.names),
            "official": train.official and score.official,
        },
        read_labels=_labels_of(train) if labelled else None,
        held_out=None if same else score.images,
        read_held_out=None if same else _labels_of(score),
    )


def print_left_out(folder: ImageFolder) -> None:
    """Say which folders are not read, being ours."""
    for each in folder.skipped if is_first_host() else ():
        if each.reason in LEFT_OUT_REASONS:
            print(f"{printable(each.path)}: {each.reason}", file=sys.stderr)


def _open_folder(config: Config, images: str, labels: str | None) -> RunInput:
    """Open a folder of one's own."""
    folder = find_images(images)
    print_left_out(folder)
    if labels:
        check_one_of("--labels", labels, ("folders",))
        # As early as the images: a run of an hour must not end in this mistake.
        folder_labels(folder.paths)
    return RunInput(
        images=open_source(
            folder,
            max_pixels=round(config.data.max_megapixels * 10**6),
            partial_jpegs=config.data.partial_jpegs,
        ),
        config=config,
        settings={
            **_settings(config),
            "images": absolute_folder(images),
            "labels": labels or "",
        },
        about={},
        read_labels=folder_labels if labels else None,
        held_out=None,
        read_held_out=None,
    )


def absolute_folder(path: str) -> str:
    """The folder of ``--images``, as it is known from everywhere."""
    return os.path.abspath(os.path.expanduser(path))


def _settings(config: Config) -> dict[str, Any]:
    # A run is resumed in its workdir also with other threads or checkpoint intervals.
    return settings_of_result(config_to_dict(config))


def open_input(values: flags.FlagValues, config: Config) -> RunInput:
    """Open what the flags or, without them, the settings name.

    Args:
      values: Parsed flags.
      config: The settings.

    Raises:
      InputError: Nothing or both are named, flags don't fit each other, or the
        images can't be opened.
    """
    if values.images and values.dataset:
        raise InputError("Expected --images or --dataset, found both")
    if values.images:
        # --images overrides a config's data set.
        config = replace(config, data=replace(config.data, dataset=""))
        return _open_folder(config, values.images, values.labels)
    if not config.data.dataset:
        raise InputError(
            "Expected --images, a folder, or --dataset, the name of a data set; found "
            "neither"
        )
    if values.labels:
        raise InputError(
            f"Expected --labels for a folder of images, found it for "
            f"{config.data.dataset}, which brings its own"
        )
    check_one_of("--dataset", config.data.dataset, DATASETS)
    return _open_dataset(config, values.data_dir)


def reopen_input(settings: Mapping[str, Any], data_dir: str | None) -> RunInput:
    """Open the data set of a finished run again, to score it.

    Args:
      settings: Those of its ``config.json``.
      data_dir: Folder that holds the data set, or None.

    Raises:
      InputError: The run isn't one of a named data set, or that can't be opened.
    """
    own = {name: settings[name] for name in settings if name not in _OUTSIDE_CONFIG}
    config = config_from_dict(own)
    if not config.data.dataset:
        raise InputError("Expected a run of a named data set, found one of a folder")
    return _open_dataset(config, data_dir)
