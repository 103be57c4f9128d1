"""Images of folders, files, PIL and arrays to decoded batches, on the host only."""

from mca_jax.data.decode import decode_image
from mca_jax.data.files import (
    DecodeError,
    FileIdentity,
    SkippedImage,
    TooFewImagesError,
    count_unread,
    describe_unread,
)
from mca_jax.data.folder import ImageFolder, find_images, folder_labels
from mca_jax.data.loader import Batch, LoadedImage, load_batches, load_image
from mca_jax.data.sources import Images, ImageSource, open_source

__all__ = [
    "Batch",
    "DecodeError",
    "FileIdentity",
    "ImageFolder",
    "ImageSource",
    "Images",
    "LoadedImage",
    "SkippedImage",
    "TooFewImagesError",
    "count_unread",
    "decode_image",
    "describe_unread",
    "find_images",
    "folder_labels",
    "load_batches",
    "load_image",
    "open_source",
]
