"""EfficientNet-Lite as pure functions over a dict of folded weights.

The net is the one of Tan and Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks" (ICML 2019), in its Lite variant: no squeeze and
excitation, ReLU6, stem and head not scaled. Batch normalisation is folded into
the convolutions when the assets are built, so that a layer is a kernel and a
bias. The weights are one flat dict, keys ``"stem"``, ``"blocks.<i>.expand"``,
``"blocks.<i>.depthwise"``, ``"blocks.<i>.project"`` and ``"head"``, each with
``".kernel"`` and ``".bias"``; kernels are ``[h, w, in, out]`` in the stem,
``[h, w, channels]`` in depthwise layers and ``[in, out]`` elsewhere. Channel
numbers and kernel sizes are read off the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["LITE0", "LITE2", "Convolution", "NetSpec", "extract_features"]

Convolution = Literal["direct", "unrolled"]
_Weights = Mapping[str, jax.Array]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Features amplify rounding of the weights some tenfold: TF32 or bfloat16
# products, the default on accelerators, would miss parity by far.
_PRECISION = lax.Precision.HIGHEST
# Images at a time where convolutions are unrolled. The widest activations of
# one image take 5 MB; few images at a time stay in the cache.
_GROUP = 4


class NetSpec(NamedTuple):
    """What distinguishes one EfficientNet-Lite from another, beside weights.

    Attributes:
      image_size: Height and width in pixels that the net was trained for.
      strides: Stride of each block's depthwise convolution, in order.
    """

    image_size: int
    strides: tuple[int, ...]


def _strides(repeats: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of all blocks; only a stage's first block has one."""
    firsts = (1, 2, 2, 2, 1, 2, 1)
    pairs = zip(firsts, repeats, strict=True)
    return tuple(s for first, n in pairs for s in (first, *[1] * (n - 1)))


LITE0 = NetSpec(image_size=224, strides=_strides((1, 2, 2, 3, 3, 4, 1)))
LITE2 = NetSpec(image_size=260, strides=_strides((1, 3, 3, 4, 4, 5, 1)))


def _same_padding(size: int, window: int, stride: int) -> tuple[int, tuple[int, int]]:
    """Return the output size and the padding of TensorFlow's "same" rule.

    The odd pixel goes to the end, so that an even size with stride 2 is padded
    by 0 and 1, not by 1 and 1 as is usual in PyTorch.
    """
    out = math.ceil(size / stride)
    total = max((out - 1) * stride + window - size, 0)
    return out, (total // 2, total - total // 2)


def _shifts(x: jax.Array, window: int, stride: int) -> list[jax.Array]:
    """Return the padded image once for each position in the window.

    Args:
      x: Activations of shape ``[b, h, w, c]``.
      window: Height and width of the window.
      stride: Step of the window.

    Returns:
      ``window ** 2`` arrays of shape ``[b, ceil(h/stride), ceil(w/stride), c]``,
      row by row.
    """
    b, h, w, c = x.shape
    high, pad_h = _same_padding(h, window, stride)
    wide, pad_w = _same_padding(w, window, stride)
    x = jnp.pad(x, ((0, 0), pad_h, pad_w, (0, 0)))
    last_h, last_w = (high - 1) * stride + 1, (wide - 1) * stride + 1
    return [
        lax.slice(
            x, (0, i, j, 0), (b, i + last_h, j + last_w, c), (1, stride, stride, 1)
        )
        for i in range(window)
        for j in range(window)
    ]


def _dense(x: jax.Array, weights: _Weights, layer: str) -> jax.Array:
    """Apply a 1x1 convolution as a matrix product."""
    kernel, bias = weights[f"{layer}.kernel"], weights[f"{layer}.bias"]
    return jnp.matmul(x, kernel, precision=_PRECISION) + bias[None, None, None]


def _depthwise(
    x: jax.Array, weights: _Weights, layer: str, stride: int, convolution: Convolution
) -> jax.Array:
    """Filter each channel by a kernel of its own."""
    kernel, bias = weights[f"{layer}.kernel"], weights[f"{layer}.bias"]
    if convolution == "direct":
        y = lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (stride, stride),
            "SAME",
            dimension_numbers=_LAYOUT,
            feature_group_count=x.shape[-1],
            precision=_PRECISION,
        )
    else:
        shifts = _shifts(x, kernel.shape[0], stride)
        taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
        y = shifts[0] * taps[0]
        for shift, tap in zip(shifts[1:], taps[1:], strict=True):
            y = y + shift * tap
    return y + bias[None, None, None]


def _stem(x: jax.Array, weights: _Weights, convolution: Convolution) -> jax.Array:
    """Apply the first convolution, the only one that is full, with stride 2."""
    kernel, bias = weights["stem.kernel"], weights["stem.bias"]
    if convolution == "direct":
        y = lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=_LAYOUT, precision=_PRECISION
        )
    else:
        patches = jnp.concatenate(_shifts(x, kernel.shape[0], 2), axis=-1)
        flat = kernel.reshape(-1, kernel.shape[-1])
        y = jnp.matmul(patches, flat, precision=_PRECISION)
    return y + bias[None, None, None]


def _relu6(x: jax.Array) -> jax.Array:
    """Clip to [0, 6]."""
    return jnp.clip(x, 0.0, 6.0)


def _forward(
    weights: _Weights,
    pixels: jax.Array,
    *,
    strides: tuple[int, ...],
    convolution: Convolution,
) -> jax.Array:
    """Map pixels ``[b, h, w, 3]`` to pooled features ``[b, d]``."""
    x = (pixels.astype(jnp.float32) - 127.0) / 128.0
    x = _relu6(_stem(x, weights, convolution))
    for index, stride in enumerate(strides):
        block = f"blocks.{index}"
        y = x
        if f"{block}.expand.kernel" in weights:
            y = _relu6(_dense(y, weights, f"{block}.expand"))
        y = _depthwise(y, weights, f"{block}.depthwise", stride, convolution)
        y = _dense(_relu6(y), weights, f"{block}.project")
        x = x + y if y.shape == x.shape else y
    return jnp.mean(_relu6(_dense(x, weights, "head")), axis=(1, 2))


def extract_features(
    weights: _Weights,
    pixels: jax.Array,
    *,
    strides: tuple[int, ...],
    convolution: Convolution,
) -> jax.Array:
    """Compute the pooled features, the input of the net's classifier.

    Args:
      weights: Folded weights, float32; see the module.
      pixels: uint8 RGB of shape ``[b, h, w, 3]``, at the net's image size.
      strides: `NetSpec.strides` of the net.
      convolution: ``"direct"`` leaves convolutions to XLA, which is right on
        accelerators. ``"unrolled"`` writes depthwise ones as a sum of shifted
        products and the stem as a matrix product, a few images at a time,
        which is some ten times as fast on a CPU. Both agree but for rounding.

    Returns:
      Features of shape ``[b, d]``, float32, in [0, 6].
    """
    forward = partial(_forward, weights, strides=strides, convolution=convolution)
    if convolution == "direct":
        return forward(pixels)
    # Groups of one size, the last one padded: a group of another size would be
    # another program, whose rounding gives the same image other last bits.
    count = pixels.shape[0]
    size = max(min(_GROUP, count), 1)
    padded = jnp.pad(pixels, ((0, -count % size), (0, 0), (0, 0), (0, 0)))
    groups = padded.reshape(-1, size, *pixels.shape[1:])
    features = lax.map(forward, groups)
    return features.reshape(-1, features.shape[-1])[:count]
