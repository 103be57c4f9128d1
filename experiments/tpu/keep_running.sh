#!/bin/bash
# See a run through on spot machines: create, run, and whenever the machine was taken
# away or the run stopped, once more, until it has ended. Then give the machine back.
#
#   NFS=10.0.0.2:/share experiments/tpu/keep_running.sh [--dry-run] CONFIG [FLAG...]
#
# A new machine has empty disks: NFS is where the checkpoints outlive the old one.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/common.sh"
[ "${1-}" != "--dry-run" ] || shift
[ $# -ge 1 ] || fail "which config? experiments/tpu/keep_running.sh CONFIG [FLAG...]"
tpu_settings
need NFS
config_flag "$1" >/dev/null

# Exit status of the run on the first worker; nothing while it is going on or where
# nobody answers.
job_status() {
  on_workers 0 "cat mca_jax/run.status 2>/dev/null" 2>/dev/null || true
}

if [ -n "$DRY_RUN" ]; then
  "$here/create.sh"
  "$here/run.sh" "$@"
  job_status
  exec "$here/delete.sh"
fi

failures=0
while true; do
  if [ "$(queue_state)" != ACTIVE ]; then
    # A machine that was taken away can't be started again, and its name is in use.
    [ -z "$(queue_state)" ] || "$here/delete.sh"
    if "$here/create.sh" && "$here/run.sh" "$@"; then
      failures=0
    else
      # It may be taken away again before it is ready; a wrong request never is.
      failures=$((failures + 1))
      [ "$failures" -lt "${TRIES:-3}" ] || fail "$TPU_NAME was not ready $failures times"
    fi
  fi
  sleep "${POLL:-60}"
  case "$(job_status)" in
    "") ;; # going on, or the machine is gone; the state above tells which
    0)
      echo "The run has ended"
      exec "$here/delete.sh"
      ;;
    2)
      # Bad input stays bad; the machine is kept, for a look at it.
      on_workers 0 "tail -n 20 mca_jax/run.log"
      fail "the run was refused; end the machine with experiments/tpu/delete.sh"
      ;;
    *) "$here/run.sh" "$@" || true ;;
  esac
done
