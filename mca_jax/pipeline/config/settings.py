"""All settings of a run: nested frozen dataclasses, checked when they are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from mca_jax.core.errors import check_in_range, check_one_of

__all__ = [
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EncoderConfig",
    "HeadsConfig",
    "LossConfig",
    "RetrievalConfig",
    "SemanticsConfig",
    "TrainConfig",
]


@dataclass(frozen=True)
class DataConfig:
    """Which named data set, which of its splits, and which files are read.

    Attributes:
      dataset: Name of a data set, or empty for images of one's own.
      train: Splits that are clustered, joined by ``+`` such as ``"train+test"``;
        empty takes the data set's own.
      score: Splits that the scores are of, likewise. Labels are read for these
        only, after training.
      limit: Most images of ``train`` and of ``score``, spread evenly; 0 takes
        all.
      any_size: Whether a set with another number of images or classes than the
        published one will do.
      max_megapixels: Most million pixels of an image, above 0; larger ones are
        skipped. A picture takes some ten bytes a pixel while it is decoded.
      partial_jpegs: Whether a JPEG that ends before its last pixel is read as far
        as it goes, and not skipped.
    """

    dataset: str = ""
    train: str = ""
    score: str = ""
    limit: int = 0
    any_size: bool = False
    max_megapixels: float = 178.0
    partial_jpegs: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("data.limit", self.limit, 0)
        check_in_range("data.max_megapixels", self.max_megapixels, 1e-6, 10**6)


@dataclass(frozen=True)
class EncoderConfig:
    """Images and nouns to embeddings.

    Attributes:
      name: ``"lite"``, ``"lite2"``, or a CLIP or SigLIP checkpoint: an id on the
        hub or a local folder.
      revision: Branch, tag or commit of that checkpoint on the hub, such as
        ``"refs/pr/8"``; empty takes the main one.
      image: A second encoder that sees the images too, in a space of its own, and
        names nothing: as ``name``, or a DINOv2 or DINOv3 checkpoint. Empty for none.
      dtype: Weights and activations of a checkpoint, ``"float32"``, ``"bfloat16"``
        or ``"auto"``: float32 on a CPU, bfloat16 on accelerators.
      prompts: What a noun is put into: ``"photo"``, ``"ensemble"``, or templates
        of your own with one ``{}`` each, joined by ``|``. Not for lite.
      glosses: Whether a noun's definition goes behind its prompt, to tell the
        senses of a word apart. Not for lite.
      text: A sentence encoder that embeds the nouns in the encoder's place, an id
        or a folder; empty takes the encoder's own.
      text_prompts: What it is given, as ``prompts``; empty gives it ``prompts``,
        each behind the prompt that is stored with it, such as ``"query: "``.
      text_map: How its space is joined to that of the images: ``"ridge"`` or
        ``"procrustes"``.
      store_dtype: Kept embeddings of images, ``"float32"`` or ``"float16"``.
      noun_cache: Folder that keeps embeddings of nouns for all runs; empty takes
        the user's own, see ``noun_cache_dir``.
      batch_size: Images embedded at once; 0 chooses by the device.
      threads: Decoding threads; 0 chooses by the number of cores.
      components: Axes of the images that are kept, at least 1; raised to the
        number of clusters where that is larger, cut to one for every eight
        images of a small set.
      views: Random crops of an image, in other light, that show along which axes
        pictures of one thing differ: at least 2, or 0 for principal axes alone.
      view_images: Images of which views are embedded, at least 1.
      view_seed: Of the views and of the images they are of; not the run's seed, so
        that runs of several seeds share them.
      shrinkage: How far views are taken to differ alike along all axes, > 0.
      whitening: How far principal axes are made equally strong, in [0, 0.5]; not
        read where there are views.
    """

    name: str = "lite"
    revision: str = ""
    image: str = ""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    prompts: str = "photo"
    glosses: bool = False
    text: str = ""
    text_prompts: str = ""
    text_map: Literal["ridge", "procrustes"] = "ridge"
    store_dtype: Literal["float32", "float16"] = "float32"
    noun_cache: str = ""
    batch_size: int = 0
    threads: int = 0
    # Measured on seven sets, see docs/results.md: these axes gain 15 points of ACC on
    # paintings and 2 to 3 on most others, for 1,500 images more through the encoder.
    views: int = 4
    view_images: int = 375
    view_seed: int = 0
    shrinkage: float = 1.0
    # Measured on Caltech-40 and CIFAR-10, see benchmarks/RESULTS.md. More whitening
    # finds better groups of images but spoils their cosines to nouns: with 0.5 and
    # 64 axes zero-shot accuracy on CIFAR-10 falls from 60 % to 42 %.
    components: int = 128
    whitening: float = 0.25

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("encoder.batch_size", self.batch_size, 0)
        check_in_range("encoder.threads", self.threads, 0)
        check_in_range("encoder.components", self.components, 1)
        check_in_range("encoder.whitening", self.whitening, 0, 0.5)
        if self.views:
            check_in_range("encoder.views (or 0 for none)", self.views, 2)
        check_in_range("encoder.view_images", self.view_images, 1)
        check_in_range("encoder.view_seed", self.view_seed, 0, 2**32 - 1)
        check_in_range("encoder.shrinkage", self.shrinkage, 1e-3)


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
      photographed_only: Keep only nouns of WordNet that people have photographed.
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
    photographed_only: bool = True

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
      kmeans_restarts: Most seedings of k-means, of which the best objective is
        kept, and the best fifth votes where training begins; ten where images and
        clusters are many.
      text_weight: Length of an image's retrieved text beside the image's own 1 where
        training begins, at least 0; less where the nouns don't fit the images.
      kmeans_sample: Most images from which k-means starts; a larger set is
        sampled, and all of it refines the centres.
      exact_up_to: Images up to which neighbours are exact; above, most of them
        are found and the share is measured.
      probes: Inverted lists that an image above ``exact_up_to`` looks into, at least
        1: more find more, and take longer.
    """

    image_neighbors: int = 20
    noun_neighbors: int = 10
    block_size: int = 1024
    # ACC of CIFAR-10 and Caltech-40 rises by 4 and 2, five other sets lose up to 1.4;
    # from one step on the mean of the seven is the same (benchmarks/RESULTS.md).
    smoothing_steps: int = 4
    smoothing_neighbors: int = 10
    # The best of fifty has the best ACC wherever seeds differ: 80 on textures, where
    # the best of ten is 73 to 80.
    kmeans_restarts: int = 50
    # CIFAR-10 gains 7 points of ACC, others nothing to speak of (docs/results.md).
    text_weight: float = 0.5
    kmeans_sample: int = 100_000
    exact_up_to: int = 250_000
    # Finds 0.956 of the neighbours of 100,000 real rows with as much noise as they
    # spread themselves; 48 lists find 0.944 (benchmarks/RESULTS.md).
    probes: int = 56

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name in ("smoothing_steps", "text_weight") else 1
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
    # On long tails of ratio 10 and 50 of seven sets, by two encoders, estimated sizes
    # gain 1.8 and 5.2 points of ACC in the mean, and no balanced draw loses.
    prior: Literal["auto", "uniform", "estimated"] = "auto"
    prototype_reading: Literal["assignments", "embeddings"] = "assignments"
    prototype_temperature: float = 0.5
    prototype_momentum: float = 0.9
    confident_share: float = 0.9
    label_temperature: float = 0.1
    min_confidence: float = 0.5

    @property
    def has_text(self) -> bool:
        """Whether a level of text is on."""
        return any((self.instance, self.prototype, self.semantic))

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
      max_steps: Most steps of an epoch, at least 1: of a larger set an epoch is a
        sample, another each time, so that training takes no longer than it needs.
      learning_rate: Adam's step size at the start, > 0.
      loss_tolerance: Relative change of the loss that counts as a plateau.
      changed_tolerance: Share of moved images that counts as rest.
      memory_budget_gib: Memory of each device for a set's tables, in GiB; 0 takes
        half of what it has. What does not fit stays on the host, and batches are
        copied ahead of the steps; the result is the same.
      driver: How several devices share a step: ``"jit"`` of sharded arrays, or the
        older ``"pmap"``, which keeps the set on the host; within one process only.
    """

    epochs: int = 30
    batch_size: int = 512
    # 51,200 images: sets up to that size, and CIFAR's 50,000, are passed over whole.
    max_steps: int = 100
    learning_rate: float = 1e-3
    loss_tolerance: float = 1e-3
    changed_tolerance: float = 1e-3
    memory_budget_gib: float = 0.0
    driver: Literal["jit", "pmap"] = "jit"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("train.epochs", self.epochs, 1)
        check_in_range("train.batch_size", self.batch_size, 2)
        check_in_range("train.max_steps", self.max_steps, 1)
        check_in_range("train.learning_rate", self.learning_rate, 1e-8)
        check_in_range("train.loss_tolerance", self.loss_tolerance, 0)
        check_in_range("train.changed_tolerance", self.changed_tolerance, 0, 1)
        check_in_range("train.memory_budget_gib", self.memory_budget_gib, 0)
        check_one_of("train.driver", self.driver, ("jit", "pmap"))


@dataclass(frozen=True)
class CheckpointConfig:
    """How often training is saved, and how much of it is kept.

    The state at the end and at an interruption is always saved.

    Attributes:
      every_steps: Steps from one checkpoint to the next; 0 for none within a
        run.
      every_epochs: Passes from one to the next, likewise; both may be set.
      keep: Newest checkpoints that are kept, at least 2: the last but one is
        what a run goes back to if the last is damaged. The one with the lowest
        mean loss over a pass is kept besides.
      use: Which checkpoint a run that finds some takes: ``"newest"``, to go on
        from it, or ``"best"``, that of the lowest mean loss, to read the clusters
        out without training any further.
    """

    every_steps: int = 500
    every_epochs: int = 0
    keep: int = 2
    use: str = "newest"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("checkpoint.every_steps", self.every_steps, 0)
        check_in_range("checkpoint.every_epochs", self.every_epochs, 0)
        check_in_range("checkpoint.keep", self.keep, 2)
        check_one_of("checkpoint.use", self.use, ("best", "newest"))


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
