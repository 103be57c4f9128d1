"""The notebooks agree with their sources, hold no outputs, and run to their end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = ("inside_mca", "quickstart", "reproduce")
BUILD = NOTEBOOKS / "build.py"


def code_cells(name):
    content = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def run(*arguments, cwd, **variables):
    return subprocess.run(
        [sys.executable, str(BUILD), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
        timeout=1200,
    )


def test_all_notebooks_are_known():
    found = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert tuple(found) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_are_kept(name):
    cells = code_cells(name)
    assert len(cells) > 5
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_installs_unless_it_is_there(name):
    first = "".join(code_cells(name)[0]["source"])
    assert 'if importlib.util.find_spec("mca_jax") is None:' in first
    assert first == "".join(code_cells(NAMES[0])[0]["source"])


def test_notebooks_agree_with_their_sources(tmp_path):
    pytest.importorskip("jupytext")
    done = run("--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_its_end(name, tmp_path, tmp_path_factory):
    for package in ("jupytext", "nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    variables = {
        "MCA_NOTEBOOK_SMALL": "1",
        # What jax compiles is shared with the tests of the pages.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = run("--run", name, cwd=tmp_path, **variables)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said = {
        "inside_mca": "cluster 2:",
        "quickstart": "noise:",
        "reproduce": "'official': False",
    }
    assert said[name] in done.stdout
