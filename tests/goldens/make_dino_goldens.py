"""Make the golden checkpoints of test_dino.py: random weights, kilobytes.

Run with torch, torchvision and transformers at hand::

    python tests/goldens/make_dino_goldens.py

Each folder under dino/ is written by transformers' own ``save_pretrained``, with
golden.npz (what the reference makes of images) beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from make_clip_goldens import sample_images
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent / "dino"
SIZE = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
# Positions of 6 by 6 patches for images of 4 by 4, as of 37 by 37 for 16 by 16.
V2 = {**SIZE, "image_size": 48, "patch_size": 8, "mlp_ratio": 2}
MODELS = {
    "v2": ("dinov2", V2),
    "v2_giant": ("dinov2", {**V2, "use_swiglu_ffn": True}),
    "v2_registers": ("dinov2_with_registers", {**V2, "num_register_tokens": 2}),
    "v3": (
        "dinov3_vit",
        {
            **SIZE,
            "image_size": 32,
            "intermediate_size": 40,
            "num_register_tokens": 2,
            "patch_size": 8,
        },
    ),
    "v3_gated": (
        "dinov3_vit",
        {
            **SIZE,
            "hidden_act": "silu",
            "image_size": 32,
            "intermediate_size": 40,
            "num_register_tokens": 2,
            "patch_size": 8,
            "use_gated_mlp": True,
        },
    ),
}


def random_state(model: torch.nn.Module, seed: int) -> None:
    """Fill a model with weights under which every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weight.data = 1 + 0.2 * noise
        elif "lambda" in name:
            weight.data = 0.7 + 0.3 * noise
        elif weight.ndim == 1:
            weight.data = 0.2 * noise
        elif "embeddings" in name and weight.ndim == 3:
            weight.data = 0.7 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5


def make(name: str, seed: int) -> None:
    """Write one checkpoint and what the reference makes of images."""
    folder = ROOT / name
    kind, values = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **values)
    model = transformers.AutoModel.from_config(config).eval()
    random_state(model, seed)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    half = {key: tensor.half() for key, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    images = [Image.fromarray(image) for image in sample_images()]
    if kind == "dinov3_vit":
        # Its processor resizes fractions; here pixels are whole, as of all encoders.
        processor = transformers.DINOv3ViTImageProcessor(
            size={"height": 32, "width": 32}
        )
        whole = [image.resize((32, 32), Image.Resampling.BILINEAR) for image in images]
        processor.save_pretrained(folder)
        pixels = processor(whole, return_tensors="pt")
    else:
        processor = transformers.BitImageProcessorPil(
            size={"shortest_edge": 37},
            crop_size={"height": 32, "width": 32},
            resample=3,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        )
        processor.save_pretrained(folder)
        pixels = processor(images, return_tensors="pt")
    with torch.no_grad():
        pooled = model(**pixels).pooler_output
    unit = torch.nn.functional.normalize(pooled, dim=1).numpy()
    pictures = {f"picture_{i}": np.asarray(each) for i, each in enumerate(images)}
    np.savez_compressed(folder / "golden.npz", **pictures, image_embeddings=unit)
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    kept = json.loads((folder / "config.json").read_text())["model_type"]
    sys.stdout.write(f"{name} ({kept}): {size / 1024:.0f} KB\n")


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    for seed, name in enumerate(MODELS):
        make(name, seed)


if __name__ == "__main__":
    main()
