"""Builds the notebooks from their sources, and runs them.

python notebooks/build.py             writes each .ipynb from its .py, without outputs
python notebooks/build.py --check     exit status 1 where one doesn't agree
python notebooks/build.py --run NAME  executes one in the present folder
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parent
NAMES = ("quickstart", "reproduce", "inside_mca")


def build(name: str) -> str:
    """Turn a source into a notebook; the same source gives the same text."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    notebook = jupytext.reads(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        # Otherwise drawn by chance.
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {}
    notebook["metadata"] = {
        # For Colab: a GPU where the account has one.
        "accelerator": "GPU",
        "colab": {"provenance": []},
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def run(name: str) -> None:
    """Execute a notebook in the present folder; an error in a cell is raised."""
    from nbclient import NotebookClient

    notebook = nbformat.reads(build(name), as_version=4)
    NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": "."}}
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                print(output.text, end="")


def main() -> int:
    """Build, check or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--run", choices=NAMES, help="execute one")
    chosen = parser.parse_args()
    if chosen.run:
        run(chosen.run)
        return 0
    stale = []
    for name in NAMES:
        target, text = FOLDER / f"{name}.ipynb", build(name)
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not chosen.check:
            target.write_text(text, encoding="utf-8")
    if chosen.check and stale:
        print(f"Not as their sources: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
