#!/bin/bash
# Ask for a TPU VM or a slice, wait until it is there, install the project on it.
#
#   PROJECT=my-project ZONE=us-west4-a experiments/tpu/create.sh [--dry-run]
#
# What it is made of comes from the environment: see README.md in this folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
tpu_settings

# A queued resource waits for capacity; tpu-vm create would fail without it.
request=(gcloud compute tpus queued-resources create "$TPU_NAME"
  "--node-id=$TPU_NAME" "${WHERE[@]}"
  "--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME")
if [ "${SPOT:-1}" = 1 ]; then
  request+=(--spot)
fi
run "${request[@]}"

while [ -z "$DRY_RUN" ]; do
  state=$(queue_state)
  echo "$TPU_NAME is ${state:-not known yet}"
  case "$state" in
    ACTIVE) break ;;
    FAILED | SUSPEND*) fail "$TPU_NAME is $state; end it with experiments/tpu/delete.sh" ;;
  esac
  sleep "${POLL:-30}"
done

# What is committed here goes to every worker: no access to a repository is needed.
archive="${TMPDIR:-/tmp}/mca_jax-$$.tar.gz"
trap 'rm -f "$archive"' EXIT
run git -C "$ROOT" archive --format=tar.gz "--output=$archive" HEAD
run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:mca_jax.tar.gz" \
  "${WHERE[@]}" --worker=all

# The workers' Ubuntu 22.04 has Python 3.10; uv brings the one that is needed.
on_workers all "set -e
mkdir -p mca_jax && tar -xzf mca_jax.tar.gz -C mca_jax && cd mca_jax
python3 -m pip install --quiet --user uv
\$HOME/.local/bin/uv venv --quiet --clear --seed --python=3.11 .venv
.venv/bin/python -m pip install --quiet -e . 'jax[tpu]'"

if [ -n "${NFS-}" ]; then
  on_workers all "set -e
sudo apt-get -qq update && sudo apt-get -qq install -y nfs-common
sudo mkdir -p $MOUNT
mountpoint -q $MOUNT || sudo mount -t nfs $NFS $MOUNT"
else
  # One host needs no share; what is on its disk goes with it.
  on_workers all "sudo mkdir -p $MOUNT && sudo chmod 777 $MOUNT"
fi

# On a slice each worker sees its own chips until the processes have joined.
on_workers all "cd mca_jax && .venv/bin/python -c 'import jaxlib, libtpu; print(\"installed\")'"
