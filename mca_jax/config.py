"""Settings: nested frozen dataclasses, checked, overridable, printable."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mca_jax.checkpoint_config import CheckpointConfig
from mca_jax.checks import InputError, check_in_range, nearest_option
from mca_jax.data_config import DataConfig
from mca_jax.encoder_config import EncoderConfig

__all__ = [
    "Config",
    "EncoderConfig",
    "HeadsConfig",
    "LossConfig",
    "RetrievalConfig",
    "SemanticsConfig",
    "TrainConfig",
    "apply_overrides",
    "config_from_dict",
    "config_to_dict",
    "fingerprint",
]


@dataclass(frozen=True)
class SemanticsConfig:
    """Which nouns form the semantic space.

    Attributes:
      vocabulary: ``"wordnet"``, ``"nltk"``, or the path of a text file with one
        noun a line.
      nouns_per_center: Nouns kept around each k-means centre, at least 1.
      min_uniqueness: Smallest ``1 - cos`` to the mean noun, in [0, 2].
      min_depth: Smallest depth in WordNet's hierarchy, at least 0.
      drop_ancestors: Drop a noun that is an ancestor of another kept noun.
      concrete_only: Keep only nouns for things that a camera sees.
      allow_people: Keep nouns for people.
      allow_offensive: Keep nouns on the block list.
    """

    vocabulary: str = "wordnet"
    nouns_per_center: int = 500
    # No filter changed a score by more than seeds do (docs/results.md); they are here
    # for the names, which general and vague nouns would spoil.
    min_uniqueness: float = 0.05
    min_depth: int = 4
    drop_ancestors: bool = True
    concrete_only: bool = True
    allow_people: bool = False
    allow_offensive: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("semantics.nouns_per_center", self.nouns_per_center, 1)
        check_in_range("semantics.min_uniqueness", self.min_uniqueness, 0, 2)
        check_in_range("semantics.min_depth", self.min_depth, 0)


@dataclass(frozen=True)
class RetrievalConfig:
    """Neighbours and k-means.

    Attributes:
      image_neighbors: Nearest images of each image, at least 1.
      noun_neighbors: Nearest nouns of each image, at least 1.
      block_size: Rows scored at once; bounds memory.
      smoothing_steps: Times that every image moves to the mean of itself and its
        nearest images before anything else, at least 0: 0 leaves them alone.
      smoothing_neighbors: Nearest images that it moves towards, at least 1; cut
        to half of a cluster of mean size.
      kmeans_restarts: Seedings of k-means; the best objective is kept.
      kmeans_sample: Most images from which k-means starts; a larger set is
        sampled, and all of it refines the centres.
      exact_up_to: Images up to which neighbours are exact; above, most of them
        are found and the share is measured.
      probes: Cells of the set that an image above ``exact_up_to`` looks into.
    """

    image_neighbors: int = 20
    noun_neighbors: int = 10
    block_size: int = 1024
    # Measured on Caltech-40 and CIFAR-10, see benchmarks/RESULTS.md: k-means gains 4
    # to 7 points of ACC, zero-shot accuracy 3, and the text levels begin to pay.
    smoothing_steps: int = 4
    smoothing_neighbors: int = 10
    kmeans_restarts: int = 10
    kmeans_sample: int = 100_000
    exact_up_to: int = 250_000
    probes: int = 24

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name == "smoothing_steps" else 1
            check_in_range(f"retrieval.{name}", value, least)


@dataclass(frozen=True)
class HeadsConfig:
    """The three networks.

    Attributes:
      initial_scale: Starting inverse temperature of the assignments, > 0.
      attention_width: Width of the attention's queries and keys.
      attention_temperature: ``tau_a`` in standard deviations of the cosines of
        images and their nouns, > 0: the same setting fits every encoder.
      null_score: Cosine of the null noun, in standard deviations above the mean
        cosine of images and their nouns.
      attention: Whether the nouns of an image are weighed; false takes the mean
        of them all, without a null noun.
    """

    initial_scale: float = 20.0
    attention_width: int = 64
    attention_temperature: float = 1.0
    null_score: float = 0.0
    # No measured difference to the plain mean of the nouns in ACC; it is the paper's,
    # and the trust in an image's nouns comes from it.
    attention: bool = True

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("heads.initial_scale", self.initial_scale, 1e-3)
        check_in_range("heads.attention_width", self.attention_width, 1)
        check_in_range("heads.attention_temperature", self.attention_temperature, 1e-3)
        check_in_range("heads.null_score", self.null_score, -10, 10)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the levels, 0 switches one off, and their constants.

    Attributes:
      instance: Weight of the instance level, at least 0.
      prototype: Weight of the prototype level, at least 0.
      semantic: Weight of the semantic level, at least 0.
      balance: Weight of the balance of clusters, at least 0.
      prior: ``"uniform"`` wants clusters of one size, ``"estimated"`` of the sizes
        found by merging finer clusters; ``"auto"`` takes what keeps images and
        texts further apart.
      prototype_reading: ``"assignments"`` or ``"embeddings"``.
      prototype_temperature: ``tau_p``, > 0.
      prototype_momentum: Kept share of the running prototypes, in [0, 0.9999].
      confident_share: Share of a batch that forms semantic prototypes, (0, 1].
      label_temperature: Of the pseudo-labels' confidence, > 0.
      min_confidence: Confidence from which a pseudo-label counts, in [0, 0.9999].
    """

    # Measured in docs/results.md: the semantic level brings most, and only together
    # with another one. Without the instance level CIFAR-10 is 0.6 points of ACC better
    # and its long tail 0.5 worse, so the weights stay at one.
    instance: float = 1.0
    prototype: float = 1.0
    semantic: float = 1.0
    balance: float = 5.0
    # An estimated prior gains 3 to 22 points of ACC on long tails and loses 1 to 6 on
    # balanced sets; the choice without labels keeps the one and avoids the other.
    prior: Literal["auto", "uniform", "estimated"] = "auto"
    prototype_reading: Literal["assignments", "embeddings"] = "assignments"
    prototype_temperature: float = 0.5
    prototype_momentum: float = 0.9
    confident_share: float = 0.9
    label_temperature: float = 0.1
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("instance", "prototype", "semantic", "balance"):
            check_in_range(f"losses.{name}", dataclasses.asdict(self)[name], 0)
        for name in ("prototype_temperature", "label_temperature"):
            check_in_range(f"losses.{name}", dataclasses.asdict(self)[name], 1e-3)
        for name in ("prototype_momentum", "min_confidence"):
            check_in_range(f"losses.{name}", dataclasses.asdict(self)[name], 0, 0.9999)
        check_in_range("losses.confident_share", self.confident_share, 1e-3, 1)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation.

    Attributes:
      epochs: Most passes over the set, at least 1.
      batch_size: Images a step, at least 2; cut to the set for small sets.
      learning_rate: Adam's step size at the start, > 0.
      loss_tolerance: Relative change of the loss that counts as a plateau.
      changed_tolerance: Share of moved images that counts as rest.
      memory_budget_gib: Memory of each device for a set's tables, in GiB; 0 takes
        half of what it has. What does not fit stays on the host, and batches are
        copied ahead of the steps; the result is the same.
    """

    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 1e-3
    loss_tolerance: float = 1e-3
    changed_tolerance: float = 1e-3
    memory_budget_gib: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("train.epochs", self.epochs, 1)
        check_in_range("train.batch_size", self.batch_size, 2)
        check_in_range("train.learning_rate", self.learning_rate, 1e-8)
        check_in_range("train.loss_tolerance", self.loss_tolerance, 0)
        check_in_range("train.changed_tolerance", self.changed_tolerance, 0, 1)
        check_in_range("train.memory_budget_gib", self.memory_budget_gib, 0)


@dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
      num_clusters: ``k``, at least 2.
      seed: Seed of everything random.
      data: Which named data set, and which of its splits.
      encoder: Images to embeddings.
      semantics: Which nouns form the semantic space.
      retrieval: Neighbours and k-means.
      heads: The three networks.
      losses: Weights of the levels.
      train: Optimisation.
      checkpoint: How often training is saved.

    Example:
      >>> Config(num_clusters=5).train.batch_size
      512
    """

    num_clusters: int = 10
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    semantics: SemanticsConfig = field(default_factory=SemanticsConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("num_clusters", self.num_clusters, 2)
        check_in_range("seed", self.seed, 0, 2**32 - 1)


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


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Apply ``"train.epochs=30"``-like overrides.

    Args:
      config: Settings to start from.
      overrides: One ``name=value`` each; later ones win.

    Returns:
      New, checked settings.

    Raises:
      InputError: An override has no ``=``, an unknown name (the nearest valid
        one is named) or a value of the wrong type or range.

    Example:
      >>> apply_overrides(Config(), ["train.epochs=3"]).train.epochs
      3
    """
    values = config_to_dict(config)
    known = _flatten(values)
    for override in overrides:
        name, separator, text = override.partition("=")
        name, text = name.strip(), text.strip()
        if not separator:
            raise InputError(f"Expected a setting as name=value, found {override!r}")
        if name not in known:
            raise InputError(f"Unknown setting {name!r}{nearest_option(name, known)}")
        *parents, leaf = name.split(".")
        target = values
        for parent in parents:
            target = target[parent]
        target[leaf] = _parse(name, text, type(known[name]))
    return config_from_dict(values)


def fingerprint(values: Any) -> str:
    """Hash plain JSON values; equal settings have equal fingerprints.

    Args:
      values: Anything that :func:`json.dumps` takes.

    Returns:
      16 hex digits.
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
