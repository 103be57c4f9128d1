"""The two towers of CLIP, SigLIP and SigLIP 2 as Flax modules.

The vision transformer is that of Dosovitskiy et al., "An Image is Worth 16x16
Words" (ICLR 2021), with the changes of Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision" (ICML 2021), and of Zhai et al.,
"Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).

Blocks are one module scanned over stacked weights: a 40-layer tower compiles as
fast as one layer and computes as fast as an unrolled one. Queries, keys and
values come from one matrix product. Where one place of a row is pooled, the last
block computes that place alone. No module leaves the encoders: callers see
pure functions over a tree of weights.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mca_jax.encoders.clip.config import ClipConfig, TowerConfig
from mca_jax.encoders.huggingface.transformer import Mlp, attend, layer_norm

__all__ = ["ImageTower", "TextTower", "find_ends"]

# The weights come from files; the modules are never initialised but in shape.
_INIT = nn.initializers.normal(0.02)


class _Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream.

    The places of all rows stand in one axis of ``n = batch * t``: on a CPU, XLA
    spreads elementwise work over a matrix better than over ``[b, t, w]``. Returns
    a pair because it is scanned over the layers.
    """

    tower: TowerConfig
    batch: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n w"], mask: Bool[Array, "b|1 1 t|1 t"] | None
    ) -> tuple[Float[Array, "n w"], None]:
        width = self.tower.width
        normed = layer_norm(self.tower, self.dtype, "attention_norm")(x)
        mixed = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(normed)
        mixed = mixed.reshape(self.batch, -1, 3 * width)
        query, key, value = jnp.split(mixed, 3, axis=-1)
        attended = attend(query, key, value, mask, self.tower.num_heads)
        attended = attended.reshape(x.shape)
        x = x + nn.Dense(width, dtype=self.dtype, name="out")(attended)
        normed = layer_norm(self.tower, self.dtype, "mlp_norm")(x)
        return x + Mlp(self.tower, self.dtype, name="mlp")(normed), None


class _LastBlock(nn.Module):
    """The last block, computed only at the one place where a row is pooled.

    The other places still are keys and values, but nothing reads what would
    become of them: five sixths of a block are saved.
    """

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t w"],
        places: Int[Array, " b"],
        mask: Bool[Array, "b 1 1 t"] | None,
    ) -> Float[Array, "b w"]:
        width = self.tower.width
        rows = jnp.arange(x.shape[0])
        normed = layer_norm(self.tower, self.dtype, "attention_norm")(x)
        query = nn.Dense(width, dtype=self.dtype, name="query")(normed[rows, places])
        both = nn.Dense(2 * width, dtype=self.dtype, name="key_value")(
            normed.reshape(-1, width)
        )
        key, value = jnp.split(both.reshape(*x.shape[:2], 2 * width), 2, axis=-1)
        attended = attend(query[:, None], key, value, mask, self.tower.num_heads)
        out = nn.Dense(width, dtype=self.dtype, name="out")(attended[:, 0])
        pooled = x[rows, places] + out
        normed = layer_norm(self.tower, self.dtype, "mlp_norm")(pooled)
        return pooled + Mlp(self.tower, self.dtype, name="mlp")(normed)


def _run_blocks(
    x: Float[Array, "b t w"],
    mask: Bool[Array, "b|1 1 t|1 t"] | None,
    *,
    tower: TowerConfig,
    num_layers: int,
    dtype: Any,
) -> Float[Array, "b t w"]:
    """Run the first blocks of a tower; to be called within a compact module."""
    if num_layers == 0:
        return x
    # Typed as a number, which says that an argument has an axis to scan over.
    no_axis: Any = nn.broadcast
    blocks = nn.scan(
        _Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=no_axis,
        length=num_layers,
    )(tower, x.shape[0], dtype, name="blocks")
    return blocks(x.reshape(-1, x.shape[-1]), mask)[0].reshape(x.shape)


class _AttentionPool(nn.Module):
    """SigLIP's pooling: one learnt query attends over all patches, then an MLP."""

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], mask: Bool[Array, "b 1 1 t"] | None
    ) -> Float[Array, "b w"]:
        batch, _, width = x.shape
        probe = self.param("probe", _INIT, (1, width)).astype(self.dtype)
        query = nn.Dense(width, dtype=self.dtype, name="query")(probe)
        query = jnp.broadcast_to(query[None], (batch, 1, width))
        both = nn.Dense(2 * width, dtype=self.dtype, name="key_value")(x)
        key, value = jnp.split(both, 2, axis=-1)
        pooled = attend(query, key, value, mask, self.tower.num_heads)[:, 0]
        pooled = nn.Dense(width, dtype=self.dtype, name="out")(pooled)
        normed = layer_norm(self.tower, self.dtype, "norm")(pooled)
        return pooled + Mlp(self.tower, self.dtype, name="mlp")(normed)


