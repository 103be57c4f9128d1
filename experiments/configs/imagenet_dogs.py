"""ImageNet-Dogs, 15 breeds, with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/imagenet_dogs.py
  --data_dir=DIR --workdir=OUT
Data: ImageNet needs an account at https://image-net.org. DIR is a folder with train
  and val in it, each with a sub-folder for each class, named by its WordNet id.
Splits: train (19,500 images) is clustered, val (750) is scored, as in
  SIC (Cai et al., AAAI 2023) and TAC (Li et al., ICML 2024).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA              - / 73.3 / -
  TAC              - / 80.6 / 72.2 (ACC about 83, read off a plot)
  SATC             91.4 / - / -
  CLIP, zero-shot  72.8 / 73.5 / -
Smoke size: --config=experiments/configs/imagenet_dogs.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    return Config(
        num_clusters=15,
        data=DataConfig(dataset="imagenet_dogs", train="train", score="val"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
    )
