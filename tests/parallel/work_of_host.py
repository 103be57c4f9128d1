"""What one process computes of a set on the host with others; not a test itself.

python work_of_host.py PROCESS_ID NUM_PROCESSES PORT FOLDER DEVICES
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("PJRT_NPROC", "16")
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from mca_jax.core.parallel import join_hosts


def main(process_id, num_processes, port, folder, devices):
    jax.config.update("jax_num_cpu_devices", int(devices))
    if int(num_processes) > 1:
        join_hosts(f"127.0.0.1:{port}", int(num_processes), int(process_id))
    from mca_jax.alignment import build_heads
    from mca_jax.alignment.forward import assign_images
    from mca_jax.core import parallel
    from mca_jax.core.parallel import rows as rows_module
    from mca_jax.core.parallel import shares
    from mca_jax.neighbors import (
        fit_projection,
        image_neighbors,
        probe_neighbors,
        spherical_kmeans,
    )
    from mca_jax.pipeline import resume

    table = np.load(f"{folder}/table.npy", mmap_mode="r")
    mesh, key = parallel.default_mesh(), jax.random.key(0)
    on_host = parallel.HostRows(table, 50, mesh)
    # Small blocks: what goes block by block is put together of several.
    resume._BLOCK, rows_module._BLOCK, shares._MOST_BYTES = 16, 64, 3000
    near = image_neighbors(on_host, num_neighbors=5)
    found = {
        "hash": np.frombuffer(resume._hash_rows(table).encode(), np.uint8),
        "axes": np.abs(fit_projection(on_host, components=3).axes),
        "near": near.indices,
        "cosines": near.similarities,
    }
    # Fewer places in the sample than rows, and a cluster that is empty at first.
    groups = spherical_kmeans(
        key, on_host, num_clusters=4, num_restarts=1, sample_size=60
    )
    found |= {"groups": groups.assignments, "objective": groups.objective}
    probed = probe_neighbors(key, on_host, num_neighbors=5, num_probes=6)
    found |= {"probed": probed.table.indices, "recall": probed.recall}
    heads = build_heads(num_clusters=3)
    params = heads.init(key, table[:3])
    found["assigned"] = assign_images(heads, params, on_host)
    if mesh is not None:
        spread = parallel.shard_rows(table, mesh)
        found["back"] = np.asarray(spread)
        picked = np.array([202, 0, 7, 7], np.int32)
        found["picked"] = parallel.fetch_rows(spread, picked)
    numbers = np.float64([1 / 3, 1e-300]) * (1 + int(process_id))
    found["sum"] = parallel.sum_over_hosts([numbers])[0]
    out = Path(folder) / f"out-{num_processes}-{process_id}"
    out.mkdir()
    np.savez(out / "found.npz", **{k: np.asarray(v) for k, v in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
