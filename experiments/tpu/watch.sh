#!/bin/bash
# Show the state of the machine, then follow the log of one worker; Ctrl-C ends the
# watching, not the run.
#
#   experiments/tpu/watch.sh [--dry-run] [WORKER]
#
# The first worker, 0, has the progress; the others print only what goes wrong there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${1-}" != "--dry-run" ] || shift
tpu_settings

run gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" \
  '--format=value(state.state)'
on_workers "${1:-0}" "tail -n 50 -F mca_jax/run.log"
