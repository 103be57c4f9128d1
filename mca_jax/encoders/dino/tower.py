"""The image tower of DINOv2 and DINOv3 as a Flax module, and its weights.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (TMLR
2024); Darcet et al., "Vision Transformers Need Registers" (ICLR 2024); Siméoni et al.,
"DINOv3" (2025). The scale of each layer's outputs (LayerScale) is multiplied into the
weights before it, and learnt positions are resized when weights are read, so that the
tower does neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mca_jax.encoders.dino.config import DinoConfig
from mca_jax.encoders.huggingface.tensors import (
    Tensors,
    add_zero_biases,
    check_tensors,
    stack_layers,
)
from mca_jax.encoders.huggingface.transformer import (
    ACTIVATIONS,
    TowerConfig,
    attend,
    layer_norm,
    rotate_heads,
)

__all__ = [
    "DinoTower",
    "LastBlock",
    "block_shapes",
    "block_weights",
    "convert_dino_tensors",
    "multiply_scales",
    "resize_weights",
    "run_blocks",
    "turns",
]

# The weights come from files; the modules are never initialised but in shape.
_INIT = nn.initializers.normal(0.02)


def turns(
    rows: int, columns: int, *, head_width: int, theta: float
) -> tuple[Float[np.ndarray, "p v"], Float[np.ndarray, "p v"]]:
    """Cosines and sines by which patches turn each head's queries and keys.

    A patch is where its centre lies in [-1, 1] along height and width; a quarter of
    the axes of a head each is turned by height and by width, at falling speeds, and
    the second half as the first.
    """
    speeds = theta ** -np.arange(0, 1, 4 / head_width)
    heights = 2 * (np.arange(rows) + 0.5) / rows - 1
    widths = 2 * (np.arange(columns) + 0.5) / columns - 1
    grid = np.stack(np.meshgrid(heights, widths, indexing="ij"), axis=-1)
    angles = 2 * np.pi * grid.reshape(-1, 2, 1) * speeds
    angles = np.tile(angles.reshape(rows * columns, -1), 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class _Mlp(nn.Module):
    """Two dense layers, the first perhaps with a gate beside it."""

    config: DinoConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "... w"]) -> Float[Array, "... w"]:
        tower, gated = self.config.tower, self.config.is_gated
        count = 2 if gated else 1
        hidden = nn.Dense(count * tower.hidden_width, dtype=self.dtype, name="expand")(
            x
        )
        if gated:
            gate, hidden = jnp.split(hidden, 2, axis=-1)
            hidden = ACTIVATIONS[tower.activation](gate) * hidden
        else:
            hidden = ACTIVATIONS[tower.activation](hidden)
        return nn.Dense(tower.width, dtype=self.dtype, name="project")(hidden)


class _Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream.

    The tokens of all rows are one axis, as in CLIP's towers. Returns a pair because
    it is scanned over the layers.
    """

    config: DinoConfig
    batch: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n w"], rotation: Any
    ) -> tuple[Float[Array, "n w"], None]:
        tower, dtype = self.config.tower, self.dtype
        normed = layer_norm(tower, dtype, "attention_norm")(x)
        mixed = nn.Dense(3 * tower.width, dtype=dtype, name="qkv")(normed)
        mixed = mixed.reshape(self.batch, -1, 3 * tower.width)
        query, key, value = jnp.split(mixed, 3, axis=-1)
        query, key = (_turn(each, rotation, tower) for each in (query, key))
        attended = attend(query, key, value, None, tower.num_heads).reshape(x.shape)
        x = x + nn.Dense(tower.width, dtype=dtype, name="out")(attended)
        normed = layer_norm(tower, dtype, "mlp_norm")(x)
        return x + _Mlp(self.config, dtype, name="mlp")(normed), None


class LastBlock(nn.Module):
    """The last block, computed only at the first token, which is the embedding."""

    config: DinoConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b t w"], rotation: Any) -> Float[Array, "b w"]:
        """Return what becomes of the first token."""
        tower, dtype = self.config.tower, self.dtype
        normed = layer_norm(tower, dtype, "attention_norm")(x)
        # The first token is no patch: its query is not turned.
        query = nn.Dense(tower.width, dtype=dtype, name="query")(normed[:, :1])
        both = nn.Dense(2 * tower.width, dtype=dtype, name="key_value")(normed)
        key, value = jnp.split(both, 2, axis=-1)
        key = _turn(key, rotation, tower)
        attended = attend(query, key, value, None, tower.num_heads)[:, 0]
        pooled = x[:, 0] + nn.Dense(tower.width, dtype=dtype, name="out")(attended)
        normed = layer_norm(tower, dtype, "mlp_norm")(pooled)
        return pooled + _Mlp(self.config, dtype, name="mlp")(normed)


def _turn(x: Float[Array, "b t w"], rotation: Any, tower: TowerConfig) -> Any:
    """Turn the tokens of patches, which are the last ones."""
    if rotation is None:
        return x
    first = x.shape[1] - rotation[0].shape[0]
    turned = rotate_heads(x[:, first:], rotation, tower.num_heads)
    return jnp.concatenate([x[:, :first], turned], axis=1)


