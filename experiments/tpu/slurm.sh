#!/bin/bash
# A run on GPU nodes under SLURM, one process a node:
#
#   sbatch --nodes=2 --gpus-per-node=8 experiments/tpu/slurm.sh CONFIG WORKDIR [FLAG...]
#
# Submit it from the root of the repository. WORKDIR is on a file system that all nodes
# see. At the end of its time the run saves, and the job queues itself again.
#SBATCH --job-name=mca-jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=4:00:00
#SBATCH --open-mode=append
#SBATCH --requeue
# SIGTERM to the processes, not to this script, two minutes before the time is up.
#SBATCH --signal=TERM@120
set -euo pipefail
# SLURM runs a copy of this file from a folder of its own.
# shellcheck source=common.sh
source "${SLURM_SUBMIT_DIR:-.}/experiments/tpu/common.sh"
[ "${1-}" != "--dry-run" ] || shift
[ $# -ge 2 ] || fail "expected CONFIG WORKDIR; see experiments/tpu/README.md"
flag=$(config_flag "$1")
workdir=$2
shift 2

cd "$ROOT"
status=0
# The processes find each other through SLURM; if one ends badly, all are ended.
run srun --kill-on-bad-exit=1 .venv/bin/python -m experiments.cluster "$flag" \
  "--workdir=$workdir" "$@" || status=$?
# 143: SIGTERM came and the state is saved. --requeue alone does not help when time
# has run out.
if [ "$status" = 143 ]; then
  run scontrol requeue "${SLURM_JOB_ID:?}"
fi
exit "$status"
