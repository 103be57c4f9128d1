"""The two towers of CLIP, SigLIP and SigLIP 2 as Flax modules, and their weights.

The vision transformer is that of Dosovitskiy et al., "An Image is Worth 16x16
Words" (ICLR 2021), with the changes of Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision" (ICML 2021), and of Zhai et al.,
"Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).

Blocks are one module scanned over stacked weights: a 40-layer tower compiles as
fast as one layer and computes as fast as an unrolled one. Queries, keys and
values come from one matrix product. Where one token of a row is pooled, the last
block computes that token alone. No module leaves the encoders: callers see
pure functions over a tree of weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mca_jax.core.errors import InputWarning
from mca_jax.encoders.clip.config import ClipConfig
from mca_jax.encoders.huggingface.tensors import Tensors, check_tensors, stack_layers
from mca_jax.encoders.huggingface.transformer import (
    Mlp,
    TowerConfig,
    attend,
    layer_norm,
)

__all__ = [
    "AttentionPool",
    "ImageTower",
    "TextTower",
    "convert_tensors",
    "expected_tensors",
    "find_ends",
]

_Shapes = dict[str, tuple[int, ...]]

# Old checkpoints hold these buffers; they count from 0 up and nothing reads them.
_BUFFERS = ".position_ids"
_TEXT_HEAD = "text_model.head"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"

# The weights come from files; the modules are never initialised but in shape.
_INIT = nn.initializers.normal(0.02)


class _Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream.

    The tokens of all rows are one axis of ``n = batch * t``: on a CPU, XLA
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
    """The last block, computed only at the one token where a row is pooled.

    The other tokens still are keys and values, but nothing reads what would
    become of them: five sixths of a block are saved.
    """

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t w"],
        ends: Int[Array, " b"],
        mask: Bool[Array, "b 1 1 t"] | None,
    ) -> Float[Array, "b w"]:
        width = self.tower.width
        rows = jnp.arange(x.shape[0])
        normed = layer_norm(self.tower, self.dtype, "attention_norm")(x)
        query = nn.Dense(width, dtype=self.dtype, name="query")(normed[rows, ends])
        both = nn.Dense(2 * width, dtype=self.dtype, name="key_value")(
            normed.reshape(-1, width)
        )
        key, value = jnp.split(both.reshape(*x.shape[:2], 2 * width), 2, axis=-1)
        attended = attend(query[:, None], key, value, mask, self.tower.num_heads)
        out = nn.Dense(width, dtype=self.dtype, name="out")(attended[:, 0])
        pooled = x[rows, ends] + out
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


class AttentionPool(nn.Module):
    """SigLIP's pooling: one learnt query attends over all patches, then an MLP."""

    tower: TowerConfig
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], mask: Bool[Array, "b 1 1 t"] | None
    ) -> Float[Array, "b w"]:
        """Pool the tokens of each row that the mask keeps."""
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
            return AttentionPool(tower, dtype, name="pool")(x, keep)
        first = jnp.zeros(x.shape[0], jnp.int32)
        x = _LastBlock(tower, dtype, name="last")(x, first, None)
        x = layer_norm(tower, dtype, "post_norm")(x)
        return nn.Dense(
            config.embed_width, use_bias=False, dtype=dtype, name="projection"
        )(x)


def find_ends(config: ClipConfig, ids: Int[Array, "b t"]) -> Int[Array, " b"]:
    """Return where CLIP pools each text: at its first end-of-text token.

    That is the largest id where the configuration names no token.
    """
    return jnp.argmax(ids if config.eos_id is None else ids == config.eos_id, axis=1)


class TextTower(nn.Module):
    """Token ids to embeddings, not yet of unit norm.

    CLIP's text sees only what comes before and is pooled at the end-of-text
    token, so that padding behind it changes nothing. SigLIP's sees everything,
    padding too, and is pooled at the last token: rows have to be of full length, as
    those of a CLIP that ``sees_all`` have.
    """

    config: ClipConfig
    dtype: Any
    sees_all: bool = False

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
        ends = find_ends(config, ids) if is_clip else jnp.full(batch, length - 1)
        before, last_before = None, None
        if is_clip and not self.sees_all:
            before = jnp.tri(length, dtype=bool)[None, None]
            last_before = (jnp.arange(length)[None] <= ends[:, None])[:, None, None]
        num_layers = tower.num_layers - 1
        x = _run_blocks(x, before, tower=tower, num_layers=num_layers, dtype=dtype)
        x = _LastBlock(tower, dtype, name="last")(x, ends, last_before)
        x = layer_norm(tower, dtype, "post_norm")(x)
        return nn.Dense(
            config.embed_width, use_bias=not is_clip, dtype=dtype, name="projection"
        )(x)


