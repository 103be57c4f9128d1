"""Tiny-ImageNet with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/tiny_imagenet.py
  --workdir=OUT
Data: an archive of 248 MB is downloaded once, or taken from --data_dir=DIR.
Splits: train (100,000 images) is clustered, val (10,000) is scored, as in
  SIC (Cai et al., AAAI 2023).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA  not known to us
Smoke size: --config=experiments/configs/tiny_imagenet.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig, TrainConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    # A step should see each cluster several times.
    return Config(
        num_clusters=200,
        data=DataConfig(dataset="tiny_imagenet", train="train", score="val"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
        train=TrainConfig(batch_size=2048),
    )
