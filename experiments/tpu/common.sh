# shellcheck shell=bash
# What the scripts of this folder share; sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export ROOT

fail() {
  echo "Error: $*" >&2
  exit 2
}

# DRY_RUN=1, or --dry-run as the first word, prints the commands and runs none.
if [ "${1-}" = "--dry-run" ]; then
  DRY_RUN=1
fi
export DRY_RUN="${DRY_RUN:-}"

# run WORD... : run a command, or print it so that it can be pasted into a shell.
run() {
  if [ -n "$DRY_RUN" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# need NAME... : check that these variables are set.
need() {
  local name
  for name in "$@"; do
    [ -n "${!name-}" ] || fail "$name is not set; see experiments/tpu/README.md"
  done
}

# config_flag NAME : --config= of experiments/configs/NAME.py; NAME:smoke is its short run.
config_flag() {
  local name="${1%:smoke}"
  if [ ! -f "$ROOT/experiments/configs/$name.py" ]; then
    local known
    known=$(cd "$ROOT/experiments/configs" && printf '%s ' *.py)
    fail "no config '$name'; there are: ${known//.py/}"
  fi
  echo "--config=experiments/configs/$name.py${1#"$name"}"
}

# TPU_NAME, where it is and what it is. The software versions are those that
# https://cloud.google.com/tpu/docs/runtimes lists for jax.
tpu_settings() {
  need PROJECT ZONE
  command -v gcloud >/dev/null || [ -n "$DRY_RUN" ] ||
    fail "gcloud is not installed; see https://cloud.google.com/sdk/docs/install"
  TPU_NAME="${TPU_NAME:-mca-jax}"
  ACCELERATOR="${ACCELERATOR:-v5litepod-8}"
  if [ -z "${RUNTIME-}" ]; then
    case "$ACCELERATOR" in
      v6e-*) RUNTIME=v2-alpha-tpuv6e ;;
      v5p-*) RUNTIME=v2-alpha-tpuv5 ;;
      v5litepod-*) RUNTIME=v2-alpha-tpuv5-lite ;;
      v2-* | v3-* | v4-*) RUNTIME=tpu-ubuntu2204-base ;;
      *) fail "no software version is known for ACCELERATOR=$ACCELERATOR; set RUNTIME" ;;
    esac
  fi
  # Folder on the workers; a share that all of them see where NFS is set.
  MOUNT="${MOUNT:-/mnt/runs}"
  WHERE=("--project=$PROJECT" "--zone=$ZONE")
  export TPU_NAME ACCELERATOR RUNTIME MOUNT
}

# on_workers WHICH COMMAND : run a shell command on 'all' workers or on one.
on_workers() {
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${WHERE[@]}" "--worker=$1" \
    "--command=$2"
}

# queue_state : state of the request for the machine, such as ACTIVE; nothing if
# there is none.
queue_state() {
  gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" \
    '--format=value(state.state)' 2>/dev/null || true
}