class ImageTower(nn.Module):
    """Patches of images to embeddings, not yet of unit norm.

    ``patches`` are normalised pixels ``[b, t, p]``, each patch flattened in the
    order height, width, channel. With ``position_weights`` ``[b, t, num_patches]``
    the position embedding of a patch is that mixture of the learnt ones, and with
    ``mask`` ``[b, t]`` only patches where it is true are attended to; both are
    for images of differing shape and None otherwise.
    """

    config: ClipConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        patches: Float[Array, "b t p"],
        position_weights: Float[Array, "b t s"] | None = None,
        mask: Bool[Array, "b t"] | None = None,
    ) -> Float[Array, "b d"]:
        """Embed a batch of images."""
        config, dtype = self.config, self.dtype
        tower = config.vision
        is_clip = config.family == "clip"
        x = nn.Dense(tower.width, use_bias=not is_clip, dtype=dtype, name="patch")(
            patches.astype(dtype)
        )
        rows = config.num_patches + is_clip
        positions = self.param("positions", _INIT, (rows, tower.width)).astype(dtype)
        if is_clip:
            first = self.param("class", _INIT, (1, 1, tower.width)).astype(dtype)
            first = jnp.broadcast_to(first, (x.shape[0], 1, tower.width))
            x = jnp.concatenate([first, x], axis=1)
        if position_weights is None:
            x = x + positions[None]
        else:
            mixed = position_weights @ positions.astype(jnp.float32)
            x = x + mixed.astype(dtype)
        if is_clip:
            x = layer_norm(tower, dtype, "pre_norm")(x)
        keep = None if mask is None else mask[:, None, None, :]
        num_layers = tower.num_layers - is_clip
        x = _run_blocks(x, keep, tower=tower, num_layers=num_layers, dtype=dtype)
        if not is_clip:
            x = layer_norm(tower, dtype, "post_norm")(x)
            return _AttentionPool(tower, dtype, name="pool")(x, keep)
        first = jnp.zeros(x.shape[0], jnp.int32)
        x = _LastBlock(tower, dtype, name="last")(x, first, None)
        x = layer_norm(tower, dtype, "post_norm")(x)
        return nn.Dense(
            config.embed_width, use_bias=False, dtype=dtype, name="projection"
        )(x)


def find_ends(config: ClipConfig, ids: Int[Array, "b t"]) -> Int[Array, " b"]:
    """Return where CLIP pools each text: at its first end-of-text token.

    Args:
      config: A CLIP's configuration.
      ids: Token ids.

    Returns:
      Positions; of the largest id, where the configuration names no token.
    """
    return jnp.argmax(ids if config.eos_id is None else ids == config.eos_id, axis=1)


class TextTower(nn.Module):
    """Token ids to embeddings, not yet of unit norm.

    CLIP's text sees only what comes before and is pooled at the end-of-text
    token, so that padding behind it changes nothing. SigLIP's sees everything,
    padding too, and is pooled at the last place: rows have to be of full length.
    """

    config: ClipConfig
    dtype: Any

    @nn.compact
    def __call__(self, ids: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Embed a batch of texts."""
        config, dtype = self.config, self.dtype
        tower = config.text
        is_clip = config.family == "clip"
        tokens = self.param("tokens", _INIT, (config.vocab_size, tower.width))
        positions = self.param("positions", _INIT, (config.text_length, tower.width))
        x = jnp.take(tokens, ids, axis=0).astype(dtype)
        x = x + positions[None, : ids.shape[1]].astype(dtype)
        batch, length = ids.shape
        if is_clip:
            ends = find_ends(config, ids)
            before = jnp.tri(length, dtype=bool)[None, None]
            last_before = (jnp.arange(length)[None] <= ends[:, None])[:, None, None]
        else:
            ends = jnp.full(batch, length - 1)
            before, last_before = None, None
        num_layers = tower.num_layers - 1
        x = _run_blocks(x, before, tower=tower, num_layers=num_layers, dtype=dtype)
        x = _LastBlock(tower, dtype, name="last")(x, ends, last_before)
        x = layer_norm(tower, dtype, "post_norm")(x)
        return nn.Dense(
            config.embed_width, use_bias=not is_clip, dtype=dtype, name="projection"
        )(x)
