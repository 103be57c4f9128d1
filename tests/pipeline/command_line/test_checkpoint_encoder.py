"""The launcher with a checkpoint folder as encoder, from images to a report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import run_command
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config, apply_overrides

GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "clip"
NOUNS = "animal\ncat,animal\nsea lion,animal\nflower,plant\ntree,plant\nhouse\nboat\n"


def launch(cache, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCA_JAX_CACHE", str(cache))
        return run_command("cluster", *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs, a vocabulary and room for results."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for name, picture in zip(
        ("china", "flower"), load_sample_images().images, strict=True
    ):
        for i in range(6):
            top, left = rng.integers(0, 150, 2)
            crop = picture[top : top + 240, left : left + 240]
            Image.fromarray(crop).save(root / "photos" / f"{name}{i}.jpg")
    (root / "nouns.txt").write_text(NOUNS)
    return root


def options(place, encoder, workdir, *more):
    return (
        f"--encoder={encoder}",
        f"--images={place / 'photos'}",
        f"--workdir={place / workdir}",
        "--num_clusters=2",
        f"--set=semantics.vocabulary={place / 'nouns.txt'}",
        "--set=train.epochs=2",
        *more,
    )


def count_chunks(folder):
    return len(list(Path(folder).glob("*/chunk-*.npy")))


@pytest.fixture(scope="module")
def cache(place):
    return place / "nouns"


@pytest.fixture(scope="module", params=["openai", "siglip2"])
def run(request, place, cache):
    """A finished run with a checkpoint folder, and the checkpoint's name."""
    name = request.param
    done = launch(cache / name, *options(place, GOLDENS / name, f"out-{name}"))
    assert done.returncode == 0, done.stderr
    assert "2 clusters" in done.stdout
    return name, place / f"out-{name}"


@pytest.mark.slow
def test_a_checkpoint_folder_from_images_to_report(run, cache):
    name, out = run
    assert (out / "report.html").stat().st_size > 10_000
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["encoder"]["name"] == str(GOLDENS / name)
    found = count_chunks(cache / name), count_chunks(out / "embeddings")
    # Of the images and of their views.
    assert found == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["openai"], indirect=True)
def test_other_prompts_read_the_embeddings_of_the_images(run, place, cache):
    name, out = run
    second = place / "second"
    shutil.copytree(out / "embeddings", second / "embeddings")
    more = "--set=encoder.prompts={}|a drawing of a {}"
    done = launch(cache / name, *options(place, GOLDENS / name, "second", more))
    assert done.returncode == 0, done.stderr
    # Nouns in other prompts are others; images are what they were.
    assert len(list((cache / name).iterdir())) == 2
    assert len(list((second / "embeddings").iterdir())) == 1


def test_a_bad_text_encoder_is_told_before_images_are_embedded(place, tmp_path):
    more = ("--text_encoder=./nowhere", f"--workdir={tmp_path}")
    done = launch(tmp_path, *options(place, GOLDENS / "laion", "bad", *more))
    assert done.returncode == 2
    assert done.stderr == "Error: No folder ./nowhere to load an encoder from\n"
    assert not (tmp_path / "embeddings").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["encoder.prompts=a photo"], "Expected encoder.prompts as photo,"),
        (["encoder.prompts={} and {}"], r"Expected one \{\} in prompt template"),
        (["encoder.name=lite", "encoder.glosses=true"], "which reads no text"),
        (["encoder.name=lite", "encoder.dtype=bfloat16"], "no encoder.dtype with"),
        (["encoder.name=./photos"], r"No config.json in \./photos"),
        (["encoder.text=./photos"], r"No config.json in \./photos"),
        ([f"encoder.text={GOLDENS / 'laion'}"], "model_type bert, .* found 'clip'"),
    ],
    ids=["template", "slots", "glosses", "dtype", "folder", "text", "kind"],
)
def test_mistakes_are_named(place, settings, message, monkeypatch):
    monkeypatch.chdir(place)
    config = apply_overrides(
        Config(num_clusters=2),
        [
            f"encoder.name={GOLDENS / 'laion'}",
            "semantics.vocabulary=nouns.txt",
            *settings,
        ],
    )
    with pytest.raises(InputError, match=message):
        cluster("photos", config=config)


def test_glosses_and_half_precision_go_through(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MCA_JAX_CACHE", str(tmp_path / "nouns"))
    config = apply_overrides(
        Config(num_clusters=2),
        [
            f"encoder.name={GOLDENS / 'laion'}",
            f"semantics.vocabulary={place / 'nouns.txt'}",
            "encoder.glosses=true",
            "encoder.store_dtype=float16",
            "train.epochs=1",
        ],
    )
    result = cluster(place / "photos", config=config, cache_dir=tmp_path / "images")
    assert len(result.clusters) == 2
    chunks = list((tmp_path / "images").glob("*/chunk-*.npy"))
    # Of the images and of their views.
    assert len(chunks) == 2
    assert {np.load(chunk)["embedding"].dtype for chunk in chunks} == {np.dtype("f2")}
