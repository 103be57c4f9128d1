"""Make the golden checkpoints of test_timm.py: random weights, kilobytes.

Run with torch, timm and transformers at hand::

    python tests/goldens/make_timm_goldens.py

Each folder under timm/ is written by timm's own ``save_for_hf``, with golden.npz (what
timm makes of the pictures of dino/v2) beside it: its model as it loads it from that
folder, without a classifier, and its own preparation of images.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from make_clip_goldens import sample_images
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models._hub import save_for_hf

ROOT = Path(__file__).resolve().parent / "timm"
SMALL = {
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 0,
}
# Architectures whose names stand for all that differs between those that are read.
MODELS: dict[str, tuple[str, dict]] = {
    "plain": ("vit_small_patch16_224", {"num_classes": 5}),
    "deit3": ("deit3_small_patch16_224", {}),
    "reg_gap": ("vit_little_patch16_reg4_gap_256", {}),
    "dinov2": ("vit_giant_patch14_reg4_dinov2", {"mlp_ratio": 4}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "dinov3_gated": (
        "vit_huge_plus_patch16_dinov3_qkvb",
        {"global_pool": "token", "mlp_ratio": 4},
    ),
    "clip": ("vit_base_patch32_clip_quickgelu_224", {}),
    "siglip": ("vit_base_patch32_siglip_256", {}),
    "siglip_gap": ("vit_base_patch16_siglip_gap_224", {}),
    "perception": (
        "vit_pe_core_base_patch16_224",
        # Five by three of training for four by four patches.
        {"embed_dim": 32, "num_heads": 4, "ref_feat_shape": (5, 3)},
    ),
}


def random_state(model: torch.nn.Module, seed: int) -> None:
    """Fill a model with weights under which every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weight.data = 1 + 0.2 * noise
        elif "gamma" in name:
            weight.data = 0.7 + 0.3 * noise
        elif weight.ndim == 1:
            weight.data = 0.2 * noise
        elif name.endswith(("_token", "pos_embed", "latent")):
            weight.data = 0.7 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5


def make(name: str, seed: int) -> None:
    """Write one checkpoint and what timm makes of images."""
    folder = ROOT / name
    architecture, changes = MODELS[name]
    model = timm.create_model(architecture, **{**SMALL, **changes})
    random_state(model, seed)
    data = {"input_size": (3, 32, 32)}
    save_for_hf(model, folder, safe_serialization=True, data_config=data)
    tensors = load_file(folder / "model.safetensors")
    half = {key: tensor.half() for key, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    loaded.reset_classifier(0)
    config = timm.data.resolve_model_data_config(loaded)
    prepare = timm.data.create_transform(**config)
    images = [Image.fromarray(image) for image in sample_images()]
    with torch.no_grad():
        pooled = loaded.eval()(torch.stack([prepare(image) for image in images]))
    unit = torch.nn.functional.normalize(pooled, dim=1).numpy()
    np.savez_compressed(folder / "golden.npz", image_embeddings=unit)
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    kept = json.loads((folder / "config.json").read_text())["model_args"]
    sys.stdout.write(f"{name} ({sorted(kept)}): {size / 1024:.0f} KB\n")


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    for seed, name in enumerate(MODELS):
        make(name, seed)


if __name__ == "__main__":
    main()
