"""Images a second of every image tower in the list of what works.

python -m benchmarks.encoder_list --rounds=3

Towers have their true shapes and random weights, in float32; pixels are decoded and
normalised before. The time is that of the processors, over as many as there are, so
that other work on the machine counts little; wall time is given beside it. Prints what
``mca_jax/encoders/catalogue.py`` has as ``SPEEDS``, then all as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.encoders import build_encoder
from mca_jax.encoders.clip.config import ClipConfig
from mca_jax.encoders.clip.towers import ImageTower
from mca_jax.encoders.dino.config import DinoConfig
from mca_jax.encoders.dino.tower import DinoTower
from mca_jax.encoders.huggingface.transformer import TowerConfig
from mca_jax.encoders.timm.config import TimmConfig
from mca_jax.encoders.timm.tower import TimmTower

__all__ = ["TOWERS", "main"]

# Work of a batch, in operations: some seconds on two cores.
_BATCH_WORK = 4e11
_MOST_IMAGES = 32


class _Size(NamedTuple):
    """Width, layers, heads, pixels of a patch and of an image, width of the MLP."""

    width: int
    layers: int
    heads: int
    patch: int
    side: int
    hidden: int = 0

    @property
    def tower(self) -> TowerConfig:
        hidden = self.hidden or 4 * self.width
        return TowerConfig(self.width, hidden, self.layers, self.heads, "gelu", 1e-6)

    @property
    def rows(self) -> int:
        return self.side // self.patch


_Made = tuple[nn.Module, _Size, tuple[Any, ...]]


def _clip(size: _Size, family: str = "clip", embed_width: int = 512) -> _Made:
    patches = (size.patch, size.patch)
    config = ClipConfig(
        *(family, size.tower, size.tower, (size.side, size.side), patches),
        *(size.rows**2, 2, 2, None, embed_width),
    )
    more: tuple[Any, ...] = ()
    if family == "siglip2":
        count = size.rows**2
        weights = np.eye(count, dtype=np.float32)[None]
        more = weights, np.ones((1, count), bool)
    return ImageTower(config, jnp.float32), size, more


def _dino(
    size: _Size, *, registers: int = 0, theta: float = 0.0, is_gated: bool = False
) -> _Made:
    config = DinoConfig(
        *("dinov3_vit" if theta else "dinov2", size.tower, is_gated, size.patch),
        *(registers, 0 if theta else size.rows, theta),
    )
    return DinoTower(config, (size.rows, size.rows), jnp.float32), size, ()


def _perception(size: _Size, embed_width: int) -> _Made:
    grid = size.rows, size.rows
    config = TimmConfig(
        blocks=DinoConfig("timm", size.tower, False, size.patch, 0, 0, 0.0),
        image_size=(size.side, size.side),
        num_first=1,
        num_placed=1,
        has_positions=True,
        has_pre_norm=True,
        pooling="map",
        norms_pooled=False,
        rotation="perception",
        rotation_grid=grid,
        pool=size.tower._replace(num_heads=8),
    )
    return TimmTower(config, embed_width, jnp.float32), size, ()


_SMALL, _BASE = (384, 12, 6), (768, 12, 12)
_LARGE, _HUGE = (1024, 24, 16), (1280, 32, 16)

TOWERS: Mapping[str, Callable[[], _Made]] = {
    "vit-b32": lambda: _clip(_Size(*_BASE, 32, 224)),
    "vit-b16": lambda: _clip(_Size(*_BASE, 16, 224)),
    "vit-l14": lambda: _clip(_Size(*_LARGE, 14, 224), embed_width=768),
    "vit-l14-336": lambda: _clip(_Size(*_LARGE, 14, 336), embed_width=768),
    "vit-h14": lambda: _clip(_Size(*_HUGE, 14, 224), embed_width=1024),
    "siglip-b16": lambda: _clip(_Size(*_BASE, 16, 224), "siglip", 768),
    "naflex-b16": lambda: _clip(_Size(*_BASE, 16, 256), "siglip2", 768),
    "perception-b16": lambda: _perception(_Size(*_BASE, 16, 224), 1024),
    "perception-l14-336": lambda: _perception(_Size(*_LARGE, 14, 336), 1024),
    "dinov2-s": lambda: _dino(_Size(*_SMALL, 14, 224)),
    "dinov2-b": lambda: _dino(_Size(*_BASE, 14, 224)),
    "dinov2-l": lambda: _dino(_Size(*_LARGE, 14, 224)),
    "dinov2-g": lambda: _dino(_Size(1536, 40, 24, 14, 224, 4096), is_gated=True),
    "dinov2-s-518": lambda: _dino(_Size(*_SMALL, 14, 518)),
    "dinov2-b-518": lambda: _dino(_Size(*_BASE, 14, 518), registers=4),
    "dinov3-s-256": lambda: _dino(_Size(*_SMALL, 16, 256), registers=4, theta=100.0),
    "dinov3-b": lambda: _dino(_Size(*_BASE, 16, 224), registers=4, theta=100.0),
}
"""By the name that the list has for a shape, what builds it."""


def _measure(run: Callable[[], Any], batch: int, rounds: int) -> dict[str, float]:
    run()
    walls, works = [], []
    for _ in range(rounds):
        started = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - started[0])
        works.append(time.process_time() - started[1])
    cores = os.cpu_count() or 1
    return {
        "batch": batch,
        "images_per_second": batch * cores / median(works),
        "by_the_wall": batch / median(walls),
    }


def _measure_tower(made: _Made, rounds: int) -> dict[str, float]:
    tower, size, more = made
    count = size.rows**2
    per_token = size.layers * (8 * size.width**2 + 4 * size.width * size.tower[1])
    attention = size.layers * 4 * size.width * count**2
    work = count * per_token + attention
    batch = int(np.clip(_BATCH_WORK // work, 1, _MOST_IMAGES))
    random = np.random.default_rng(0)
    shape = (batch, count, 3 * size.patch**2)
    patches = random.standard_normal(shape, dtype=np.float32)
    more = tuple(np.repeat(each, batch, axis=0) for each in more)
    shapes = jax.eval_shape(tower.init, jax.random.key(0), patches, *more)
    block = random.standard_normal(2**20, dtype=np.float32) * 0.02
    params = jax.tree.map(lambda x: jnp.asarray(np.resize(block, x.shape)), shapes)
    encode = jax.jit(tower.apply)
    return _measure(lambda: np.asarray(encode(params, patches, *more)), batch, rounds)


def _measure_lite(name: str, rounds: int) -> dict[str, float]:
    encoder = build_encoder(name)
    shape = (_MOST_IMAGES, *encoder.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    params, encode = jax.device_put(encoder.params), jax.jit(encoder.encode_images)
    return _measure(lambda: np.asarray(encode(params, pixels)), _MOST_IMAGES, rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed turns of each")
    parser.add_argument("--only", default="", help="names, separated by commas")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    found = {}
    for name in wanted or ["lite", "lite2", *TOWERS]:
        if name in TOWERS:
            found[name] = _measure_tower(TOWERS[name](), options.rounds)
        else:
            found[name] = _measure_lite(name, options.rounds)
        speed = found[name]["images_per_second"]
        print(f'    "{name}": {float(f"{speed:.2g}"):g},', flush=True)
    machine = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps({**machine, "towers": found}))


if __name__ == "__main__":
    main()
