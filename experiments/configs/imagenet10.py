"""ImageNet-10 with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/imagenet10.py
  --data_dir=DIR --workdir=OUT
Data: ImageNet needs an account at https://image-net.org. DIR is a folder with train
  and val in it, each with a sub-folder for each class, named by its WordNet id.
Splits: train (13,000 images) is clustered, val (500) is scored, as in
  TAC (Li et al., ICML 2024).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA   not known to us
  TAC   99.2 / 98.5 / 98.3
  SATC  99.8 / - / -
Smoke size: --config=experiments/configs/imagenet10.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    return Config(
        num_clusters=10,
        data=DataConfig(dataset="imagenet10", train="train", score="val"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
    )
