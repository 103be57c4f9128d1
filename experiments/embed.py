"""``mca-jax embed`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.embed --images=DIR --workdir=OUT
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
