"""``mca-jax predict`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.predict --run=OUT --images=NEW --workdir=DIR
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
