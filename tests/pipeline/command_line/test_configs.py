"""Every config of a data set, at its smoke size, through the command itself."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_datasets import (
    write_cifar10,
    write_cifar20,
    write_imagenet,
    write_stl10,
    write_tiny_imagenet,
)

import mca_jax
from mca_jax.data.datasets import DATASETS
from mca_jax.data.datasets.registry import IMAGENET10, IMAGENET_DOGS
from mca_jax.pipeline.command_line.flags import define_flags, read_config
from mca_jax.pipeline.config import Config

CONFIGS = Path("experiments/configs")
ROOT = Path(__file__).resolve().parents[3]
NOUNS = ["dog", "cat", "tree", "boat", "house", "bird", "flower", "stone", "fruit"]
SYNSETS = ["n01443537", "n02085936", "n07747607", "n04285008"]

WRITERS = {
    "cifar10": lambda folder: write_cifar10(folder, batch=20),
    "cifar20": write_cifar20,
    "stl10": write_stl10,
    "tiny_imagenet": lambda folder: write_tiny_imagenet(folder, SYNSETS),
    "imagenet10": lambda folder: write_imagenet(
        folder, [each.synset for each in IMAGENET10]
    ),
    "imagenet_dogs": lambda folder: write_imagenet(
        folder, [each.synset for each in IMAGENET_DOGS]
    ),
    "imagenet": lambda folder: write_imagenet(folder, SYNSETS, each=5),
}

# Most of the time of a small run goes into starting and compiling: so all of them
# in one process, on as many images each, which gives one program.
RUNNER = """
import contextlib, io, json, sys
from mca_jax.pipeline.command_line.main import main

answers = []
for command in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def environment(tmp_path):
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        # Nothing leads out, so that a test can't come to depend on it.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }


def launch(tmp_path, commands):
    """Run launchers; return exit status, standard output and error of each."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=900,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A smoke run of every config, and one of CIFAR-10 in its stages."""
    root = tmp_path_factory.mktemp("smoke")
    (root / "nouns.txt").write_text("\n".join(NOUNS))
    # A small vocabulary: the run of test_cluster.py has all of WordNet.
    vocabulary = f"--set=semantics.vocabulary={root / 'nouns.txt'}"

    def command(stage, name, workdir):
        return [
            stage,
            f"--config={CONFIGS / name}.py:smoke",
            f"--data_dir={root / name}",
            f"--workdir={root / 'out' / workdir}",
            vocabulary,
        ]

    commands = []
    for name in WRITERS:
        (root / name).mkdir()
        WRITERS[name](root / name)
        if name == "imagenet10":
            folder = root / name / "val" / IMAGENET10[0].synset
            (folder / "broken.JPEG").write_bytes(b"\xff\xd8\xff nothing")
        commands.append(command("cluster", name, name))
    commands.append(command("train", "cifar10", "staged"))
    commands.append(command("embed", "cifar10", "staged"))
    finished = f"--run={root / 'out' / 'staged'}"
    commands.append(["evaluate", finished, f"--data_dir={root / 'cifar10'}"])
    answers = launch(root, commands)
    for command, (status, _, error) in zip(commands, answers, strict=True):
        assert status == 0, (command, error)
    (root / "embed.txt").write_text(answers[-2][1])
    return root


def read_json(path):
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_smoke_runs_say_what_was_clustered_and_scored(smoke, name):
    folder, spec = smoke / "out" / name, DATASETS[name]
    metrics, settings = (
        read_json(folder / "metrics.json"),
        read_json(folder / "config.json")["settings"],
    )
    data = metrics["data"]
    assert data["dataset"] == name
    assert (data["clustered_split"], data["scored_split"]) == (spec.train, spec.score)
    assert (settings["data"]["train"], settings["data"]["score"]) == (
        spec.train,
        spec.score,
    )
    assert not data["official"]
    assert set(metrics["scores"]) == {"mca", "kmeans"}
    assert set(metrics["scores_of_clustered"]) == {"mca", "kmeans", "consistency_only"}
    counts = metrics["contingency"]["counts"]
    broken = 1 if name == "imagenet10" else 0
    assert sum(map(sum, counts)) == data["num_scored"] - broken
    told = [text for text in metrics["warnings"] if "could not be read" in text]
    assert len(told) == broken
    with (folder / "assignments.csv").open(encoding="utf-8-sig") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == data["num_clustered"]
    assert {path.split("/")[0] for path in paths} == {"train"}
    # Thumbnails of pixels as well as of files.
    assert (folder / "report.html").read_text().count("data:image/") >= 4
    assert "data_dir" not in settings


