"""From the tensors of a checkpoint to the towers' tree of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mca_jax.encoders.clip.config import ClipConfig, TowerConfig
from mca_jax.encoders.huggingface.tensors import (
    TensorReader,
    check_tensors,
    stack_layers,
)

__all__ = ["convert_tensors", "expected_tensors"]

_Shapes = dict[str, tuple[int, ...]]

# Old checkpoints hold these buffers; they count from 0 up and nothing reads them.
_BUFFERS = ".position_ids"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"


def expected_tensors(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor that a checkpoint has to hold.

    Args:
      config: What config.json says.

    Returns:
      Name, as in the reference's PyTorch checkpoints -> shape.
    """
    shapes: _Shapes = {"logit_scale": ()}
    vision, text = config.vision, config.text
    height, width = config.patch_size
    is_clip = config.family == "clip"
    patch = "vision_model.embeddings.patch_embedding"
    if config.family == "siglip2":
        shapes[f"{patch}.weight"] = (vision.width, height * width * 3)
    else:
        shapes[f"{patch}.weight"] = (vision.width, 3, height, width)
    positions = config.num_patches + is_clip
    shapes[_POSITIONS] = (
        positions,
        vision.width,
    )
    shapes["text_model.embeddings.token_embedding.weight"] = (
        config.vocab_size,
        text.width,
    )
    shapes["text_model.embeddings.position_embedding.weight"] = (
        config.text_length,
        text.width,
    )
    for model, tower in (("vision_model", vision), ("text_model", text)):
        for layer in range(tower.num_layers):
            shapes |= _layer_shapes(f"{model}.encoder.layers.{layer}", tower)
    shapes |= _norm_shapes("vision_model.post_layernorm", vision.width)
    shapes |= _norm_shapes("text_model.final_layer_norm", text.width)
    if is_clip:
        shapes["vision_model.embeddings.class_embedding"] = (vision.width,)
        # The misspelling is the reference's.
        shapes |= _norm_shapes("vision_model.pre_layrnorm", vision.width)
        shapes["visual_projection.weight"] = (config.embed_width, vision.width)
        shapes["text_projection.weight"] = (config.embed_width, text.width)
        return shapes
    shapes |= {
        "logit_scale": (1,),
        "logit_bias": (1,),
        f"{patch}.bias": (vision.width,),
    }
    shapes |= _dense_shapes("text_model.head", text.width, config.embed_width)
    return shapes | _pool_shapes("vision_model.head", vision)


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
    tensors: Mapping[str, np.ndarray], config: ClipConfig, *, dtype: str, source: str
) -> dict[str, Any]:
    """Return the weights as the towers take them.

    Args:
      tensors: Name -> array, all of the checkpoint. May be memory-mapped: each is
        read once.
      config: What config.json says.
      dtype: ``"float32"`` or ``"bfloat16"``, of every weight but the logit scale.
      source: Name of the checkpoint, for messages.

    Returns:
      ``{"image": ..., "text": ..., "logit_scale": [], "logit_bias": []}``, the
      first two the variables of ``ImageTower`` and ``TextTower``. The probability
      that image and text belong together is a softmax over texts (CLIP, whose
      bias is 0) or a sigmoid (SigLIP) of ``exp(logit_scale) * cosine +
      logit_bias``.

    Raises:
      InputError: Tensors are missing, too many, or of another shape.
    """
    check_tensors(
        tensors,
        expected_tensors(config),
        source=source,
        ignored=(_BUFFERS,),
        hints={_POSITIONS: "; image_size or patch_size in config.json is wrong"},
    )
    reader = _Reader(tensors, dtype)
    scale = np.asarray(tensors["logit_scale"], np.float32).reshape(())
    bias = np.asarray(tensors.get("logit_bias", 0.0), np.float32).reshape(())
    return {
        "image": _image_weights(reader, config),
        "text": _text_weights(reader, config),
        "logit_scale": scale,
        "logit_bias": bias,
    }


class _Reader(TensorReader):
    """Reads the layers of a tower."""

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

        Where one place of a row is pooled, the last layer stands by itself.
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


def _image_weights(reader: _Reader, config: ClipConfig) -> dict[str, Any]:
    """Weights of ``ImageTower``."""
    model = "vision_model"
    patch = reader.array(f"{model}.embeddings.patch_embedding.weight")
    if config.family != "siglip2":
        # [width, channel, height, width] to a matrix over flattened patches.
        patch = patch.transpose(0, 2, 3, 1).reshape(config.vision.width, -1)
    weights = {
        "patch": {"kernel": np.ascontiguousarray(patch.T)},
        "positions": reader.array(f"{model}.embeddings.position_embedding.weight"),
        **reader.blocks(
            f"{model}.encoder.layers",
            config.vision.num_layers,
            is_pooled=config.family == "clip",
        ),
        "post_norm": reader.norm(f"{model}.post_layernorm"),
    }
    if config.family == "clip":
        first = reader.array(f"{model}.embeddings.class_embedding")
        weights["class"] = first[None, None]
        weights["pre_norm"] = reader.norm(f"{model}.pre_layrnorm")
        weights["projection"] = reader.kernel("visual_projection")
    else:
        bias = reader.array(f"{model}.embeddings.patch_embedding.bias")
        weights["patch"]["bias"] = bias
        weights["pool"] = _pool_weights(reader, f"{model}.head", config.vision.width)
    return {"params": weights}


def _pool_weights(reader: _Reader, name: str, width: int) -> dict[str, Any]:
    """Weights of the attention pooling, whose query has a product of its own."""
    kernel = reader.array(f"{name}.attention.in_proj_weight").T
    bias = reader.array(f"{name}.attention.in_proj_bias")
    parts = {"query": slice(width), "key_value": slice(width, None)}
    return {
        "probe": reader.array(f"{name}.probe")[0],
        "out": reader.dense(f"{name}.attention.out_proj"),
        "norm": reader.norm(f"{name}.layernorm"),
        "mlp": reader.mlp(f"{name}.mlp"),
        **{
            part: {"kernel": np.ascontiguousarray(kernel[:, of]), "bias": bias[of]}
            for part, of in parts.items()
        },
    }


def _text_weights(reader: _Reader, config: ClipConfig) -> dict[str, Any]:
    """Weights of ``TextTower``."""
    model = "text_model"
    if config.family == "clip":
        projection = reader.kernel("text_projection")
    else:
        projection = reader.dense(f"{model}.head")
    weights = {
        "tokens": reader.array(f"{model}.embeddings.token_embedding.weight"),
        "positions": reader.array(f"{model}.embeddings.position_embedding.weight"),
        **reader.blocks(
            f"{model}.encoder.layers", config.text.num_layers, is_pooled=True
        ),
        "post_norm": reader.norm(f"{model}.final_layer_norm"),
        "projection": projection,
    }
    return {"params": weights}
