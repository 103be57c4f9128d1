"""A run whose images two encoders see, and what is made of it afterwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.model.predict import load_encoder
from mca_jax.pipeline.cluster import cluster
from mca_jax.pipeline.config import Config, apply_overrides

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
CLIP, DINO = str(GOLDENS / "clip" / "openai"), str(GOLDENS / "dino" / "v2")


@pytest.fixture(scope="module")
def photos():
    """Two kinds of pictures: bright ones and striped ones."""
    rng = np.random.default_rng(0)
    stripes = np.tile(np.repeat([0, 255], 4), 6)[None, :, None]
    return [
        Image.fromarray(
            np.clip(
                (stripes if row % 2 else 200) + rng.integers(-40, 40, (48, 48, 3)),
                0,
                255,
            ).astype(np.uint8)
        )
        for row in range(24)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory, photos):
    """The workdir of a run, and its result."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "nouns.txt").write_text("cat\nsea lion\nflower\ntree\nhouse\nboat\n")
    config = apply_overrides(
        Config(),
        [
            f"encoder.name={CLIP}",
            f"encoder.image={DINO}",
            f"semantics.vocabulary={folder / 'nouns.txt'}",
            "train.epochs=2",
            "encoder.noun_cache=" + str(folder / "nouns"),
        ],
    )
    result = cluster(photos, num_clusters=2, config=config, cache_dir=folder / "images")
    result.save(folder / "out")
    return folder / "out", result


def test_the_run_is_of_both_spaces(place):
    result = place[1]
    width = result.model.network.mean.shape[0]
    assert width == 20 + 24
    axes = np.asarray(result.model.network.axes)
    half = axes.shape[1] // 2
    assert not axes[:20, half:].any()
    assert not axes[20:, :half].any()
    assert set(np.bincount(result.assignments)) == {12}


def test_new_images_get_the_cluster_they_had(place, photos):
    folder, result = place
    found = mca_jax.load(folder).predict(photos)
    np.testing.assert_array_equal(found.nearest, result.assignments)


def test_another_second_encoder_is_noticed(place):
    model = place[1].model
    settings = {**model.config["encoder"], "image": str(GOLDENS / "dino" / "v3")}
    changed = replace(model, config={**model.config, "encoder": settings})
    with pytest.raises(InputError, match="its weights or preprocessing changed"):
        load_encoder(changed)
