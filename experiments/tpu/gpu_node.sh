#!/bin/bash
# Run on all GPUs of a machine, or of several: one process on each, started by hand.
#
#   experiments/tpu/gpu_node.sh [--dry-run] CONFIG WORKDIR [FLAG...]
#
# Of several machines, type it on each, with the same words and
#   COORDINATOR=host:port  an address of the first machine that the others reach
#   NODES=4  NODE=0        how many there are, and which this is, from 0
# WORKDIR is then on a file system that all of them see.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${1-}" != "--dry-run" ] || shift
[ $# -ge 2 ] || fail "expected CONFIG WORKDIR; see experiments/tpu/README.md"
flag=$(config_flag "$1")
job=("${PYTHON:-.venv/bin/python}" -m experiments.cluster "$flag" "--workdir=$2")
shift 2
if [ "${NODES:-1}" -gt 1 ]; then
  need COORDINATOR NODE
  job+=("--coordinator=$COORDINATOR" "--num_processes=$NODES" "--process_id=$NODE")
fi

# Rather an error than a run that silently takes the CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"
cd "$ROOT"
run "${job[@]}" "$@"
