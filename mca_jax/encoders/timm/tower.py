"""Vision transformers as timm builds them: a Flax module, and its weights.

The blocks are those of DINO's towers; around them the architectures differ in norms,
positions and pooling. The Perception Encoder is that of Bolya et al., "Perception
Encoder" (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mca_jax.encoders.clip.towers import AttentionPool
from mca_jax.encoders.dino.config import DinoConfig
from mca_jax.encoders.dino.tower import (
    LastBlock,
    block_shapes,
    block_weights,
    multiply_scales,
    run_blocks,
    turns,
)
from mca_jax.encoders.huggingface.tensors import Tensors, check_tensors, stack_layers
from mca_jax.encoders.huggingface.transformer import layer_norm
from mca_jax.encoders.timm.config import TimmConfig

__all__ = ["TimmTower", "convert_timm_tensors", "grid_turns"]

# The weights come from files; the modules are never initialised but in shape.
_INIT = nn.initializers.normal(0.02)
_Tensors = dict[str, np.ndarray]


def grid_turns(
    grid: tuple[int, int], trained: tuple[int, int], *, head_width: int
) -> tuple[Float[np.ndarray, "p v"], Float[np.ndarray, "p v"]]:
    """Cosines and sines by which the Perception Encoder turns queries and keys.

    Columns turn the first axes of a head and rows the next, counted from 1 in patches
    of the grid that it was trained with. The second half is turned as the first, where
    the original takes axes by twos: weights are put into that order.
    """
    speeds = 10_000.0 ** -np.arange(0, 1, 4 / head_width)
    rows, columns = (
        (np.arange(count) + 1) / count * old
        for count, old in zip(grid, trained, strict=True)
    )
    places = np.stack(np.meshgrid(columns, rows, indexing="xy"), axis=-1)
    angles = (places.reshape(-1, 2, 1) * speeds).reshape(grid[0] * grid[1], -1)
    angles = np.tile(angles, 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class TimmTower(nn.Module):
    """Patches of images to embeddings, not yet of unit norm.

    ``patches`` are normalised pixels ``[b, t, p]``, each patch flattened in the order
    height, width, channel. Above a ``projection`` of 0 a last dense layer leads to
    that width.
    """

    config: TimmConfig
    projection: int
    dtype: Any

    @nn.compact
    def __call__(self, patches: Float[Array, "b t p"]) -> Float[Array, "b w"]:
        """Embed a batch of images."""
        config, dtype = self.config, self.dtype
        tower = config.blocks.tower
        x = nn.Dense(tower.width, dtype=dtype, name="patch")(patches.astype(dtype))
        batch, count, width = x.shape
        if config.has_positions:
            positions = self.param("positions", _INIT, (count, width))
            x = x + positions[None].astype(dtype)
        if config.num_first:
            first = self.param("first", _INIT, (config.num_first, width))
            first = jnp.broadcast_to(first.astype(dtype), (batch, *first.shape))
            x = jnp.concatenate([first, x], axis=1)
        if config.has_pre_norm:
            x = layer_norm(tower, dtype, "pre_norm")(x)
        rotation = _find_turns(config)
        is_first = config.pooling == "token"
        num_layers = tower.num_layers - is_first
        x = run_blocks(x, rotation, config.blocks, num_layers, dtype)
        if is_first:
            x = LastBlock(config.blocks, dtype, name="last")(x, rotation)
        norm = layer_norm(tower, dtype, "post_norm")
        x = x if config.norms_pooled else norm(x)
        if config.pooling == "avg":
            patches = x[:, config.num_first :].astype(jnp.float32)
            x = jnp.mean(patches, axis=1).astype(dtype)
        elif config.pool is not None:
            x = AttentionPool(config.pool, dtype, name="pool")(x, None)
        x = norm(x) if config.norms_pooled else x
        if self.projection:
            x = nn.Dense(self.projection, dtype=dtype, name="projection")(x)
        return x


def _find_turns(config: TimmConfig) -> Any:
    """Return cosines and sines of the turns of patches, None without."""
    tower = config.blocks.tower
    head_width = tower.width // tower.num_heads
    if config.rotation == "dinov3":
        return turns(*config.grid, head_width=head_width, theta=config.blocks.theta)
    if config.rotation == "perception":
        return grid_turns(config.grid, config.rotation_grid, head_width=head_width)
    return None


def convert_timm_tensors(
    tensors: Mapping[str, np.ndarray],
    config: TimmConfig,
    *,
    dtype: str,
    source: str,
    projection: int = 0,
) -> dict[str, Any]:
    """Return the variables of ``TimmTower``.

    Args:
      tensors: Name -> array, as timm names them.
      config: What the architecture is.
      dtype: ``"float32"`` or ``"bfloat16"``.
      source: Name of the checkpoint, for messages.
      projection: Width behind timm's head, 0 to go without.

    Raises:
      InputError: Tensors are missing or of another shape, or layers are too many.
    """
    own: _Tensors = {}
    for name, tensor in tensors.items():
        own.update(_rename(name, tensor, config))
    expected = block_shapes(config.blocks) | _outer_shapes(config, projection)
    # Biases and scales are left out where a model has none.
    for name, shape in expected.items():
        if name.endswith((".bias", ".lambda1")) and name not in own:
            fill = np.ones if name.endswith(".lambda1") else np.zeros
            own[name] = fill(shape, np.float32)
    ignored = () if projection else ("head.weight", "head.bias")
    check_tensors(
        own, expected, source=source, ignored=(*ignored, "mask_token", "periods")
    )
    named = Tensors(multiply_scales(_in_halves(own, config), config.blocks), dtype)
    return {"params": _outer_weights(named, own, config, projection)}


_NAMES = {
    "attn.proj": "attention.o_proj",
    "attn.q_proj": "attention.q_proj",
    "attn.k_proj": "attention.k_proj",
    "attn.v_proj": "attention.v_proj",
    "mlp.fc1_g": "mlp.gate_proj",
    "mlp.fc1_x": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
    "norm1": "norm1",
    "norm2": "norm2",
}
_SCALES = {
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
    "gamma_1": "layer_scale1.lambda1",
    "gamma_2": "layer_scale2.lambda1",
}


def _rename(name: str, tensor: np.ndarray, config: TimmConfig) -> _Tensors:
    """Name a tensor of the blocks as DINO's are; others keep their name."""
    if not name.startswith("blocks."):
        return {name: tensor}
    _, layer, part = name.split(".", 2)
    stem = f"layer.{layer}"
    if part in _SCALES:
        return {f"{stem}.{_SCALES[part]}": tensor}
    part, _, kind = part.rpartition(".")
    if part == "attn" and kind in ("q_bias", "v_bias"):
        return {f"{stem}.attention.{kind[0]}_proj.bias": tensor}
    if part == "attn.qkv":
        rows = zip("qkv", np.split(tensor, 3), strict=True)
        return {f"{stem}.attention.{each}_proj.{kind}": row for each, row in rows}
    if part == "mlp.fc1":
        is_packed = config.blocks.is_gated
        return {f"{stem}.mlp.{'both' if is_packed else 'up'}_proj.{kind}": tensor}
    return {f"{stem}.{_NAMES.get(part, part)}.{kind}": tensor}


