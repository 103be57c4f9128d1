"""Run files of the sweep: what one holds, and the machine that it was made on."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from mca_jax.core.atomic_files import write_file
from mca_jax.core.text import dump_json

__all__ = [
    "Run",
    "describe_machine",
    "held_gib",
    "load_runs",
    "peak_gib",
    "read_run",
    "reset_peak",
    "run_path",
    "write_run",
]

Run = dict[str, Any]
"""One run as plain JSON; the keys are those that ``read_run`` asks for."""

_KEYS = frozenset(
    {
        *("set", "base", "ratio", "variant", "kind", "seed", "uses_labels"),
        *("scores", "label_free", "epochs", "status", "seconds", "peak_gib"),
        *("history", "risk", "steps_per_pass", "start_acc", "ece"),
        *("num_images", "num_clusters", "overrides", "identity", "settings", "command"),
        *("hardware", "versions", "encoder"),
    }
)
_KIB_PER_GIB = 2**20


def run_path(folder: Path, name: str, variant: str, seed: int) -> Path:
    """Path of the file of a run, below the folder of all runs."""
    return folder / name / f"{variant}-seed{seed}.json"


def read_run(path: Path) -> Run | None:
    """Read one run; None where there is none or only part of one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and found.keys() >= _KEYS
    return found if whole else None


def write_run(path: Path, run: Mapping[str, Any]) -> None:
    """Write one run, whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, dump_json(run) + "\n")


def load_runs(folder: Path) -> list[Run]:
    """Read all whole runs below a folder, ordered by set, variant and seed."""
    found: Iterable[Run | None] = map(read_run, folder.glob("*/*.json"))
    runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: (run["set"], run["variant"], run["seed"]))


def _cpu_model() -> str:
    """Name of the processor as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine() -> tuple[dict[str, Any], dict[str, str]]:
    """Processor, cores and devices; and versions of Python and of packages."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    device = jax.devices()[0]
    hardware = {
        "cpu": _cpu_model(),
        "cores": cores,
        "device": device.device_kind,
        "num_devices": jax.device_count(),
    }
    packages = ("mca-jax", "jax", "numpy")
    versions = {"python": platform.python_version()}
    return hardware, versions | {package: version(package) for package in packages}


def reset_peak() -> None:
    """Forget the largest memory so far, where the system can do it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_gib() -> float:
    """Largest resident memory of this process since ``reset_peak``, in GiB.

    What other runs left in the process counts, as do all before where the system
    can't forget.
    """
    kib = _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / _KIB_PER_GIB


def held_gib() -> float:
    """Memory that this process holds apart from mapped files, in GiB."""
    kib = _status("RssAnon")
    return peak_gib() if kib is None else kib / _KIB_PER_GIB


def _status(name: str) -> int | None:
    """A line of what Linux says of this process, in KiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None