def run_blocks(
    x: Float[Array, "b t w"],
    rotation: Any,
    config: DinoConfig,
    num_layers: int,
    dtype: Any,
) -> Float[Array, "b t w"]:
    """Run the first blocks of a tower; to be called within a compact module."""
    if num_layers == 0:
        return x
    batch, _, width = x.shape
    # Typed as a number, which says that an argument has an axis to scan over.
    no_axis: Any = nn.broadcast
    blocks = nn.scan(
        _Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=no_axis,
        length=num_layers,
    )(config, batch, dtype, name="blocks")
    return blocks(x.reshape(-1, width), rotation)[0].reshape(x.shape)


class DinoTower(nn.Module):
    """Patches of images to embeddings, not yet of unit norm.

    ``patches`` are normalised pixels ``[b, t, p]``, each patch flattened in the order
    height, width, channel, of images of ``grid`` patches.
    """

    config: DinoConfig
    grid: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, patches: Float[Array, "b t p"]) -> Float[Array, "b w"]:
        """Embed a batch of images."""
        config, dtype = self.config, self.dtype
        tower = config.tower
        x = nn.Dense(tower.width, dtype=dtype, name="patch")(patches.astype(dtype))
        batch, count, width = x.shape
        # Class token and registers come before the patches.
        first = self.param("first", _INIT, (1 + config.num_registers, width))
        first = jnp.broadcast_to(first.astype(dtype), (batch, *first.shape))
        rotation = None
        if config.theta:
            head_width = width // tower.num_heads
            rotation = turns(*self.grid, head_width=head_width, theta=config.theta)
        else:
            positions = self.param("positions", _INIT, (count, width))
            x = x + positions[None].astype(dtype)
        x = jnp.concatenate([first, x], axis=1)
        x = run_blocks(x, rotation, config, tower.num_layers - 1, dtype)
        x = LastBlock(config, dtype, name="last")(x, rotation)
        return layer_norm(tower, dtype, "post_norm")(x)


