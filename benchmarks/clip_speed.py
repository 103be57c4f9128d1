"""Speed of CLIP ViT-B/32 against transformers' PyTorch model, in one process.

Run with torch and transformers installed::

    python benchmarks/clip_speed.py --rounds=5

Both models have the same random weights of the true sizes, in float32, and take
turns, so that what else the machine does slows both. Images come in batches of
32; texts are prompts of the nouns that the package ships, padded to the longest
of a batch. Reports medians, their ratio, the ratio of the best times, and that
the embeddings agree. Writes one JSON line for a results table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mca_jax.encoders.clip.encoder import build_clip
from mca_jax.encoders.embed_nouns import cut_length

__all__ = ["main"]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=32, help="images in a batch")
    parser.add_argument("--texts", type=int, default=128, help="prompts in a batch")
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    return parser.parse_args()


def _build_models(folder: Path) -> tuple[Any, Any]:
    """Return our encoder and the reference's model with the same weights."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers

    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig()).eval()
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    return build_clip(str(folder)), model


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are five letters long, as CLIP's about are.

    CLIP's own table is no part of this package, and only lengths matter here.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    names = {"<unk>": 0, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    library = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\w{1,5}|[^\w\s]"), behavior="removed", invert=True
    )
    library.save(str(folder / "tokenizer.json"))


def _nouns(count: int) -> list[str]:
    """Evenly spaced nouns of those that the package ships."""
    table = resources.files("mca_jax") / "assets" / "nouns.npz"
    with table.open("rb") as stream, np.load(stream) as arrays:
        lemmas = bytes(arrays["lemmas"]).decode().split("\n")
    step = max(1, len(lemmas) // count)
    return [each.split("\t")[0].replace("_", " ") for each in lemmas[::step]][:count]


def _race(
    ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int
) -> dict[str, float]:
    """Time two functions by turns, after one turn that doesn't count."""
    times: dict[str, list[float]] = {"jax": [], "torch": []}
    for turn in range(rounds + 1):
        for name, function in (("jax", ours), ("torch", theirs)):
            start = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(each) for name, each in times.items()}
    return {
        "jax_seconds": middle["jax"],
        "torch_seconds": middle["torch"],
        "ratio": middle["torch"] / middle["jax"],
        "ratio_of_best": min(times["torch"]) / min(times["jax"]),
    }


def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure both towers."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(options.threads)
    encoder, model = _build_models(folder)
    params = jax.device_put(encoder.params)
    pixels = np.random.default_rng(0).integers(
        0, 256, (options.images, 224, 224, 3), np.uint8
    )
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    normal = torch.from_numpy(
        np.ascontiguousarray(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2))
    ).float()
    nouns = _nouns(options.texts)
    tokens = encoder.tokenize(nouns, [""] * len(nouns))
    longest = int((tokens[:, 0] != 49407).sum(axis=1).max()) + 1
    # As embed_nouns does, the reference's rows being cut to the last token.
    tokens = tokens[..., : cut_length(longest, tokens.shape[-1])]
    ids = torch.from_numpy(tokens[:, 0, :longest].astype(np.int64))
    encode_images = jax.jit(encoder.encode_images)
    encode_texts = jax.jit(encoder.encode_texts)

    def their_images() -> Any:
        return model.get_image_features(pixel_values=normal).pooler_output

    def their_texts() -> Any:
        return model.get_text_features(input_ids=ids).pooler_output

    def our_images() -> Any:
        return encode_images(params, pixels).block_until_ready()

    def our_texts() -> Any:
        return encode_texts(params, tokens).block_until_ready()

    with torch.no_grad():
        result = {
            "images": {
                "batch": options.images,
                **_race(our_images, their_images, options.rounds),
                "difference": _difference(our_images(), their_images()),
            },
            "texts": {
                "batch": options.texts,
                "tokens": list(tokens.shape[1:]),
                "torch_tokens": longest,
                **_race(our_texts, their_texts, options.rounds),
                "difference": _difference(our_texts(), their_texts()),
            },
        }
    for part in result.values():
        part["jax_per_second"] = part["batch"] / part["jax_seconds"]
    return result


def _difference(ours: Any, theirs: Any) -> float:
    """Largest difference between unit vectors."""
    found = theirs.numpy()
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return float(np.abs(np.asarray(ours) - found).max())


def main() -> None:
    """Run the benchmark and print its results."""
    options = _parse()
    with tempfile.TemporaryDirectory() as scratch:
        result = _measure(Path(scratch), options)
    machine = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    for name, part in result.items():
        print(
            f"{name}: {part['jax_per_second']:.1f}/s, {part['ratio']:.2f} times torch "
            f"(best against best {part['ratio_of_best']:.2f}), largest difference "
            f"{part['difference']:.1e}"
        )
    print(json.dumps({**machine, **result}))


if __name__ == "__main__":
    main()
