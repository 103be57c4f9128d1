"""Every family of the list through the command, from folders of its own writers.

The goldens are folders as the original libraries write them, and hold what these make
of three pictures and of some texts.
"""

from pathlib import Path

import numpy as np
import pytest
from command import run_command
from PIL import Image

from mca_jax.encoders.catalogue import FAMILIES

GOLDENS = Path(__file__).resolve().parents[2] / "goldens"
CLIP, CLIP_WIDTH = GOLDENS / "clip" / "openai", 20
OF_IMAGES = [name for name, each in FAMILIES.items() if each.flag != "--text_encoder"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The pictures that all goldens know, and as many again upside down."""
    folder = tmp_path_factory.mktemp("layouts")
    golden = np.load(GOLDENS / "dino" / "v2" / "golden.npz")
    for i in range(3):
        picture = golden[f"picture_{i}"]
        Image.fromarray(picture).save(folder / f"{i}.png")
        Image.fromarray(picture[::-1].copy()).save(folder / f"flipped-{i}.png")
    return folder


def distance(rows, folder, columns):
    """How far the worst of some unit vectors is from the nearest that is stored."""
    parts = [np.load(path)["embedding"] for path in folder.rglob("chunk-*.npy")]
    table = np.concatenate(parts)[:, columns]
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    assert table.shape[1] == rows.shape[1]
    return np.abs(rows[:, None] - table[None]).max(axis=2).min(axis=1).max()


def embeddings(golden, kind):
    return np.load(GOLDENS / golden / "golden.npz")[kind]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_folder_of_its_own_writer_embeds_images(pictures, tmp_path, name):
    family = FAMILIES[name]
    second = family.flag == "--image_encoder"
    done = run_command(
        "embed",
        *([f"--encoder={CLIP}"] if second else []),
        f"{family.flag}={GOLDENS / family.goldens[0]}",
        f"--images={pictures}",
        f"--workdir={tmp_path}",
        "--set=encoder.views=0",
        "--set=encoder.batch_size=3",
    )
    assert done.returncode == 0, done.stderr
    images = embeddings(family.goldens[0], "image_embeddings")
    columns = slice(CLIP_WIDTH if second else 0, None)
    assert distance(images, tmp_path, columns) <= family.parity


@pytest.mark.slow
def test_encoders_of_three_layouts_take_part_in_one_run(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("MCA_JAX_CACHE", str(tmp_path / "nouns"))
    (tmp_path / "nouns.txt").write_text("cat\nsea lion\nflower\ntree\nhouse\nboat\n")
    folders = {
        FAMILIES[name].flag: FAMILIES[name].goldens[0]
        for name in ("open_clip", "timm", "sentence")
    }
    done = run_command(
        "cluster",
        *(f"{flag}={GOLDENS / golden}" for flag, golden in folders.items()),
        f"--images={pictures}",
        f"--workdir={tmp_path / 'out'}",
        "--num_clusters=2",
        f"--set=semantics.vocabulary={tmp_path / 'nouns.txt'}",
        "--set=encoder.views=0",
        "--set=train.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    first, second, texts = folders.values()
    images = [embeddings(each, "image_embeddings") for each in (first, second)]
    width = images[0].shape[1]
    out = tmp_path / "out"
    assert distance(images[0], out, slice(width)) <= 1e-6
    assert distance(images[1], out, slice(width, None)) <= 1e-6
    # Of goldens' texts the first is "a photo of a cat".
    (own,) = (tmp_path / "nouns").glob(f"*{Path(texts).name}-*")
    assert distance(embeddings(texts, "embeddings")[:1], own, slice(None)) <= 1e-6