def _in_halves(tensors: _Tensors, config: TimmConfig) -> _Tensors:
    """Put axes of heads that are turned by twos into two halves."""
    if config.rotation != "perception":
        return tensors
    width, heads = config.blocks.tower.width, config.blocks.tower.num_heads
    order = np.arange(width).reshape(heads, -1, 2).swapaxes(1, 2).ravel()
    parts = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
    return {
        name: tensor[order] if name.endswith(parts) else tensor
        for name, tensor in tensors.items()
    }


def _outer_shapes(config: TimmConfig, projection: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor around the blocks."""
    blocks, width = config.blocks, config.blocks.tower.width
    side, registers = blocks.patch_size, blocks.num_registers
    rows, columns = config.grid
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, 3, side, side),
        "patch_embed.proj.bias": (width,),
    }
    if config.num_first > registers:
        shapes["cls_token"] = (1, 1, width)
    if registers:
        shapes["reg_token"] = (1, registers, width)
    if config.has_positions:
        shapes["pos_embed"] = (1, rows * columns + config.num_placed, width)
    norms = ["fc_norm" if config.norms_pooled else "norm"]
    norms += ["norm_pre"] if config.has_pre_norm else []
    if config.pool is not None:
        norms.append("attn_pool.norm")
        hidden = config.pool.hidden_width
        shapes["attn_pool.latent"] = (1, 1, width)
        for part, outputs, inputs in (
            ("q", width, width),
            ("kv", 2 * width, width),
            ("proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, hidden),
        ):
            shapes[f"attn_pool.{part}.weight"] = (outputs, inputs)
            shapes[f"attn_pool.{part}.bias"] = (outputs,)
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    if projection:
        shapes |= {"head.weight": (projection, width), "head.bias": (projection,)}
    return shapes


def _outer_weights(
    named: Tensors, own: _Tensors, config: TimmConfig, projection: int
) -> dict[str, Any]:
    """Weights of the tower."""
    blocks = config.blocks
    patch = named.array("patch_embed.proj.weight").transpose(0, 2, 3, 1)
    weights: dict[str, Any] = {
        "patch": {
            "kernel": np.ascontiguousarray(patch.reshape(blocks.tower.width, -1).T),
            "bias": named.array("patch_embed.proj.bias"),
        },
        "post_norm": named.norm("fc_norm" if config.norms_pooled else "norm"),
    }
    names = [name for name in ("cls_token", "reg_token") if name in own]
    tokens = [np.asarray(own[name][0], np.float32) for name in names]
    first = np.concatenate(tokens) if tokens else np.zeros((0, 1))
    if config.has_positions:
        given = np.asarray(own["pos_embed"][0], np.float32)
        if config.num_placed:
            first[: config.num_placed] += given[: config.num_placed]
        weights["positions"] = given[config.num_placed :].astype(named.dtype)
    if config.num_first:
        weights["first"] = first.astype(named.dtype)
    if config.has_pre_norm:
        weights["pre_norm"] = named.norm("norm_pre")
    if config.pool is not None:
        weights["pool"] = _pool_weights(named)
    if projection:
        weights["projection"] = named.dense("head")
    return weights | _stacked(named, blocks, is_first=config.pooling == "token")


def _stacked(named: Tensors, blocks: DinoConfig, *, is_first: bool) -> dict[str, Any]:
    """Weights of the blocks; where the first token is pooled, the last stands apart."""
    count, found = blocks.tower.num_layers - is_first, {}
    if is_first:
        found["last"] = block_weights(named, blocks, count, is_last=True)
    if count:
        found["blocks"] = stack_layers(
            lambda layer: block_weights(named, blocks, layer, is_last=False), count
        )
    return found


def _pool_weights(named: Tensors) -> dict[str, Any]:
    """Weights of the pooling by attention."""
    name = "attn_pool"
    return {
        "probe": named.array(f"{name}.latent")[0],
        "query": named.dense(f"{name}.q"),
        "key_value": named.dense(f"{name}.kv"),
        "out": named.dense(f"{name}.proj"),
        "norm": named.norm(f"{name}.norm"),
        "mlp": {
            "expand": named.dense(f"{name}.mlp.fc1"),
            "project": named.dense(f"{name}.mlp.fc2"),
        },
    }
