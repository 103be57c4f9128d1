"""The launch scripts: syntax, dry runs, and the job as a worker runs it."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "tpu"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
WHERE = {"PROJECT": "acme", "ZONE": "us-west4-a", "NFS": "10.0.0.2:/share"}
OWN = {
    *("PROJECT", "ZONE", "NFS", "TPU_NAME", "ACCELERATOR", "RUNTIME", "SPOT", "MOUNT"),
    *("RUN_NAME", "COORDINATOR", "NODES", "NODE", "DRY_RUN", "JAX_PLATFORMS"),
    *("SLURM_SUBMIT_DIR", "PYTHON", "POLL", "TRIES"),
}


def run(script, *words, **more):
    """Run a script with nothing of its variables set but those given."""
    environment = {k: v for k, v in os.environ.items() if k not in OWN}
    return subprocess.run(
        ["bash", str(FOLDER / script), *words],
        cwd=ROOT,
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
    )


def dry(script, *words, **more):
    """The commands that a script would run, as lists of words."""
    done = run(script, "--dry-run", *words, **{**WHERE, **more})
    assert done.returncode == 0, done.stderr
    return [shlex.split(_plain(line)) for line in done.stdout.splitlines()]


def _plain(line):
    """Bash's $'...' as quotes that shlex knows."""

    def unescape(match):
        text = match[1].replace("\\n", "\n").replace("\\'", "'")
        return shlex.quote(text.replace("\\\\", "\\"))

    return re.sub(r"\$'((?:[^'\\]|\\.)*)'", unescape, line)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_bash(script):
    done = subprocess.run(
        ["bash", "-n", str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if script.name != "common.sh":
        assert "\nset -euo pipefail\n" in script.read_text()
        assert os.access(script, os.X_OK)
    if shellcheck := shutil.which("shellcheck"):
        done = subprocess.run(
            [shellcheck, "-x", script.name],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("missing", ["PROJECT", "ZONE"])
@pytest.mark.parametrize(
    "script", ["create.sh", "run.sh", "watch.sh", "delete.sh", "keep_running.sh"]
)
def test_nothing_is_guessed_about_the_place(script, missing):
    place = {name: value for name, value in WHERE.items() if name != missing}
    done = run(script, "--dry-run", "cifar10", **place)
    assert done.returncode == 2
    assert done.stdout == ""
    expected = f"Error: {missing} is not set; see experiments/tpu/README.md\n"
    assert done.stderr == expected


def test_an_unknown_config_names_those_that_are_there():
    done = run("run.sh", "--dry-run", "cifar11", **WHERE)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: no config 'cifar11'; there are: cifar10 ")


def test_spot_machines_need_a_share():
    done = run("keep_running.sh", "--dry-run", "cifar10", PROJECT="a", ZONE="b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: NFS is not set")


@pytest.mark.parametrize(
    ("accelerator", "runtime"),
    [
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v4-8", "tpu-ubuntu2204-base"),
    ],
)
def test_create_asks_waits_copies_and_installs(accelerator, runtime):
    request, archive, copy, install, mount, _ = dry(
        "create.sh", ACCELERATOR=accelerator
    )
    assert request == [
        *("gcloud", "compute", "tpus", "queued-resources", "create", "mca-jax"),
        *("--node-id=mca-jax", "--project=acme", "--zone=us-west4-a"),
        *(f"--accelerator-type={accelerator}", f"--runtime-version={runtime}"),
        "--spot",
    ]
    assert archive[-1] == "HEAD"
    assert copy[4] == "scp"
    for command in (copy, install, mount):
        assert "--worker=all" in command
    assert "-e . 'jax[tpu]'" in install[-1]
    assert "mount -t nfs 10.0.0.2:/share /mnt/runs" in mount[-1]
    lasting, *_ = dry("create.sh", SPOT="0")
    assert "--spot" not in lasting


def test_an_unknown_accelerator_asks_for_its_software():
    done = run("create.sh", "--dry-run", ACCELERATOR="v9-8", **WHERE)
    assert "no software version is known for ACCELERATOR=v9-8" in done.stderr


def test_watch_and_delete():
    state, log = dry("watch.sh", "3")
    assert state[4] == "describe"
    assert log[-2:] == ["--worker=3", "--command=tail -n 50 -F mca_jax/run.log"]
    (delete,) = dry("delete.sh")
    assert delete[3:6] == ["queued-resources", "delete", "mca-jax"]
    assert delete[-2:] == ["--force", "--quiet"]


def test_keep_running_is_the_others_in_a_row():
    words = [command[4] for command in dry("keep_running.sh", "cifar10")]
    assert words[0] == "create"
    assert words[-2:] == ["ssh", "delete"]


def test_gpu_nodes_get_the_flags_of_the_launcher():
    (alone,) = dry("gpu_node.sh", "cifar10:smoke", "OUT", "--seed=1")
    assert alone == [
        *(".venv/bin/python", "-m", "experiments.cluster"),
        *("--config=experiments/configs/cifar10.py:smoke", "--workdir=OUT", "--seed=1"),
    ]
    (one,) = dry(
        "gpu_node.sh", "cifar10", "OUT", COORDINATOR="h:1", NODES="2", NODE="1"
    )
    assert one[-3:] == ["--coordinator=h:1", "--num_processes=2", "--process_id=1"]
    done = run("gpu_node.sh", "--dry-run", "cifar10", "OUT", NODES="2", NODE="1")
    assert done.stderr.startswith("Error: COORDINATOR is not set")


def test_slurm_runs_one_process_a_node():
    (job,) = dry("slurm.sh", "cifar10", "OUT", "--set=train.epochs=5")
    assert job[:2] == ["srun", "--kill-on-bad-exit=1"]
    assert job[-1] == "--set=train.epochs=5"
    text = (FOLDER / "slurm.sh").read_text()
    head = text[: text.index("set -euo pipefail")]
    options = re.findall(r"^#SBATCH --([a-z-]+)", head, flags=re.MULTILINE)
    assert {"ntasks-per-node", "signal", "requeue", "open-mode"} <= set(options)


def test_flags_of_the_launcher_exist():
    shown = subprocess.run(
        [sys.executable, "-m", "experiments.cluster", "--helpfull"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    flags = set(re.findall(r"^\s*--(?:\[no\])?([a-z_]+)", shown, flags=re.MULTILINE))
    scripts = "".join(path.read_text() for path in SCRIPTS)
    named = set(re.findall(r'"--(\w+)=', scripts)) - {"project", "zone", "command"}
    assert {"config", "workdir", "num_processes", "process_id"} <= named
    assert named - {"worker", "output"} <= flags
    readme = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"--([a-z]+_[a-z_]+)", readme)) <= flags


# Stands for gcloud: runs what it is given here, in a folder that is "the worker's".
GCLOUD = """#!/bin/bash
echo "$*" >>"$HOME/calls"
for word in "$@"; do last=$word; done
case "$*" in
  *queued-resources\\ describe*) cat "$HOME/state" ;;
  *queued-resources\\ create*) echo ACTIVE >"$HOME/state" ;;
  *queued-resources\\ delete*) : >"$HOME/state" ;;
  *tpu-vm\\ ssh*)
    case "$last" in
      *pip*|*mount*|*libtpu*) ;;
      *) cd "$HOME" && bash -c "${last#--command=}" ;;
    esac ;;
esac
"""

# Stands for the project's Python: the first call is stopped, the second ends.
JOB = """#!/bin/bash
printf '%s\\n' "$@" >>words
echo "call $(cat count 2>/dev/null)" && echo again >>count
[ "$(wc -l <count)" -gt 1 ] || exit 143
"""


@pytest.fixture
def worker(tmp_path):
    """A home with a gcloud in its PATH and an installed project."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "mca_jax/.venv/bin").mkdir(parents=True)
    (tmp_path / "state").touch()
    for name, text in (("bin/gcloud", GCLOUD), ("mca_jax/.venv/bin/python", JOB)):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def test_a_run_is_started_again_until_it_has_ended(worker):
    done = run(
        "keep_running.sh",
        "cifar10:smoke",
        "--seed=1",
        "--set=semantics.vocabulary=my nouns.txt",
        HOME=str(worker),
        PATH=f"{worker}/bin:{os.environ['PATH']}",
        POLL="0.3",
        TMPDIR=str(worker),
        **WHERE,
    )
    assert done.returncode == 0, done.stderr
    assert "The run has ended" in done.stdout
    one = [
        *("-m", "experiments.cluster", "--config=experiments/configs/cifar10.py:smoke"),
        *("--workdir=/mnt/runs/cifar10-smoke", "--seed=1"),
        "--set=semantics.vocabulary=my nouns.txt",
    ]
    assert (worker / "mca_jax/words").read_text().splitlines() == one * 2
    calls = (worker / "calls").read_text()
    assert calls.count("queued-resources create") == 1
    assert calls.count("queued-resources delete") == 1
    assert not list(worker.glob("mca_jax-*.tar.gz"))


def test_a_machine_that_was_taken_away_is_asked_for_again(worker):
    (worker / "state").write_text("SUSPENDED\n")
    (worker / "mca_jax/count").write_text("again\n")
    done = run(
        "keep_running.sh",
        "cifar10",
        HOME=str(worker),
        PATH=f"{worker}/bin:{os.environ['PATH']}",
        POLL="0.3",
        TMPDIR=str(worker),
        **WHERE,
    )
    assert done.returncode == 0, done.stderr
    verbs = re.findall(
        r"queued-resources (create|delete)", (worker / "calls").read_text()
    )
    assert verbs == ["delete", "create", "delete"]


def test_a_run_that_is_going_on_is_left_alone(worker):
    job = worker / "mca_jax/.venv/bin/python"
    job.write_text("#!/bin/bash\nuntil [ -e stop ]; do sleep 0.1; done\n")
    settings = {"HOME": str(worker), "PATH": f"{worker}/bin:{os.environ['PATH']}"}
    try:
        first = run("run.sh", "cifar10", **settings, **WHERE)
        assert first.returncode == 0, first.stderr
        second = run("run.sh", "cifar10", **settings, **WHERE)
        assert second.returncode == 1
        assert second.stdout == "A run is going on\n"
    finally:
        (worker / "mca_jax/stop").touch()
    while not (worker / "mca_jax/run.status").exists():
        time.sleep(0.05)
    assert (worker / "mca_jax/run.status").read_text() == "0\n"
