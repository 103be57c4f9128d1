"""``mca-jax export`` for the repository and TPU VMs, where nothing is installed.

python -m experiments.export --run=OUT --workdir=DIR --formats=parquet,links
"""

import sys

from mca_jax.pipeline.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
