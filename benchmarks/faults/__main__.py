"""Faults on purpose: damaged files, bad calls, full disks, kills; a table of them.

python -m benchmarks.faults --files=10000 --calls=200 --limits=30 --kills=100 --seed=0

Files of every kind that is read are changed at random; all calls and command lines are
wrong; whole jobs, from pictures to the report, lose disk, file handles or memory at
random moments, or are killed, and run again. Each fault has to end in a value or in one
line, and what is left has to lead to the files of a job that nobody disturbed. Needs
Linux, and what the extra ``test`` installs. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.faults.calls import run_calls
from benchmarks.faults.files import run_files
from benchmarks.faults.jobs import LIMITS, Report, run_kills, run_limits

__all__ = ["main"]


def _print_table(reports: Mapping[str, Report]) -> None:
    """Print what was tried and what came of it, as Markdown."""
    print("\n| fault | tried | what came of it | defects |\n|---|---|---|---|")
    for name, report in reports.items():
        outcomes = ", ".join(
            f"{count:,} {outcome}" for outcome, count in report.outcomes.most_common()
        )
        print(f"| {name} | {report.tried:,} | {outcomes} | {len(report.defects)} |")
    for name, report in reports.items():
        for defect in report.defects:
            print(f"{name}: {defect}")


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _run(options: argparse.Namespace, root: Path) -> dict[str, Report]:
    """Try what the flags ask for, in sub-folders of a folder."""
    reports: dict[str, Report] = {}
    if options.files:
        reports |= run_files(_folder(root, "files"), options.files, options.seed)
    if options.calls:
        folder = _folder(root, "calls")
        reports["bad calls and command lines"] = run_calls(
            folder, options.calls, options.seed
        )
    for name in LIMITS if options.limits else ():
        folder = _folder(root, name.replace(" ", "-"))
        reports[f"jobs out of {name}"] = run_limits(
            folder, name, options.limits, options.seed
        )
    if options.kills:
        folder = _folder(root, "kills")
        reports["jobs killed"] = run_kills(folder, options.kills, options.seed)
    return reports


def main() -> int:
    """Read the command line and run; exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=0, help="damaged files")
    parser.add_argument("--calls", type=int, default=0, help="bad calls and lines")
    parser.add_argument("--limits", type=int, default=0, help="jobs per resource")
    parser.add_argument("--kills", type=int, default=0, help="kills of whole jobs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for all that is left")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        reports = _run(options, options.keep)
    else:
        with tempfile.TemporaryDirectory() as name:
            reports = _run(options, Path(name))
    _print_table(reports)
    return int(any(report.defects for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
