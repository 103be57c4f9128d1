"""Flags that the launchers share, and what they mean as settings."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path

from absl import flags

from experiments.inputs import with_dataset
from mca_jax.core.errors import InputError
from mca_jax.core.parallel import JOIN_TIMEOUT
from mca_jax.data.datasets import DATASETS
from mca_jax.model.predict import OUTLIER_QUANTILE
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.pipeline.num_clusters import parse_num_clusters

__all__ = [
    "check_apart",
    "define_checkpoint_flags",
    "define_run_flags",
    "read_config",
]

_SMOKE = ":smoke"


def _define_common_flags() -> None:
    """Define what every launcher takes, unless another call did."""
    if "workdir" in flags.FLAGS:
        return
    flags.DEFINE_string("images", None, "Folder of images, read recursively.")
    flags.DEFINE_string("workdir", None, "Folder for the results.")
    flags.DEFINE_string(
        "labels", None, "'folders': sub-folder names are labels, for evaluation only."
    )
    flags.DEFINE_bool("overwrite", False, "Take over a workdir of other settings.")
    flags.DEFINE_string(
        "coordinator",
        None,
        "host:port of the first of several processes that make one run; with "
        "--num_processes and --process_id. Not needed on TPU slices and SLURM.",
    )
    flags.DEFINE_integer("num_processes", None, "Number of these processes.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
    flags.DEFINE_integer(
        "join_timeout", JOIN_TIMEOUT, "Seconds to wait for the others to come."
    )


def define_checkpoint_flags() -> None:
    """Define the flags of what goes on from a finished run; call once."""
    _define_common_flags()
    flags.DEFINE_string("checkpoint", None, "Workdir of a finished run.")
    flags.DEFINE_float(
        "outlier_quantile",
        OUTLIER_QUANTILE,
        "Share of the run's own images that lie below the threshold for 'none of "
        "these', in [0, 1].",
    )


def check_apart(values: flags.FlagValues) -> None:
    """Check that the results don't go where the finished run is.

    Args:
      values: Parsed flags.

    Raises:
      InputError: ``--workdir`` is ``--checkpoint``.
    """
    if Path(values.workdir).resolve() == Path(values.checkpoint).resolve():
        raise InputError(
            f"Expected --workdir apart from --checkpoint, found {values.workdir!r} "
            "for both; name another folder"
        )


def define_run_flags() -> None:
    """Define the flags of a run; call once, from a launcher's main module."""
    _define_common_flags()
    flags.DEFINE_string(
        "dataset", None, f"In place of --images: {', '.join(sorted(DATASETS))}."
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder that holds the data set, or that takes it."
    )
    flags.DEFINE_string(
        "num_clusters",
        None,
        "Number of clusters, at least 2; auto, or auto:LOW-HIGH, estimates it.",
    )
    flags.DEFINE_string("encoder", None, "lite, lite2, a hub id or a local folder.")
    flags.DEFINE_string(
        "text_encoder", None, "Sentence encoder that reads the nouns: hub id or folder."
    )
    flags.DEFINE_integer("seed", None, "Seed of everything random.")
    flags.DEFINE_bool(
        "baselines",
        False,
        "Also cluster by k-means, consistency only and other simpler methods, and "
        "compare.",
    )
    flags.DEFINE_string(
        "config",
        None,
        "Python file with get_config() -> Config; FILE.py:smoke calls "
        "get_config(smoke=True), a run of a minute.",
    )
    flags.DEFINE_enum(
        "thumbnails",
        None,
        ["embed", "beside"],
        "Where the report's pictures are: in the page (the default), or in files "
        "beside it.",
    )
    flags.DEFINE_string(
        "tensorboard",
        None,
        "Folder for TensorBoard's event files.",
    )
    flags.DEFINE_multi_string("set", [], "Setting such as train.epochs=30; repeatable.")


def _load_config(given: str) -> Config:
    path, smoke = given.removesuffix(_SMOKE), given.endswith(_SMOKE)
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
    if smoke and "smoke" not in inspect.signature(module.get_config).parameters:
        raise InputError(
            f"Expected get_config in {path!r} to take smoke=True, found it takes none; "
            f"leave out {_SMOKE!r}"
        )
    config = module.get_config(smoke=True) if smoke else module.get_config()
    if not isinstance(config, Config):
        raise InputError(f"Expected get_config in {path!r} to return a Config")
    return config


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
    if values.text_encoder is not None:
        encoder = replace(config.encoder, text=values.text_encoder)
        config = replace(config, encoder=encoder)
    return config
