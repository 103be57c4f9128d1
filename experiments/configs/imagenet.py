"""ImageNet-1K with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/imagenet.py
  --data_dir=DIR --workdir=OUT
Data: ImageNet needs an account at https://image-net.org. DIR is a folder with train
  and val in it, each with a sub-folder for each class, named by its WordNet id.
Splits: train (1,281,167 images) is clustered, val (50,000) is scored, as in
  TAC (Li et al., ICML 2024).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA  not known to us
  TAC  58.2 / 79.9 / 43.5
Smoke size: --config=experiments/configs/imagenet.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig, TrainConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    # A step should see each cluster several times.
    return Config(
        num_clusters=1000,
        data=DataConfig(dataset="imagenet", train="train", score="val"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
        train=TrainConfig(batch_size=8192),
    )
