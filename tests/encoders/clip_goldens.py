"""The golden checkpoints, loaded once, and ways to damage a copy of one."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
from parity import golden_names
from PIL import Image

from mca_jax.encoders.clip.encoder import build_clip

ROOT = Path(__file__).resolve().parent.parent / "goldens" / "clip"
NAMES = golden_names("clip")
PHOTOS = ("china.jpg", "flower.jpg")


@functools.cache
def load_encoder(name):
    return build_clip(str(ROOT / name))


@functools.cache
def load_golden(name):
    return dict(np.load(ROOT / name / "golden.npz"))


@functools.cache
def load_texts(name):
    content = json.loads((ROOT / name / "golden.json").read_text("utf-8"))
    return content["texts"], content["ids"]


def pictures(name):
    golden = load_golden(name)
    return [Image.fromarray(golden[f"picture_{i}"]) for i in range(3)]


@functools.cache
def compiled(name):
    """The two compiled functions of a golden encoder."""
    encoder = load_encoder(name)
    return jax.jit(encoder.encode_images), jax.jit(encoder.encode_texts)


def embed_images(name, images):
    """Embeddings of PIL images, in batches of three: one compilation a golden."""
    encoder = load_encoder(name)
    pixels = np.stack([encoder.preprocess(image) for image in images])
    rows = np.pad(pixels, ((0, -len(pixels) % 3), (0, 0), (0, 0), (0, 0)))
    parts = [
        compiled(name)[0](encoder.params, part)
        for part in rows.reshape(-1, 3, *encoder.image_size, 3)
    ]
    return np.concatenate(parts)[: len(pixels)]


def embed_texts(encoder, names, ids=None):
    """Embeddings of nouns by an encoder that differs from its golden in prompts."""
    tokens = encoder.tokenize(names, ids or [""] * len(names))
    function = compiled(Path(encoder.name).name)[1]
    return np.asarray(function(encoder.params, tokens))


def padded(ids, fill):
    """Rows of token ids as one array [b, 1, t], one prompt each."""
    tokens = np.full((len(ids), 1, max(map(len, ids))), fill, np.int32)
    for row, each in zip(tokens[:, 0], ids, strict=True):
        row[: len(each)] = each
    return tokens


def copy_golden(name, folder):
    """A copy of a checkpoint that a test may damage."""
    target = Path(folder) / name
    shutil.copytree(ROOT / name, target)
    return target


def edit_json(path, change):
    """Apply a function to what is in a JSON file."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def photo(name):
    """One of scikit-learn's two sample photographs."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(name))
