"""One of two processes that embed a folder together; see test_store_scale.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import numpy as np


def main() -> None:
    index, port, folder, out, cache, mapped = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=2, process_id=int(index)
    )
    from small_encoder import build_small_encoder

    from mca_jax.data import find_images
    from mca_jax.encoders import embed_images as store
    from mca_jax.encoders.embed_images import embed_images

    if mapped == "mapped":
        # As those of a set beyond memory.
        store._IN_MEMORY_BYTES = 0

    counts: list[int] = []
    found = embed_images(
        build_small_encoder(),
        find_images(folder),
        batch_size=4,
        cache_dir=cache or None,
        progress=counts.append,
    )
    np.save(f"{out}/{index}.npy", found.embeddings)
    described = {
        "paths": found.paths,
        "skipped": [list(map(str, (each.path, each.reason))) for each in found.skipped],
        "computed": found.num_computed,
        "own": sum(counts),
        "file": Path(getattr(found.embeddings, "filename", None) or "").suffix,
        "tables": [path.name for path in Path(cache).glob("*/*.shared")],
    }
    with open(f"{out}/{index}.json", "w") as file:
        json.dump(described, file)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
