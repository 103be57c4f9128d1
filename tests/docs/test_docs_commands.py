"""Runs every command and snippet of the README and the documentation.

The blocks of a page run one after the other in a folder of their own, which holds
what the page speaks of: pictures in ``photos`` and ``new``, and for some pages the run
that the tutorial left. Commands run as they are written, but for SUBSTITUTIONS. The
snippets of a page share their names, as the cells of a notebook do.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pages import EXCUSED, PAGES, ROOT, SUBSTITUTIONS, excuse, name_of, read_blocks
from PIL import Image
from run_page import RAN

# How many blocks of a page don't run. A new one has to be counted here.
NOT_RUN = {
    "README.md": 1,
    "docs/encoders.md": 5,
    "docs/install.md": 5,
    "docs/review.md": 1,
    "docs/scaling.md": 1,
    "docs/teaching.md": 1,
}

TUTORIAL = ROOT / "docs" / "tutorial.md"
# Pages that go on from what the tutorial left.
AFTER_TUTORIAL = (
    ROOT / "docs" / "reading-the-report.md",
    ROOT / "docs" / "review.md",
    ROOT / "docs" / "risk.md",
)

LANGUAGES = ("bash", "sh", "python")

BLOCKS = [block for path in PAGES for block in read_blocks(path)]


def write_pictures(folder: Path, count: int, seed: int) -> None:
    """Crops of the two photographs that scikit-learn brings, in a folder each."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(seed)
    photographs = load_sample_images().images
    for name, pixels in zip(("china", "flower"), photographs, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = random.integers(0, (pixels.shape[0] - 240, 400))
            crop = pixels[top : top + 240, left : left + 240]
            Image.fromarray(crop).resize((120, 120)).save(
                folder / name / f"{number:02d}.jpg"
            )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables of the commands; they share what jax compiles."""
    root = tmp_path_factory.mktemp("environment")
    (root / "bin").mkdir()
    command = "from mca_jax.pipeline.command_line.main import main; exit(main())"
    for name, words in (("python", ""), ("mca-jax", f"-c '{command}' ")):
        path = root / "bin" / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        path.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(root / "cache"),
    }


@pytest.fixture(scope="module")
def bare(tmp_path_factory, environment):
    """A folder as a reader has it: pictures, and the clone's own folders."""
    root = tmp_path_factory.mktemp("reader")
    write_pictures(root / "photos", 24, seed=0)
    write_pictures(root / "new", 4, seed=1)
    # The README's words for folders of one's own and for its interpreter.
    (root / "DIR").symlink_to("photos")
    (root / "NEW").symlink_to("new")
    (root / ".venv").mkdir()
    bin_folder = Path(environment["PATH"].split(os.pathsep)[0])
    (root / ".venv" / "bin").symlink_to(bin_folder)
    for name in ("experiments", "mca_jax"):
        (root / name).symlink_to(ROOT / name)
    return root


def run_page(path: Path, folder: Path, environment: dict[str, str]) -> int:
    """Run the blocks of a page in a process of its own; return how many."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_page.py")), str(path)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.count(RAN)


def check_page(path: Path, start: Path, folder: Path, environment) -> None:
    """Run a page in a copy of a folder, and see that it was all of it."""
    shutil.copytree(start, folder, symlinks=True)
    ran = run_page(path, folder, environment)
    of_page = [block for block in BLOCKS if block.page == name_of(path)]
    assert ran == len([block for block in of_page if not excuse(block)])


# One test, so that several workers don't each follow the tutorial.
@pytest.mark.slow
def test_the_tutorial_and_what_goes_on_from_it(bare, environment, tmp_path):
    folder = tmp_path / "tutorial"
    check_page(TUTORIAL, bare, folder, environment)
    expected = {
        "OUT": ("report.html", "assignments.csv", "skipped.csv", "embeddings"),
        "ASSIGNED": ("assignments.csv",),
        "OUT-v2": ("report.html", "model.json", "config.json"),
        "EXPORT": (
            *("assignments.csv", "clusters", "label_studio.json"),
            *("labels.json", "embeddings.npz"),
        ),
    }
    for where, names in expected.items():
        missing = [name for name in names if not (folder / where / name).exists()]
        assert not missing, f"{where}: {missing}"
    for where, pictures in (("OUT", "photos"), ("ASSIGNED", "new")):
        lines = (folder / where / "assignments.csv").read_text().splitlines()
        assert len(lines) == 1 + len(list((folder / pictures).glob("*/*.jpg")))
    assert "scores" in json.loads((folder / "OUT" / "metrics.json").read_text())
    for path in AFTER_TUTORIAL:
        check_page(path, folder, tmp_path / path.stem, environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if path not in (TUTORIAL, *AFTER_TUTORIAL)],
    ids=name_of,
)
def test_the_blocks_of_a_page_run(path, bare, environment, tmp_path):
    check_page(path, bare, tmp_path / "reader", environment)


def test_each_block_names_its_language():
    wrong = [str(block) for block in BLOCKS if block.language not in LANGUAGES]
    assert not wrong, f"neither of {LANGUAGES}: {wrong}"
    assert len([block for block in BLOCKS if not excuse(block)]) > 20


@pytest.mark.parametrize("block", [block for block in BLOCKS if excuse(block)], ids=str)
def test_what_does_not_run_is_listed(block):
    pytest.skip(f"{block}: {excuse(block)}")


def test_what_does_not_run_is_counted():
    left_out = [(block, excuse(block)) for block in BLOCKS if excuse(block)]
    listing = "\n".join(f"{block}: {reason}" for block, reason in left_out)
    assert Counter(block.page for block, _ in left_out) == NOT_RUN, listing


def test_every_excuse_and_substitution_is_of_use():
    texts = [block.text for block in BLOCKS]
    for page, start in EXCUSED:
        assert any(b.page == page and b.text.startswith(start) for b in BLOCKS), start
    for written in SUBSTITUTIONS:
        assert any(written in text for text in texts), written
