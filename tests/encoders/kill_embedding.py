"""Kills an embedding run at random moments, then compares what it left.

As a program it embeds a folder, once without and once with kills, and says how
much was embedded twice::

    python tests/encoders/kill_embedding.py FOLDER OUT --encoder=lite --kills=5

``embed`` is what it runs and kills.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from small_encoder import build_small_encoder, chunk_files

from mca_jax.data import find_images
from mca_jax.encoders import build_encoder
from mca_jax.encoders.cache import embedding_cache as cache_module
from mca_jax.encoders.embed_images import embed_images


def embed(folder: str, out: str, encoder: str, chunk: int, batch: int) -> None:
    """Embed a folder; append what happens to ``OUT/events``, a line each."""
    cache_module.CHUNK_SIZE = chunk
    Path(out).mkdir(parents=True, exist_ok=True)
    with open(Path(out) / "events", "a") as events:

        def tell(count: int) -> None:
            events.write(f"done {count}\n")
            events.flush()

        tell(0)
        found = embed_images(
            build_small_encoder() if encoder == "small" else build_encoder(encoder),
            find_images(folder),
            batch_size=batch,
            cache_dir=Path(out) / "cache",
            progress=tell,
        )
        events.write(f"computed {found.num_computed}\n")


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, *map(str, arguments), "--embed"]
    return subprocess.Popen(command)


def events(out: Path) -> list[str]:
    path = out / "events"
    return path.read_text().splitlines() if path.exists() else []


def kept(out: Path) -> int:
    """Embeddings in whole chunks."""
    import numpy as np

    return sum(len(np.load(path, mmap_mode="r")) for path in chunk_files(out / "cache"))


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in chunk_files(out / "cache")}


def run_with_kills(
    arguments: list[str], out: Path, kills: int, seconds: float, seed: int
) -> list[int]:
    """Run until it ends, killed at random moments of its work.

    Returns:
      Embeddings that each run found in the cache when it started.
    """
    chance = random.Random(seed)
    found = []
    for _ in range(kills):
        found.append(kept(out))
        before = len(events(out))
        process = start(*arguments)
        # The moment counts from where embedding begins, not from the imports.
        while len(events(out)) <= before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, seconds))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    found.append(kept(out))
    if start(*arguments).wait():
        raise SystemExit("the last run failed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--chunk", type=int, default=cache_module.CHUNK_SIZE)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embed", action="store_true")
    options = parser.parse_args()
    if options.embed:
        embed(
            options.folder, options.out, options.encoder, options.chunk, options.batch
        )
        return

    def arguments(out: Path) -> list[str]:
        settings = (f"--{k}={getattr(options, k)}" for k in ("encoder", "chunk"))
        return [options.folder, str(out), *settings, f"--batch={options.batch}"]

    whole, killed = Path(options.out) / "whole", Path(options.out) / "killed"
    if start(*arguments(whole)).wait():
        raise SystemExit("the run without kills failed")
    found = run_with_kills(
        arguments(killed), killed, options.kills, options.seconds, options.seed
    )
    same = contents(whole) == contents(killed)
    sys.stdout.write(
        f"embeddings found at each start: {found}\n"
        f"last run: {events(killed)[-1]} of {kept(whole)}\n"
        f"byte-identical: {same}\n"
    )
    sys.exit(not same)


if __name__ == "__main__":
    main()
