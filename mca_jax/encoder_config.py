"""Settings of the encoder: images and nouns to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mca_jax.checks import check_in_range

__all__ = ["EncoderConfig"]


@dataclass(frozen=True)
class EncoderConfig:
    """Images and nouns to embeddings.

    Attributes:
      name: ``"lite"``, ``"lite2"``, or a CLIP or SigLIP checkpoint: an id on the
        hub or a local folder.
      dtype: Weights and activations of a checkpoint, ``"float32"`` or
        ``"bfloat16"``.
      prompts: What a noun is put into: ``"photo"``, ``"ensemble"``, or templates
        of your own with one ``{}`` each, joined by ``|``. Not for lite.
      glosses: Whether a noun's definition goes behind its prompt, to tell the
        senses of a word apart. Not for lite.
      text: A sentence encoder that embeds the nouns in the encoder's place, an id
        or a folder; empty takes the encoder's own.
      text_map: How its space is joined to that of the images: ``"ridge"`` or
        ``"procrustes"``.
      store_dtype: Kept embeddings of images, ``"float32"`` or ``"float16"``.
      noun_cache: Folder that keeps embeddings of nouns for all runs; empty takes
        the user's own, see ``noun_cache_dir``.
      batch_size: Images embedded at once, at least 1.
      threads: Decoding threads; 0 chooses by the number of cores.
      components: Principal axes of the images that are kept, at least 1; raised
        to the number of clusters where that is larger, cut to one for every
        eight images of a small set.
      whitening: How far the kept axes are made equally strong, in [0, 0.5].
    """

    name: str = "lite"
    dtype: Literal["float32", "bfloat16"] = "float32"
    prompts: str = "photo"
    glosses: bool = False
    text: str = ""
    text_map: Literal["ridge", "procrustes"] = "ridge"
    store_dtype: Literal["float32", "float16"] = "float32"
    noun_cache: str = ""
    batch_size: int = 32
    threads: int = 0
    # Measured on Caltech-40 and CIFAR-10, see benchmarks/RESULTS.md. More whitening
    # finds better groups of images but spoils their cosines to nouns: with 0.5 and
    # 64 axes zero-shot accuracy on CIFAR-10 falls from 60 % to 42 %.
    components: int = 128
    whitening: float = 0.25

    def __post_init__(self) -> None:
        """Check ranges."""
        check_in_range("encoder.batch_size", self.batch_size, 1)
        check_in_range("encoder.threads", self.threads, 0)
        check_in_range("encoder.components", self.components, 1)
        check_in_range("encoder.whitening", self.whitening, 0, 0.5)
