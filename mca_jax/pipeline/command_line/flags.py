"""The flags of the sub-commands, and what they mean as settings."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from textwrap import wrap
from typing import Any

from absl import flags

from mca_jax.core.errors import InputError, check_one_of
from mca_jax.core.parallel import JOIN_TIMEOUT
from mca_jax.data.datasets import DATASETS
from mca_jax.model.predict import OUTLIER_QUANTILE
from mca_jax.pipeline.command_line.inputs import with_dataset
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.num_clusters import parse_num_clusters
from mca_jax.report.export import EXPORTS

__all__ = [
    "EMBEDDINGS",
    "check_apart",
    "check_present",
    "define_flags",
    "describe_flags",
    "read_config",
]

EMBEDDINGS = "npz"
"""The format of ``--formats`` that holds embeddings."""

_SMOKE = ":smoke"
# What flags were called before; they are taken, and not shown.
_ALIASES = {"checkpoint": "run", "none_share": "outlier_quantile"}


_Row = tuple[Callable[..., object], str, Any, str]
_OVERWRITE: _Row = (
    flags.DEFINE_bool,
    "overwrite",
    False,
    "Take over a workdir of other settings.",
)
_FINISHED: tuple[_Row, ...] = (
    (flags.DEFINE_string, "run", None, "Workdir of the finished run."),
)
_PREDICT: tuple[_Row, ...] = (
    (
        flags.DEFINE_float,
        "outlier_quantile",
        OUTLIER_QUANTILE,
        "Share of the run's own images that lie below the threshold for 'none of "
        "these', in [0, 1].",
    ),
    _OVERWRITE,
)
_EXPORT: tuple[_Row, ...] = (
    (
        flags.DEFINE_list,
        "formats",
        ["csv"],
        f"Any of {', '.join((*EXPORTS, EMBEDDINGS))}.",
    ),
)
_REVIEWED: tuple[_Row, ...] = (
    (
        flags.DEFINE_bool,
        "reviewed",
        True,
        "Take the groups as they were edited in mca-jax review, if they were.",
    ),
    (
        flags.DEFINE_string,
        "version",
        None,
        "Name that a version of the edits was kept under. (default: the last state)",
    ),
)
_REVIEW: tuple[_Row, ...] = (
    (flags.DEFINE_integer, "port", 0, "Port on this machine; 0 takes a free one."),
    (flags.DEFINE_bool, "browser", True, "Open the page in a browser."),
    (
        flags.DEFINE_string,
        "data_dir",
        None,
        "Folder that holds the data set of the run.",
    ),
)
_COMMON: tuple[_Row, ...] = (
    (flags.DEFINE_string, "images", None, "Folder of images, read recursively."),
    (flags.DEFINE_string, "workdir", None, "Folder for the results."),
)
# Where a flag stands for a setting, None leaves that as --config has it.
_RUN: tuple[_Row, ...] = (
    (
        flags.DEFINE_string,
        "num_clusters",
        None,
        "Number of clusters, at least 2; auto, or auto:LOW-HIGH, estimates it.",
    ),
    (
        flags.DEFINE_string,
        "dataset",
        None,
        f"In place of --images: {', '.join(sorted(DATASETS))}.",
    ),
    (
        flags.DEFINE_string,
        "data_dir",
        None,
        "Folder that holds the data set, or that takes it.",
    ),
    (
        flags.DEFINE_string,
        "labels",
        None,
        "'folders': sub-folder names are labels, for evaluation only.",
    ),
    (
        flags.DEFINE_string,
        "encoder",
        None,
        "lite, lite2, a Hugging Face id or a local folder. "
        f"(default: {Config().encoder.name})",
    ),
    (
        flags.DEFINE_string,
        "image_encoder",
        None,
        "Second encoder that sees the images beside the first: as --encoder, or a "
        "DINOv2 or DINOv3 checkpoint.",
    ),
    (
        flags.DEFINE_string,
        "text_encoder",
        None,
        "Sentence encoder for the nouns: Hugging Face id or local folder.",
    ),
    (
        flags.DEFINE_integer,
        "seed",
        None,
        f"Seed of everything random. (default: {Config().seed})",
    ),
    (
        flags.DEFINE_string,
        "constraints",
        None,
        "JSON file of what you know of single images: must_link, cannot_link, labels, "
        "nowhere.",
    ),
    (
        flags.DEFINE_bool,
        "baselines",
        False,
        "Also cluster by k-means, consistency only and other simpler methods, and "
        "compare.",
    ),
    (
        flags.DEFINE_string,
        "config",
        None,
        "Python file with get_config() -> Config; FILE.py:smoke cuts it to a run of "
        "a minute.",
    ),
    (
        flags.DEFINE_multi_string,
        "set",
        [],
        "Setting such as train.epochs=30; repeatable.",
    ),
    (
        partial(flags.DEFINE_enum, enum_values=["embed", "beside"]),
        "thumbnails",
        None,
        "Where the report's pictures are: in the page, or in files beside it. "
        "(default: embed)",
    ),
    (
        flags.DEFINE_string,
        "tensorboard",
        None,
        "Folder for TensorBoard's event files.",
    ),
    _OVERWRITE,
)
_PROCESSES: tuple[_Row, ...] = (
    (
        flags.DEFINE_string,
        "coordinator",
        None,
        "host:port of the first of several processes that make one run; with "
        "--num_processes and --process_id. Not needed on TPU slices and SLURM.",
    ),
    (flags.DEFINE_integer, "num_processes", None, "Number of these processes."),
    (flags.DEFINE_integer, "process_id", None, "Which of them this is, from 0."),
    (
        flags.DEFINE_integer,
        "join_timeout",
        JOIN_TIMEOUT,
        "Seconds to wait for the others to come.",
    ),
)
_GROUPS = {
    "run": _RUN,
    "finished": _FINISHED,
    "predict": _PREDICT,
    "export": (*_EXPORT, *_REVIEWED),
    "review": _REVIEW,
}


def define_flags(*groups: str) -> flags.FlagValues:
    """Define the flags of a sub-command.

    Args:
      *groups: ``"run"`` for what makes a run, ``"finished"`` for what takes a
        finished one, ``"predict"`` for the assignment of new images, ``"export"``
        for formats, ``"review"`` for the server of a review.

    Returns:
      The flags, not parsed yet.
    """
    values = flags.FlagValues()
    rows = [*_COMMON, *(row for name in groups for row in _GROUPS[name]), *_PROCESSES]
    for define, name, default, text in rows:
        if name not in values:
            define(name, default=default, help=text, flag_values=values)
    for alias, name in _ALIASES.items():
        if name in values:
            flags.DEFINE_alias(alias, name, flag_values=values)
    return values


def describe_flags(values: flags.FlagValues) -> str:
    """Lay out all flags with their defaults and help, in the order of definition."""
    lines = []
    for flag in chain(*values.flags_by_module_dict().values()):
        if flag.name in _ALIASES:
            continue
        text = (flag.help or "").partition(";\n")[0]
        if "(default:" not in text:
            shown = (flag.default_as_str or "none").strip("'")
            text += f" (default: {'none' if shown == '[]' else shown})"
        lines.append(f"  --{'[no]' * flag.boolean}{flag.name}")
        indent = " " * 6
        lines += wrap(text, 80, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def check_present(values: flags.FlagValues, *names: str) -> None:
    """Check that flags were passed, and that ``--labels`` has a meaning.

    Args:
      values: Parsed flags.
      *names: Names of the flags without dashes.

    Raises:
      InputError: One is missing, or the labels are of an unknown kind.
    """
    for name in names:
        if not values[name].value:
            raise InputError(f"Expected --{name}, found nothing")
    if "labels" in values and values.labels is not None:
        check_one_of("--labels", values.labels, ("folders",))


def check_apart(values: flags.FlagValues) -> None:
    """Check that the results don't go where the finished run is.

    Args:
      values: Parsed flags.

    Raises:
      InputError: ``--workdir`` is ``--run``.
    """
    if Path(values.workdir).resolve() == Path(values.run).resolve():
        raise InputError(
            f"Expected --workdir apart from --run, found {values.workdir!r} for both; "
            "name another folder"
        )


def _cut_to_smoke(config: Config) -> Config:
    """Cut a run to a minute on two cores, without a network.

    Few images of each split, and whatever the data set's folder holds will do;
    the encoder is the embedded one. The scores say nothing.
    """
    return replace(
        config,
        num_clusters=4,
        data=replace(config.data, limit=20, any_size=True),
        encoder=replace(config.encoder, name="lite", image=""),
        train=replace(config.train, epochs=2, batch_size=20),
    )


def _load_config(value: str) -> Config:
    path, smoke = value.removesuffix(_SMOKE), value.endswith(_SMOKE)
    file = Path(path)
    if not file.is_file():
        raise InputError(f"No such config file: {path!r}")
    spec = importlib.util.spec_from_file_location("mca_jax_run_config", file)
    if spec is None or spec.loader is None:
        raise InputError(f"Expected --config as a Python file, found {path!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(vars(module).get("get_config")):
        raise InputError(f"Expected a function get_config in {path!r}, found none")
    if smoke and "smoke" in inspect.signature(module.get_config).parameters:
        # The file has a short run of its own.
        config, smoke = module.get_config(smoke=True), False
    else:
        config = module.get_config()
    if not isinstance(config, Config):
        raise InputError(f"Expected get_config in {path!r} to return a Config")
    return _cut_to_smoke(config) if smoke else config


def read_config(values: flags.FlagValues, *, need_clusters: bool = True) -> Config:
    """Turn flags into settings: config, ``--dataset``, ``--set``, then own flags.

    Args:
      values: Parsed flags.
      need_clusters: Whether the number of clusters has to be given.

    Returns:
      Checked settings; the number of clusters is open where it is to be estimated.

    Raises:
      InputError: A file, setting or value is wrong, or ``--num_clusters`` is
        missing.
    """
    config = _load_config(values.config) if values.config else Config()
    if values.dataset:
        config = with_dataset(config, values.dataset)
    config = apply_overrides(config, values.set)
    chosen = any(setting.startswith("num_clusters=") for setting in values.set)
    if values.num_clusters is not None:
        wanted = parse_num_clusters(values.num_clusters)
        if isinstance(wanted, int):
            config = replace(config, num_clusters=wanted)
    elif need_clusters and not (values.config or values.dataset or chosen):
        raise InputError("Expected --num_clusters: how many groups to make")
    if values.seed is not None:
        config = replace(config, seed=values.seed)
    if values.encoder is not None:
        config = replace(config, encoder=replace(config.encoder, name=values.encoder))
    if values.image_encoder is not None:
        encoder = replace(config.encoder, image=values.image_encoder)
        config = replace(config, encoder=encoder)
    if values.text_encoder is not None:
        encoder = replace(config.encoder, text=values.text_encoder)
        config = replace(config, encoder=encoder)
    return config