def resize_weights(old: int, new: int, *, antialias: bool) -> np.ndarray:
    """Weights of ``old`` samples for each of ``new``, float64 ``[new, old]``.

    Bicubic as PyTorch does it: over four neighbours, samples past an end being the last
    one; or, with antialiasing, over as many as a step is wide, scaled to sum to 1.
    """
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale
    if not antialias:
        weights = np.zeros((new, old))
        lower = np.floor(centers - 0.5).astype(int)
        for tap in range(-1, 3):
            distance = np.abs(centers - 0.5 - (lower + tap))
            columns = np.clip(lower + tap, 0, old - 1)
            np.add.at(weights, (np.arange(new), columns), _cubic(distance, -0.75))
        return weights
    widest = max(scale, 1.0)
    distance = np.abs(np.arange(old)[None] + 0.5 - centers[:, None]) / widest
    weights = _cubic(distance, -0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def convert_dino_tensors(
    tensors: Mapping[str, np.ndarray],
    config: DinoConfig,
    *,
    grid: tuple[int, int],
    dtype: str,
    source: str,
) -> dict[str, Any]:
    """Return the variables of ``DinoTower`` for images of ``grid`` patches.

    Args:
      tensors: Name -> array, all of the checkpoint.
      config: What config.json says.
      grid: Rows and columns of patches.
      dtype: ``"float32"`` or ``"bfloat16"``.
      source: Name of the checkpoint, for messages.

    Raises:
      InputError: Tensors are missing or of another shape, or layers are too many.
    """
    own = {_plain_name(name): tensor for name, tensor in tensors.items()}
    expected = _expected(config)
    width = config.tower.width
    add_zero_biases(own, expected, ending="_proj.bias")
    check_tensors(own, expected, source=source, ignored=_UNREAD)
    named = Tensors(multiply_scales(own, config), dtype)
    patch = named.array("embeddings.patch.weight").transpose(0, 2, 3, 1)
    first = [own["embeddings.cls_token"].reshape(1, width)]
    if config.num_registers:
        first.append(own["embeddings.register_tokens"][0])
    tokens = np.concatenate([np.asarray(each, np.float32) for each in first])
    weights: dict[str, Any] = {
        "patch": {
            "kernel": np.ascontiguousarray(patch.reshape(width, -1).T),
            "bias": named.array("embeddings.patch.bias"),
        },
        "post_norm": named.norm("norm"),
    }
    if config.grid_side:
        given = np.asarray(own["embeddings.position_embeddings"][0], np.float32)
        tokens[0] += given[0]
        positions = _resize_positions(given[1:], config, grid)
        weights["positions"] = positions.astype(named.dtype)
    weights["first"] = tokens.astype(named.dtype)
    last = config.tower.num_layers - 1
    weights["last"] = block_weights(named, config, last, is_last=True)
    if last:
        weights["blocks"] = stack_layers(
            lambda layer: block_weights(named, config, layer, is_last=False), last
        )
    return {"params": weights}


# What training needs, and frequencies that are computed.
_UNREAD = ("mask_token", "inv_freq", "classifier.weight", "classifier.bias", "periods")
# Names of published files and of newer ones -> one name for both.
_NAMES = (
    ("dinov2_with_registers.", ""),
    ("dinov2.", ""),
    ("encoder.layer.", "layer."),
    ("model.layer.", "layer."),
    ("attention.attention.query.", "attention.q_proj."),
    ("attention.attention.key.", "attention.k_proj."),
    ("attention.attention.value.", "attention.v_proj."),
    ("attention.output.dense.", "attention.o_proj."),
    ("embeddings.patch_embeddings.projection.", "embeddings.patch."),
    ("embeddings.patch_embeddings.", "embeddings.patch."),
    ("mlp.fc1.", "mlp.up_proj."),
    ("mlp.fc2.", "mlp.down_proj."),
    ("mlp.weights_in.", "mlp.both_proj."),
    ("mlp.weights_out.", "mlp.down_proj."),
)


def _plain_name(name: str) -> str:
    """Return the one name of a tensor."""
    for old, new in _NAMES:
        name = name.replace(old, new)
    if name.startswith("layernorm."):
        return name.removeprefix("layer")
    return name


def _expected(config: DinoConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that is read."""
    width = config.tower.width
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.patch.weight": (width, 3, config.patch_size, config.patch_size),
        "embeddings.patch.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if config.num_registers:
        shapes["embeddings.register_tokens"] = (1, config.num_registers, width)
    if config.grid_side:
        rows = config.grid_side**2 + 1
        shapes["embeddings.position_embeddings"] = (1, rows, width)
    return shapes | block_shapes(config)


def block_shapes(config: DinoConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the blocks."""
    width, hidden = config.tower.width, config.tower.hidden_width
    shapes: dict[str, tuple[int, ...]] = {}
    expand = ["up_proj"]
    if config.is_gated:
        expand = ["gate_proj", "up_proj"] if config.theta else ["both_proj"]
    outputs = 2 * hidden if expand == ["both_proj"] else hidden
    for layer in range(config.tower.num_layers):
        name = f"layer.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{name}.attention.{part}.weight"] = (width, width)
            shapes[f"{name}.attention.{part}.bias"] = (width,)
        for part in expand:
            shapes[f"{name}.mlp.{part}.weight"] = (outputs, width)
            shapes[f"{name}.mlp.{part}.bias"] = (outputs,)
        shapes[f"{name}.mlp.down_proj.weight"] = (width, hidden)
        shapes[f"{name}.mlp.down_proj.bias"] = (width,)
        for part in ("norm1", "norm2"):
            shapes[f"{name}.{part}.weight"] = (width,)
            shapes[f"{name}.{part}.bias"] = (width,)
        for part in ("layer_scale1", "layer_scale2"):
            shapes[f"{name}.{part}.lambda1"] = (width,)
    return shapes


def multiply_scales(
    tensors: Mapping[str, np.ndarray], config: DinoConfig
) -> Mapping[str, np.ndarray]:
    """Multiply each layer's scale into the weights before it."""
    scaled = dict(tensors)
    for layer in range(config.tower.num_layers):
        for number, part in ((1, "attention.o_proj"), (2, "mlp.down_proj")):
            scale = tensors[f"layer.{layer}.layer_scale{number}.lambda1"]
            scale = np.asarray(scale, np.float32)
            name = f"layer.{layer}.{part}"
            scaled[f"{name}.weight"] = scale[:, None] * tensors[f"{name}.weight"]
            scaled[f"{name}.bias"] = scale * tensors[f"{name}.bias"]
    return scaled


def block_weights(
    named: Tensors, config: DinoConfig, layer: int, *, is_last: bool
) -> dict[str, Any]:
    """Weights of one block."""
    name = f"layer.{layer}"
    groups = {"query": "q", "key_value": "kv"} if is_last else {"qkv": "qkv"}
    expand = ["up_proj"]
    if config.is_gated:
        expand = ["gate_proj", "up_proj"] if config.theta else ["both_proj"]
    return {
        "attention_norm": named.norm(f"{name}.norm1"),
        **{
            group: named.dense(*(f"{name}.attention.{part}_proj" for part in parts))
            for group, parts in groups.items()
        },
        "out": named.dense(f"{name}.attention.o_proj"),
        "mlp_norm": named.norm(f"{name}.norm2"),
        "mlp": {
            "expand": named.dense(*(f"{name}.mlp.{part}" for part in expand)),
            "project": named.dense(f"{name}.mlp.down_proj"),
        },
    }


def _resize_positions(
    positions: Float[np.ndarray, "s w"], config: DinoConfig, grid: tuple[int, int]
) -> Float[np.ndarray, "p w"]:
    """Resize learnt positions to a grid, as the reference does for each image."""
    side = config.grid_side
    if grid == (side, side):
        return positions
    antialias = config.family == "dinov2_with_registers"
    square = positions.reshape(side, side, -1).astype(np.float64)
    rows, columns = (resize_weights(side, new, antialias=antialias) for new in grid)
    resized = np.einsum("hi,ijw,vj->hvw", rows, square, columns)
    return resized.reshape(grid[0] * grid[1], -1).astype(np.float32)
