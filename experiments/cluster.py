"""``mca-jax cluster`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.cluster --images=DIR --num_clusters=K --workdir=OUT
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["cluster", *sys.argv[1:]]))
