"""Make the golden checkpoints of test_open_clip.py: random weights, kilobytes.

Run with torch, open_clip_torch, timm and transformers at hand::

    python tests/goldens/make_open_clip_goldens.py

Each folder under open_clip/ is written by open_clip's own ``save_for_hf``, with
golden.npz (what the reference makes of images and texts) and golden.json (texts
and token ids) beside it. Folders that are there stay as they are. The reference is
open_clip's model, preprocessing and tokenizer as its own loader makes them from the
folder.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import timm.models.eva as timm_eva
import timm.models.vision_transformer as timm_vit
import torch
from make_clip_goldens import CORPUS, DIFFICULT, learn_merges, sample_images
from open_clip.push_to_hf_hub import save_for_hf
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent / "open_clip"
CLIP = ROOT.parent / "clip"
# The reference's special tokens have other names than those of transformers.
TEXTS = (
    *(text for text in DIFFICULT if "<|" not in text),
    "caf&eacute; &amp; bar",
    "schÃ¶n",
    "under_score's",
)
VISION = {"image_size": 32, "layers": 2, "width": 24, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 24, "width": 24, "heads": 2, "layers": 2}


def random_state(model: torch.nn.Module, seed: int) -> None:
    """Fill a model with weights under which every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.startswith("logit_"):
            weight.data = torch.full_like(weight, 2.0 if "scale" in name else -3.0)
        elif ("ln_" in name or "norm" in name) and name.endswith("weight"):
            weight.data = 1 + 0.2 * noise
        elif weight.ndim == 1:
            weight.data = 0.2 * noise
        elif "embedding" in name or "pos_embed" in name:
            weight.data = 0.7 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5


class Tables:
    """A tokenizer that is saved as transformers saves CLIP's."""

    def __init__(self) -> None:
        alphabet = list(bytes_to_unicode().values())
        words = [
            [*word[:-1], f"{word[-1]}</w>"]
            for line in CORPUS
            for word in line.replace(",", "").split()
        ]
        self.merges = learn_merges(words, 140)
        names = [*alphabet, *(f"{sign}</w>" for sign in alphabet)]
        names += [left + right for left, right in self.merges]
        names += ["<|startoftext|>", "<|endoftext|>"]
        self.vocabulary = {name: place for place, name in enumerate(names)}

    def save_pretrained(self, folder: str) -> None:
        lines = "\n".join(" ".join(pair) for pair in self.merges)
        write_json(Path(folder) / "vocab.json", self.vocabulary)
        (Path(folder) / "merges.txt").write_text(f"#version: 0.2\n{lines}\n")

    def reference(self, scratch: Path) -> SimpleTokenizer:
        """The reference's tokenizer with the same merges."""
        lines = "\n".join(" ".join(pair) for pair in self.merges)
        path = scratch / "merges.gz"
        path.write_bytes(gzip.compress(f"#version\n{lines}".encode()))
        found = SimpleTokenizer(str(path), context_length=24)
        path.unlink()
        return found


class Copied:
    """A tokenizer of another golden checkpoint."""

    def __init__(self, name: str) -> None:
        self.folder = CLIP / name
        self.size = len(
            json.loads((self.folder / "tokenizer.json").read_text())["model"]["vocab"]
        )

    def save_pretrained(self, folder: str) -> None:
        shutil.copy(self.folder / "tokenizer.json", Path(folder) / "tokenizer.json")
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 64,
            "padding_side": "right",
            "eos_token": "<eos>" if "2" in self.folder.name else "</s>",
            "pad_token": "<pad>" if "2" in self.folder.name else "</s>",
        }
        write_json(Path(folder) / "tokenizer_config.json", settings)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def shrink_timm() -> None:
    """Let timm make towers of two narrow layers; heads and names stay."""
    builders = (
        (timm_vit, "_create_vision_transformer"),
        (timm_eva, "_create_eva"),
    )
    for module, name in builders:
        setattr(module, name, _shrunk(getattr(module, name)))


