r"""What a training step sends between devices and holds on each, as it is compiled.

python -m benchmarks.step_traffic --devices=256 --images=100000000 --batch=65536

The steps of an epoch are compiled for so many virtual devices, at true sizes; nothing
is run and no set is made, so that any number of images fits. Printed are the
collectives of the compiled program, those of a step apart from those of a call of up to
128 steps, with what each leaves on a device and what a device sends for it around a
ring; and what the compiler says of memory. It is XLA for the CPU that compiles: on
other devices it may fuse collectives otherwise, but what has to travel is the same.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mca_jax.alignment import build_heads
from mca_jax.alignment.losses import LossWeights, build_objective
from mca_jax.core.parallel import DATA_AXIS, ShardedRows, data_mesh
from mca_jax.pipeline.config import Config
from mca_jax.training import (
    TrainingData,
    build_epoch,
    build_optimizer,
    build_step,
    init_state,
)
from mca_jax.training.step import shard_forward

__all__ = ["Collective", "compile_steps", "list_collectives", "main"]

_BYTES = {"pred": 1, "u8": 1, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
_CALL = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<shape>\(.*?\)|\S+) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)"
    r"(?:-start)?\(.*?(?:op_name=\"(?P<name>[^\"]*)\")?$"
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One exchange between devices.

    Attributes:
      kind: Such as ``"all-reduce"``.
      shapes: What it leaves on a device, such as ``"f32[8,4]"``.
      num_bytes: Size of that.
      each_step: Whether it is in the loop over steps.
    """

    kind: str
    shapes: str
    num_bytes: int
    each_step: bool

    def sent(self, devices: int) -> float:
        """Bytes that a device sends, as collectives go around a ring.

        An all-reduce scatters and gathers, and what is reduced and scattered is as
        many times larger than what it leaves as there are devices.
        """
        passed = {"all-reduce": 2.0, "reduce-scatter": float(devices)}
        share = 1.0 if self.kind == "collective-permute" else 1 - 1 / devices
        return passed.get(self.kind, 1.0) * share * self.num_bytes


def list_collectives(text: str) -> list[Collective]:
    """Find the collectives in ``compiled.as_text()``, in order."""
    found = []
    for line in text.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        arrays = _ARRAY.findall(call["shape"])
        total = 0
        for kind, axes in arrays:
            sizes = [int(size) for size in axes.split(",") if size]
            total += _BYTES[kind] * int(np.prod(sizes, dtype=np.int64))
        shapes = " ".join(f"{kind}[{axes}]" for kind, axes in arrays)
        in_loop = "while/body" in line
        found.append(Collective(call["kind"], shapes, total, in_loop))
    return found


def compile_steps(
    mesh: Mesh, *, images: int, batch: int, clusters: int, width: int, nouns: int
) -> Any:
    """Compile the steps of an epoch for a set that is described but not there.

    ``batch`` are the images of a step over all devices, ``nouns`` those of the
    semantic space that are some image's neighbour.
    """
    settings = Config(num_clusters=clusters)
    heads = build_heads(num_clusters=clusters)
    optimizer = build_optimizer(learning_rate=1e-3, total_steps=1000)
    objective = shard_forward(build_objective(heads), mesh, batch_size=batch)
    epoch = build_epoch(build_step(objective, optimizer), batch_size=batch)
    rows = -(-images // mesh.size) * mesh.size
    spread = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    whole = NamedSharding(mesh, PartitionSpec())

    def describe(shape: tuple[int, ...], kind: Any, sharding: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, kind, sharding=sharding)

    def table(columns: int, kind: Any) -> ShardedRows:
        return ShardedRows(describe((rows, columns), kind, spread), images, mesh)

    retrieval = settings.retrieval
    data = TrainingData(
        table(width, jnp.float32),
        describe((nouns, width), jnp.float32, whole),
        table(retrieval.image_neighbors, jnp.int32),
        table(retrieval.noun_neighbors, jnp.int32),
        table(retrieval.noun_neighbors, jnp.float32),
    )
    centers = jax.ShapeDtypeStruct((clusters, width), jnp.float32)
    state = jax.eval_shape(
        lambda key, centers: init_state(key, heads, optimizer, centers),
        jax.eval_shape(lambda: jax.random.key(0)),
        centers,
    )
    state = jax.tree.map(lambda x: describe(x.shape, x.dtype, whole), state)
    number = describe((), jnp.float32, whole)
    prior = describe((clusters,), jnp.float32, whole)
    weights = LossWeights(number, number, number, number)  # pyright: ignore[reportArgumentType]
    count = describe((), jnp.int32, whole)
    run = jax.jit(epoch, donate_argnums=0, out_shardings=whole)
    return run.lower(state, data, weights, prior, count).compile()


def main(argv: list[str] | None = None) -> int:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--batch", type=int, default=65_536)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--nouns", type=int, default=20_000)
    parser.add_argument("--least", type=float, default=0.1, help="MB that are listed")
    given = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", given.devices)
    compiled = compile_steps(
        data_mesh(),
        images=given.images,
        batch=given.batch,
        clusters=given.clusters,
        width=given.width,
        nouns=given.nouns,
    )
    found = list_collectives(compiled.as_text())
    for each_step, when in ((True, "a step"), (False, "a call of up to 128 steps")):
        own = [each for each in found if each.each_step == each_step]
        sent = {each: each.sent(given.devices) / 1e6 for each in own}
        total = sum(each.sent(given.devices) for each in own) / 1e6
        print(f"{when}: {len(own)} collectives, {total:.1f} MB sent by a device")
        for each in sorted(own, key=lambda each: -sent[each]):
            if sent[each] >= given.least:
                left = each.num_bytes / 1e6
                print(
                    f"{sent[each]:10.1f} MB sent, {left:6.1f} left  "
                    f"{each.kind:<15} {each.shapes[:50]}"
                )
    memory = compiled.memory_analysis()
    held, made = memory.argument_size_in_bytes / 1e9, memory.temp_size_in_bytes / 1e9
    print(f"on a device {held:.2f} GB of tables and {made:.2f} GB made by a step")
    return 0


if __name__ == "__main__":
    sys.exit(main())
