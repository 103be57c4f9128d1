"""``mca-jax train`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.train --images=DIR --num_clusters=K --workdir=OUT
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
