"""``mca-jax evaluate`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.evaluate --run=OUT --labels=folders [--images=NEW --workdir=DIR]
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
