"""CIFAR-10 with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/cifar10.py
  --workdir=OUT
Data: an archive of 162 MB is downloaded once, or taken from --data_dir=DIR.
Splits: train (50,000 images) is clustered, test (10,000) is scored, as in
  SIC (Cai et al., AAAI 2023) and TAC (Li et al., ICML 2024).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA              92.7 / 84.9 / -
  TAC              91.9 / 83.3 / 83.1
  SATC             94.5 / - / -
  CLIP, zero-shot  90.0 / - / -
Smoke size: --config=experiments/configs/cifar10.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    return Config(
        num_clusters=10,
        data=DataConfig(dataset="cifar10", train="train", score="test"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
    )
