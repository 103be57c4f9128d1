"""STL-10 with CLIP ViT-B/32.

Command: mca-jax cluster --config=experiments/configs/stl10.py
  --workdir=OUT
Data: an archive of 2.6 GB is downloaded once, or taken from --data_dir=DIR.
Splits: train (5,000 images) is clustered, test (8,000) is scored, as in
  SIC (Cai et al., AAAI 2023) and TAC (Li et al., ICML 2024).
Hardware: not tried yet at full size.
Expected: not measured yet. Published by others with ViT-B/32, quoted second-hand,
ACC / NMI / ARI in %:
  MCA              98.1 / - / -
  TAC              98.2 / - / -
  SATC             99.0 / - / -
  CLIP, zero-shot  97.1 / - / -
Smoke size: --config=experiments/configs/stl10.py:smoke
"""

from __future__ import annotations

from mca_jax.pipeline.config import Config, DataConfig, EncoderConfig

__all__ = ["get_config"]


def get_config() -> Config:
    """Return the settings of a run, which flags and ``--set`` override."""
    return Config(
        num_clusters=10,
        data=DataConfig(dataset="stl10", train="train", score="test"),
        encoder=EncoderConfig(name="openai/clip-vit-base-patch32"),
    )