@pytest.mark.slow
def test_the_launcher_and_its_stages_give_the_same_files(smoke):
    whole, staged = smoke / "out" / "cifar10", smoke / "out" / "staged"
    for name in ("metrics.json", "assignments.csv", "clusters.json", "report.html"):
        assert (whole / name).read_bytes() == (staged / name).read_bytes(), name
    # 20 images of each split; the training had embedded the former.
    assert "40 images embedded, 20 of them now" in (smoke / "embed.txt").read_text()


@pytest.mark.parametrize("name", WRITERS)
def test_configs_name_their_data_set(name):
    module: dict = {}
    text = (ROOT / CONFIGS / f"{name}.py").read_text()
    exec(compile(text, name, "exec"), module)
    spec, config = DATASETS[name], module["get_config"]()
    assert config.data.dataset == name
    assert config.num_clusters == spec.num_classes
    assert (config.data.train, config.data.score) == (spec.train, spec.score)
    assert config.data.limit == 0
    assert not config.data.any_size
    for word in (f"configs/{name}.py", "Hardware:", "not measured yet", "quoted"):
        assert word in text
    for split in (spec.train, spec.score):
        assert f"{spec.splits[split]:,}" in text


def read(*arguments):
    values = define_flags("run")
    values(["cluster", *arguments])
    return read_config(values)


def test_smoke_cuts_a_config_unless_it_has_a_short_run_of_its_own(tmp_path):
    small = read(f"--config={ROOT / CONFIGS / 'imagenet.py'}:smoke")
    assert (small.data.dataset, small.data.limit) == ("imagenet", 20)
    assert small.encoder.name == "lite"
    (tmp_path / "own.py").write_text(
        "from mca_jax import Config\n"
        "def get_config(smoke=False): return Config(num_clusters=3 if smoke else 9)\n"
    )
    assert read(f"--config={tmp_path / 'own.py'}:smoke") == Config(num_clusters=3)
    assert read(f"--config={tmp_path / 'own.py'}") == Config(num_clusters=9)


def test_there_is_a_config_for_each_data_set():
    files = {path.stem for path in (ROOT / CONFIGS).glob("*.py")}
    assert files == {*DATASETS, "default"} == {*WRITERS, "default"}


MISTAKES = [
    (["--dataset=stl"], ["--dataset 'stl'", "did you mean 'stl10'"]),
    (["--dataset=cifar10", "--images=."], ["--images or --dataset", "both"]),
    (["--dataset=stl10", "--labels=folders"], ["--labels", "brings its own"]),
    (["--dataset=stl10", "--data_dir=nowhere"], ["No such folder", "nowhere"]),
    (["--dataset=imagenet"], ["https://image-net.org", "--data_dir"]),
    (["--dataset=cifar10", "--set=data.train=val"], ["split of cifar10 'val'"]),
    (["--num_clusters=3"], ["--images", "--dataset", "neither"]),
    (
        ["--dataset=cifar10"],
        [
            "Can't download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "get cifar-10-binary.tar.gz (sha256 c4a38c",
            "--data_dir",
        ],
    ),
]


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    workdir = f"--workdir={tmp_path / 'out'}"
    answers = launch(tmp_path, [["cluster", workdir, *given] for given, _ in MISTAKES])
    for (given, words), (status, _, error) in zip(MISTAKES, answers, strict=True):
        assert status == 2, given
        for word in words:
            assert word in error
        assert len(error.strip().splitlines()) == 1, error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_launcher_from_a_shell(tmp_path):
    """As a user types it: without a network, one line that says what to do."""
    arguments = ["--dataset=tiny_imagenet", f"--workdir={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cluster", *arguments],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Can't download http://cs231n.stanford.edu/")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_data_set_sets_the_number_of_clusters():
    from mca_jax.pipeline.command_line.inputs import with_dataset

    config = with_dataset(mca_jax.Config(), "cifar20")
    assert (config.num_clusters, config.data.dataset) == (20, "cifar20")
    assert with_dataset(config, "cifar20") == config
    chosen = mca_jax.apply_overrides(config, ["data.train=test", "num_clusters=7"])
    assert with_dataset(chosen, "cifar20") == chosen
    assert with_dataset(chosen, "stl10").data.train == ""
