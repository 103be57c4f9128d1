"""Flags that the launchers share, and what they mean as settings."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from absl import flags

from mca_jax.checks import InputError
from mca_jax.config import Config, apply_overrides

__all__ = ["define_run_flags", "read_config"]


def define_run_flags() -> None:
    """Define the flags of a run; call once, from a launcher's main module."""
    flags.DEFINE_string("images", None, "Folder of images, read recursively.")
    flags.DEFINE_integer("num_clusters", None, "Number of clusters, at least 2.")
    flags.DEFINE_string("workdir", None, "Folder for the results.")
    flags.DEFINE_string("encoder", None, "lite, lite2, a hub id or a local folder.")
    flags.DEFINE_integer("seed", None, "Seed of everything random.")
    flags.DEFINE_string(
        "labels", None, "'folders': sub-folder names are labels, for evaluation only."
    )
    flags.DEFINE_string("config", None, "Python file with get_config() -> Config.")
    flags.DEFINE_multi_string("set", [], "Setting such as train.epochs=30; repeatable.")
    flags.DEFINE_bool("overwrite", False, "Take over a workdir of other settings.")


def _load_config(path: str) -> Config:
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
    config = module.get_config()
    if not isinstance(config, Config):
        raise InputError(f"Expected get_config in {path!r} to return a Config")
    return config


def read_config(values: flags.FlagValues) -> Config:
    """Turn flags into settings: config file, then ``--set``, then own flags.

    Args:
      values: Parsed flags.

    Returns:
      Checked settings.

    Raises:
      InputError: A file, setting or value is wrong, or ``--num_clusters`` is
        missing.
    """
    config = _load_config(values.config) if values.config else Config()
    config = apply_overrides(config, values.set)
    if values.num_clusters is not None:
        config = replace(config, num_clusters=values.num_clusters)
    elif not values.config and not any("num_clusters" in s for s in values.set):
        raise InputError("Expected --num_clusters: how many groups to make")
    if values.seed is not None:
        config = replace(config, seed=values.seed)
    if values.encoder is not None:
        config = replace(config, encoder=replace(config.encoder, name=values.encoder))
    return config
