"""Settings as plain JSON and back, overrides by name, and what a result depends on."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from mca_jax.core.errors import InputError, nearest_option
from mca_jax.pipeline.config.settings import Config

__all__ = [
    "Overrides",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "list_overrides",
    "settings_of_result",
]

Overrides: TypeAlias = "Mapping[str, Any] | Sequence[str]"
"""Settings by name, ``{"train.epochs": 10}``, or as ``["train.epochs=10"]``."""

# Speed, memory and safety: another value of these gives the same clusters.
_WITHOUT_EFFECT = (
    "checkpoint",
    "encoder.batch_size",
    "encoder.threads",
    "retrieval.block_size",
    "train.driver",
)
# Settings of which earlier runs don't speak: left out where they have these values.
_NEWER = {"data.max_megapixels": 178.0, "data.partial_jpegs": False}


def config_to_dict(config: Config) -> dict[str, Any]:
    """Turn settings into plain JSON values.

    Args:
      config: The settings.

    Returns:
      Nested dicts of numbers, strings and booleans.
    """
    return dataclasses.asdict(config)


def config_from_dict(values: Mapping[str, Any]) -> Config:
    """Read settings back; missing ones take their defaults.

    Args:
      values: As from :func:`config_to_dict`.

    Returns:
      Checked settings.

    Raises:
      InputError: A setting is unknown, ill-typed or out of range.
    """
    return _build(Config, values, prefix="")


def apply_overrides(config: Config, overrides: Overrides) -> Config:
    """Apply overrides such as ``{"train.epochs": 30}`` or ``["train.epochs=30"]``.

    Args:
      config: Settings to start from.
      overrides: Values by name, or one ``name=value`` each; later ones win.

    Returns:
      New, checked settings.

    Raises:
      InputError: An override has no ``=``, an unknown name (the nearest valid
        one is named) or a value of the wrong type or range.

    Example:
      >>> apply_overrides(Config(), {"train.epochs": 3}).train.epochs
      3
      >>> apply_overrides(Config(), ["train.epochs=3"]).train.epochs
      3
    """
    values = config_to_dict(config)
    known = _flatten(values)
    for name, value in _pairs(overrides):
        if name not in known:
            raise InputError(f"Unknown setting {name!r}{nearest_option(name, known)}")
        *parents, leaf = name.split(".")
        target = values
        for parent in parents:
            target = target[parent]
        is_text = not isinstance(overrides, Mapping)
        target[leaf] = _parse(name, value, type(known[name])) if is_text else value
    return config_from_dict(values)


def list_overrides(overrides: Overrides) -> list[str]:
    """Write overrides as ``name=value``."""
    return [f"{name}={value}" for name, value in _pairs(overrides)]


def _pairs(overrides: Overrides) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"Expected a setting as name=value, found {override!r}")
        pairs.append((name.strip(), text.strip()))
    return pairs


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is str:
        return text
    try:
        return _WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise InputError(f"Expected {name} as {_KINDS[kind]}, found {text!r}") from None


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    """Build one dataclass from plain values, checking names and types."""
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            hint = nearest_option(name, hints)
            raise InputError(f"Unknown setting {prefix + name!r}{hint}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise InputError(
                    f"Expected {prefix}{name} as a group of settings, found {value!r}"
                )
            arguments[name] = _build(typing.cast(type, kind), value, f"{prefix}{name}.")
        else:
            arguments[name] = _typed(prefix + name, value, kind)
    return cls(**arguments)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Check one plain value against its annotation."""
    if typing.get_origin(kind) is Literal:
        options = typing.get_args(kind)
        if value not in options:
            raise InputError(
                f"Unknown {name} {value!r}{nearest_option(str(value), options)}"
            )
        return value
    if isinstance(kind, types.UnionType):
        raise TypeError(f"A setting has one type, {name} has {kind}")
    # A whole number is a fine float, but true is no number.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        expected = _KINDS.get(kind, "text")
        raise InputError(f"Expected {name} as {expected}, found {value!r}")
    return value


def settings_of_result(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that don't change the result.

    Args:
      settings: All settings, as from ``config_to_dict``.

    Returns:
      Those that a run has to share to be the same run; what the device chose is among
      them.
    """
    encoder = dict(settings.get("encoder", {}))
    if encoder.get("dtype") == "auto":
        # Imported here: settings are read before anything of JAX is.
        from mca_jax.encoders.device import choose_dtype

        encoder["dtype"] = choose_dtype("auto", encoder["name"], encoder["image"])
        settings = {**settings, "encoder": encoder}
    return _without(settings, "")


def _without(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name: _without(value, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else value
        for name, value in settings.items()
        if prefix + name not in _WITHOUT_EFFECT
        and (prefix + name not in _NEWER or value != _NEWER[prefix + name])
    }
