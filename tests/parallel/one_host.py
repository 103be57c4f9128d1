"""One process of a run over several; not a test itself.

python one_host.py PROCESS_ID NUM_PROCESSES PORT FOLDER DEVICES [SETTING ...]
"""

import os
import sys

os.environ.setdefault("PJRT_NPROC", "16")
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

from mca_jax.core.parallel import is_first_host, join_hosts


def main(process_id, num_processes, port, folder, devices, *settings):
    jax.config.update("jax_num_cpu_devices", int(devices))
    if int(num_processes) > 1:
        join_hosts(f"127.0.0.1:{port}", int(num_processes), int(process_id))
    from mca_jax.pipeline.cluster import cluster
    from mca_jax.pipeline.config import Config, apply_overrides
    from mca_jax.report.write import write_outputs

    own = f"{folder}/images-{process_id}.npy"
    path = own if os.path.exists(own) else f"{folder}/images.npy"
    images = np.load(path, mmap_mode="r")
    nouns = np.load(f"{folder}/nouns.npy")
    result = cluster(
        image_embeddings=images,
        noun_embeddings=nouns,
        nouns=[f"noun{row}" for row in range(len(nouns))],
        config=apply_overrides(Config(num_clusters=4), list(settings)),
        checkpoint_dir=f"{folder}/checkpoints-{num_processes}",
    )
    out = f"{folder}/out-{num_processes}-{process_id}"
    os.makedirs(out)
    if is_first_host():
        write_outputs(result, out)
        weights = {
            f"{name}.{part}": np.asarray(value)
            for name, parts in result.params.items()
            for part, value in parts.items()
        }
        np.savez(f"{out}/weights.npz", **weights)
    np.save(f"{out}/assignments.npy", result.assignments)


if __name__ == "__main__":
    main(*sys.argv[1:])
