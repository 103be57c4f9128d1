"""The image sets that papers report on, by name: official files, official splits."""

from mca_jax.data.datasets.loading import ImageDataset, default_data_dir, load_dataset
from mca_jax.data.datasets.registry import DATASETS, ClassName, Dataset

__all__ = [
    "DATASETS",
    "ClassName",
    "Dataset",
    "ImageDataset",
    "default_data_dir",
    "load_dataset",
]