def expected_tensors(
    config: ClipConfig, parts: Sequence[str] = ("image", "text")
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint, as the reference saves it."""
    is_clip = config.family == "clip"
    shapes: _Shapes = {"logit_scale": () if is_clip else (1,)}
    if not is_clip:
        shapes["logit_bias"] = (1,)
    if "image" in parts:
        shapes |= _image_shapes(config)
    if "text" in parts:
        shapes |= _text_shapes(config)
    return shapes


def _image_shapes(config: ClipConfig) -> _Shapes:
    """Name and shape of every tensor of the image tower."""
    shapes: _Shapes = {}
    vision = config.vision
    height, width = config.patch_size
    is_clip = config.family == "clip"
    patch = "vision_model.embeddings.patch_embedding"
    if config.family == "siglip2":
        shapes[f"{patch}.weight"] = (vision.width, height * width * 3)
    else:
        shapes[f"{patch}.weight"] = (vision.width, 3, height, width)
    positions = config.num_patches + is_clip
    shapes[_POSITIONS] = (positions, vision.width)
    for layer in range(vision.num_layers):
        shapes |= _layer_shapes(f"vision_model.encoder.layers.{layer}", vision)
    shapes |= _norm_shapes("vision_model.post_layernorm", vision.width)
    if is_clip:
        shapes["vision_model.embeddings.class_embedding"] = (vision.width,)
        # The misspelling is the reference's.
        shapes |= _norm_shapes("vision_model.pre_layrnorm", vision.width)
        shapes["visual_projection.weight"] = (config.embed_width, vision.width)
        return shapes
    shapes[f"{patch}.bias"] = (vision.width,)
    return shapes | _pool_shapes("vision_model.head", vision)


def _text_shapes(config: ClipConfig) -> _Shapes:
    """Name and shape of every tensor of the text tower."""
    text = config.text
    table = "text_model.embeddings.{}_embedding.weight"
    shapes: _Shapes = {
        table.format("token"): (config.vocab_size, text.width),
        table.format("position"): (config.text_length, text.width),
    }
    for layer in range(text.num_layers):
        shapes |= _layer_shapes(f"text_model.encoder.layers.{layer}", text)
    shapes |= _norm_shapes("text_model.final_layer_norm", text.width)
    if config.family == "clip":
        shapes["text_projection.weight"] = (config.embed_width, text.width)
        return shapes
    return shapes | _dense_shapes(_TEXT_HEAD, text.width, config.embed_width)


def _dense_shapes(name: str, inputs: int, outputs: int) -> _Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm_shapes(name: str, width: int) -> _Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _mlp_shapes(name: str, tower: TowerConfig) -> _Shapes:
    return _dense_shapes(f"{name}.fc1", tower.width, tower.hidden_width) | (
        _dense_shapes(f"{name}.fc2", tower.hidden_width, tower.width)
    )


def _layer_shapes(name: str, tower: TowerConfig) -> _Shapes:
    shapes = _mlp_shapes(f"{name}.mlp", tower)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= _dense_shapes(f"{name}.self_attn.{part}", tower.width, tower.width)
    for part in ("layer_norm1", "layer_norm2"):
        shapes |= _norm_shapes(f"{name}.{part}", tower.width)
    return shapes


def _pool_shapes(name: str, tower: TowerConfig) -> _Shapes:
    width = tower.width
    return {
        f"{name}.probe": (1, 1, width),
        f"{name}.attention.in_proj_weight": (3 * width, width),
        f"{name}.attention.in_proj_bias": (3 * width,),
        **_dense_shapes(f"{name}.attention.out_proj", width, width),
        **_norm_shapes(f"{name}.layernorm", width),
        **_mlp_shapes(f"{name}.mlp", tower),
    }


def convert_tensors(
    tensors: Mapping[str, np.ndarray],
    config: ClipConfig,
    *,
    dtype: str,
    source: str,
    has_text_head: bool = True,
    parts: Sequence[str] = ("image", "text"),
) -> dict[str, Any]:
    """Return the weights as the towers take them.

    Args:
      tensors: Name -> array, all of the checkpoint. May be memory-mapped: each is
        read once.
      config: What config.json says.
      dtype: ``"float32"`` or ``"bfloat16"``, of every weight but the logit scale.
      source: Name of the checkpoint, for messages.
      has_text_head: Whether SigLIP's texts pass a last dense layer; the multilingual
        ones of the first SigLIP don't.
      parts: Which towers; the tensors of others are to be left out.

    Returns:
      ``{"image": ..., "text": ..., "logit_scale": [], "logit_bias": []}``, the
      first two the variables of ``ImageTower`` and ``TextTower``. The probability
      that image and text belong together is a softmax over texts (CLIP, whose
      bias is 0) or a sigmoid (SigLIP) of ``exp(logit_scale) * cosine +
      logit_bias``.

    Raises:
      InputError: Tensors are missing, too many, or of another shape.
    """
    tensors = _with_text_head(tensors, config, source, has_text_head)
    check_tensors(
        tensors,
        expected_tensors(config, parts),
        source=source,
        # A bias of the logits is read where there is one.
        ignored=(_BUFFERS, "logit_bias"),
        hints={_POSITIONS: "; image_size or patch_size in config.json is wrong"},
    )
    named = _TowerTensors(tensors, dtype)
    scale = np.asarray(tensors["logit_scale"], np.float32).reshape(())
    bias = np.asarray(tensors.get("logit_bias", 0.0), np.float32).reshape(())
    builders = {"image": _image_weights, "text": _text_weights}
    towers = {part: builders[part](named, config) for part in parts}
    return {**towers, "logit_scale": scale, "logit_bias": bias}


def _with_text_head(
    tensors: Mapping[str, np.ndarray],
    config: ClipConfig,
    source: str,
    has_text_head: bool,
) -> Mapping[str, np.ndarray]:
    """Give a SigLIP without a last layer for texts one that changes nothing."""
    width = config.text.width
    names = [f"{_TEXT_HEAD}.{part}" for part in ("weight", "bias")]
    absent = not any(name in tensors for name in names)
    if config.family == "clip" or width != config.embed_width or not absent:
        return tensors
    if has_text_head:
        warnings.warn(
            InputWarning(
                f"{source} has no {_TEXT_HEAD}, as is right for SigLIP's multilingual "
                "checkpoints alone: its texts go without"
            ),
            stacklevel=2,
        )
    parts = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
    return {**tensors, **dict(zip(names, parts, strict=True))}


class _TowerTensors(Tensors):
    """Tensors of a whole tower."""

    def mlp(self, name: str) -> dict[str, Any]:
        return {
            "expand": self.dense(f"{name}.fc1"),
            "project": self.dense(f"{name}.fc2"),
        }

    def block(self, name: str, *, is_last: bool = False) -> dict[str, Any]:
        attention = f"{name}.self_attn"
        groups = {"query": "q", "key_value": "kv"} if is_last else {"qkv": "qkv"}
        return {
            "attention_norm": self.norm(f"{name}.layer_norm1"),
            **{
                group: self.dense(*(f"{attention}.{part}_proj" for part in parts))
                for group, parts in groups.items()
            },
            "out": self.dense(f"{attention}.out_proj"),
            "mlp_norm": self.norm(f"{name}.layer_norm2"),
            "mlp": self.mlp(f"{name}.mlp"),
        }

    def blocks(self, name: str, count: int, *, is_pooled: bool) -> dict[str, Any]:
        """All layers of a tower, stacked along a new first axis.

        Where one token of a row is pooled, the last layer stands by itself.
        """
        tree: dict[str, Any] = {}
        if is_pooled:
            count -= 1
            tree["last"] = self.block(f"{name}.{count}", is_last=True)
        if count:
            tree["blocks"] = stack_layers(
                lambda layer: self.block(f"{name}.{layer}"), count
            )
        return tree


def _image_weights(named: _TowerTensors, config: ClipConfig) -> dict[str, Any]:
    """Weights of ``ImageTower``."""
    model = "vision_model"
    patch = named.array(f"{model}.embeddings.patch_embedding.weight")
    if config.family != "siglip2":
        # [width, channel, height, width] to a matrix over flattened patches.
        patch = patch.transpose(0, 2, 3, 1).reshape(config.vision.width, -1)
    weights = {
        "patch": {"kernel": np.ascontiguousarray(patch.T)},
        "positions": named.array(f"{model}.embeddings.position_embedding.weight"),
        **named.blocks(
            f"{model}.encoder.layers",
            config.vision.num_layers,
            is_pooled=config.family == "clip",
        ),
        "post_norm": named.norm(f"{model}.post_layernorm"),
    }
    if config.family == "clip":
        first = named.array(f"{model}.embeddings.class_embedding")
        weights["class"] = first[None, None]
        weights["pre_norm"] = named.norm(f"{model}.pre_layrnorm")
        weights["projection"] = named.kernel("visual_projection")
    else:
        bias = named.array(f"{model}.embeddings.patch_embedding.bias")
        weights["patch"]["bias"] = bias
        weights["pool"] = _pool_weights(named, f"{model}.head", config.vision.width)
    return {"params": weights}


def _pool_weights(named: _TowerTensors, name: str, width: int) -> dict[str, Any]:
    """Weights of the attention pooling, whose query has a product of its own."""
    kernel = named.array(f"{name}.attention.in_proj_weight").T
    bias = named.array(f"{name}.attention.in_proj_bias")
    parts = {"query": slice(width), "key_value": slice(width, None)}
    return {
        "probe": named.array(f"{name}.probe")[0],
        "out": named.dense(f"{name}.attention.out_proj"),
        "norm": named.norm(f"{name}.layernorm"),
        "mlp": named.mlp(f"{name}.mlp"),
        **{
            part: {"kernel": np.ascontiguousarray(kernel[:, of]), "bias": bias[of]}
            for part, of in parts.items()
        },
    }


def _text_weights(named: _TowerTensors, config: ClipConfig) -> dict[str, Any]:
    """Weights of ``TextTower``."""
    model = "text_model"
    if config.family == "clip":
        projection = named.kernel("text_projection")
    else:
        projection = named.dense(_TEXT_HEAD)
    weights = {
        "tokens": named.array(f"{model}.embeddings.token_embedding.weight"),
        "positions": named.array(f"{model}.embeddings.position_embedding.weight"),
        **named.blocks(
            f"{model}.encoder.layers", config.text.num_layers, is_pooled=True
        ),
        "post_norm": named.norm(f"{model}.final_layer_norm"),
        "projection": projection,
    }
    return {"params": weights}
