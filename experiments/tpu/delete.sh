#!/bin/bash
# Give the machine back, with what is on its disks. NFS shares stay.
#
#   experiments/tpu/delete.sh [--dry-run]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
tpu_settings

# --force also ends the nodes; without it the request can't be deleted while they run.
run gcloud compute tpus queued-resources delete "$TPU_NAME" "${WHERE[@]}" --force --quiet
