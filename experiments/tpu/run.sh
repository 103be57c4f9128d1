#!/bin/bash
# Start a run on all workers and return; started again, it goes on where it was.
#
#   experiments/tpu/run.sh [--dry-run] CONFIG [FLAG...]
#
# CONFIG names a file of experiments/configs; flags go to experiments.cluster.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${1-}" != "--dry-run" ] || shift
[ $# -ge 1 ] || fail "which config? experiments/tpu/run.sh CONFIG [FLAG...]"
tpu_settings
flag=$(config_flag "$1")
workdir="$MOUNT/${RUN_NAME:-${1/:/-}}"
shift

job=$(printf '%q ' .venv/bin/python -m experiments.cluster "$flag" \
  "--workdir=$workdir" "$@")
# The processes of a slice find each other by themselves. The job outlives the ssh
# session, and leaves its exit status in run.status.
on_workers all "cd mca_jax
if [ -s run.pid ] && kill -0 \$(cat run.pid) 2>/dev/null; then echo 'A run is going on'; exit 1; fi
rm -f run.status
nohup bash -c $(printf '%q' "$job >run.log 2>&1; echo \$? >run.status") >/dev/null 2>&1 &
echo \$! >run.pid"