def _shrunk(create: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    def small(
        name: str, pretrained: bool = False, **arguments: object
    ) -> torch.nn.Module:
        # Twelve heads of four axes, sixteen of two; SigLIP's of two.
        width, side = {"pe": (48, 32), "large": (32, 32)}.get(
            name.split("_")[1], (24, 36)
        )
        size = {"embed_dim": width, "depth": 2, "img_size": side, "patch_size": 8}
        return create(name, pretrained=pretrained, **(arguments | size))

    return small


def finish(
    name: str, config: dict, tokenizer: Tables | Copied, seed: int, **preprocess: str
) -> None:
    """Write a checkpoint and what the reference makes of images and texts."""
    folder = ROOT / name
    if folder.exists():
        return
    custom = config.get("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    given = {k: v for k, v in config.items() if k != "custom_text"}
    model = kind(**given)
    random_state(model, seed)
    open_clip.model.set_model_preprocess_cfg(
        model, {**vars(open_clip.transform.PreprocessCfg()), **preprocess}
    )
    save_for_hf(model, tokenizer, config, str(folder), safe_serialization=True)
    # Half the bytes; the reference below is what these rounded weights give.
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors", {"format": "pt"})
    loaded, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    loaded.eval()
    if isinstance(tokenizer, Tables):
        split = tokenizer.reference(folder)
    else:
        split = open_clip.get_tokenizer(f"local-dir:{folder}")
    ids = split(list(TEXTS))
    images = sample_images()
    pixels = torch.stack([prepare(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        embedded = loaded.encode_image(pixels, normalize=True)
        read = loaded.encode_text(ids, normalize=True)
    np.savez_compressed(
        folder / "golden.npz",
        **{f"picture_{i}": image for i, image in enumerate(images)},
        image_embeddings=embedded.numpy(),
        text_embeddings=read.numpy(),
    )
    write_json(folder / "golden.json", {"texts": TEXTS, "ids": ids.tolist()})
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    sys.stdout.write(f"{name}: {size / 1024:.0f} KB\n")


def main() -> None:
    ROOT.mkdir(exist_ok=True)
    shrink_timm()
    tables = Tables()
    text = {**TEXT, "vocab_size": len(tables.vocabulary)}
    # As DFN's: OpenAI's activation, no logit bias.
    plain = {
        "embed_dim": 20,
        "quick_gelu": True,
        "vision_cfg": VISION,
        "text_cfg": text,
    }
    finish("vit", plain, tables, 1)
    # As fine-tunes are: the text tower apart, a bias, images padded to a square.
    custom = {
        **plain,
        "quick_gelu": False,
        "custom_text": True,
        "init_logit_bias": -9.0,
    }
    finish(
        "custom_text",
        custom,
        tables,
        2,
        resize_mode="longest",
        interpolation="bilinear",
    )
    for name, vocabulary, timm_name in (
        ("siglip", "siglip", "vit_base_patch16_siglip_224"),
        ("siglip2", "siglip2", "vit_base_patch32_siglip_256"),
    ):
        copied = Copied(vocabulary)
        config = {
            "embed_dim": 24,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 36,
                "timm_model_name": timm_name,
                "timm_pool": "map",
                "timm_proj": "none",
            },
            "text_cfg": {
                "context_length": 64,
                "vocab_size": copied.size,
                "hf_tokenizer_name": f"timm/{name}",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": 24 if name == "siglip2" else 18,
                "heads": 3,
                "layers": 2,
                "no_causal_mask": True,
                "proj_bias": True,
                "pool_type": "last",
                "norm_kwargs": {"eps": 1e-6},
            },
        }
        if name == "siglip2":
            config["text_cfg"] |= {
                "act_kwargs": {"approximate": "tanh"},
                "proj_type": "none",
            }
        finish(
            name,
            config,
            copied,
            3,
            resize_mode="squash",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )
    # The Perception Encoder, and MobileCLIP 2 L-14, whose texts see their padding.
    for name, timm_name, pool in (
        ("perception", "vit_pe_core_base_patch16_224", "map"),
        ("mobileclip2", "vit_large_patch14_clip_224", "token"),
    ):
        trunk = {
            "image_size": 32,
            "timm_model_name": timm_name,
            "timm_pool": pool,
            "timm_proj": None,
        }
        config = {"embed_dim": 20, "custom_text": True, "vision_cfg": trunk}
        config["text_cfg"] = {**text, "no_causal_mask": name == "mobileclip2"}
        finish(name, config, tables, 4, resize_mode="squash")


if __name__ == "__main__":
    main()
