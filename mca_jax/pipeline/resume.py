"""Checkpoints of a run's trainings: what they depend on, and where they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mca_jax.core.host_tables import release
from mca_jax.core.parallel.shares import fill_shares, host_shares, pick_own
from mca_jax.core.progress import Callback
from mca_jax.core.text import fingerprint, load_json, plain_json
from mca_jax.encoders import Encoder
from mca_jax.model.constraints import Constraints
from mca_jax.pipeline.config import Config, config_to_dict, settings_of_result
from mca_jax.pipeline.inputs import Nouns
from mca_jax.training.checkpoints import Checkpointer

__all__ = ["checkpoint_opener", "training_identity"]

# Rows that are hashed at once. Another number would be another hash.
_BLOCK = 4_096


def training_identity(
    config: Config,
    images: np.ndarray,
    nouns: Nouns,
    encoder: Encoder | None,
    views: np.ndarray | None = None,
    constraints: Constraints | None = None,
) -> dict[str, Any]:
    """Tell what training depends on.

    Args:
      config: All settings.
      images: Embeddings of the images.
      nouns: The vocabulary.
      encoder: Where the embeddings come from; None if they were given.
      views: Embeddings of views, if there are any.
      constraints: What is known of single images, if anything.

    Returns:
      Settings and fingerprints as plain JSON; two runs that share them train
      alike, on however many devices.
    """
    names = "\n".join(nouns.table.names).encode()
    said = {}
    if constraints is not None:
        said = {"constraints": fingerprint([each.tolist() for each in constraints])}
    return {
        **said,
        # Of one seed other keys are made than by version 0.1.
        "keys": "by name",
        "settings": settings_of_result(config_to_dict(config)),
        "encoder": "" if encoder is None else encoder.fingerprint,
        "images": {"count": len(images), "embeddings": _hash_rows(images)},
        "views": "" if views is None else _hash_rows(views),
        "nouns": {
            "count": len(nouns.rows),
            "names": hashlib.sha256(names).hexdigest()[:16],
            "embeddings": _hash_rows(nouns.embeddings),
        },
    }


def _hash_rows(table: Any) -> str:
    """Hash an array block by block, each host a share of the blocks.

    It may be larger than memory. The hash does not depend on the number of hosts.
    """
    if isinstance(table, jax.Array):
        table = np.asarray(table)
    # A block is the host's whose rows it begins with.
    shares = [
        range(-(-rows.start // _BLOCK), -(-rows.stop // _BLOCK))
        for rows in host_shares(len(table))
    ]
    digests = np.zeros((shares[-1].stop, 32), np.uint8)
    for index in pick_own(shares):
        rows = slice(index * _BLOCK, (index + 1) * _BLOCK)
        content = np.ascontiguousarray(table[rows]).data
        digests[index] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        release(table)
    fill_shares(digests, shares)
    return hashlib.sha256(digests.data).hexdigest()[:16]


def checkpoint_opener(
    directory: str | os.PathLike[str] | None,
    identity: dict[str, Any],
    config: Config,
    *,
    provenance: dict[str, Any],
    space: Nouns,
    callback: Callback,
) -> Callable[[str], Checkpointer] | None:
    """Say where the trainings of a run keep their checkpoints.

    Each run has a folder of its own in there, named by what it depends on: over
    other images or with other settings it begins anew, and what another run left
    stays for when that goes on.

    Args:
      directory: Folder of all checkpoints; None keeps none.
      identity: From :func:`training_identity`.
      config: How often to save, and how much to keep.
      provenance: What else to note in each checkpoint.
      space: The semantic space, whose fingerprint is noted as well.
      callback: Gets what is saved, and the epochs that need not be made again.

    Returns:
      ``name`` of a training, such as ``"consistency only"``, to its checkpoints.
    """
    if directory is None:
        return None
    settings, train = config.checkpoint, config.train
    num_images = identity["images"]["count"]
    steps_per_epoch = num_images // min(train.batch_size, num_images)
    rows = {"count": len(space.rows), "fingerprint": _hash_rows(space.rows)}

    def open_run(name: str) -> Checkpointer:
        def on_event(event: str, values: dict[str, Any]) -> None:
            if event == "resume":
                values = {**values, "epoch": values["step"] // steps_per_epoch}
                callback.advance(values["epoch"])
            callback.log(event, {"run": name, **values})

        return Checkpointer(
            _own_folder(Path(directory), identity, name),
            identity={**identity, "run": name},
            provenance={**provenance, "semantic_space": rows},
            every_steps=settings.every_steps,
            every_epochs=settings.every_epochs,
            keep=settings.keep,
            use_best=settings.use == "best",
            on_event=on_event,
        )

    return open_run


def _own_folder(directory: Path, identity: dict[str, Any], name: str) -> Path:
    """Choose the folder of a training: the run's own, or one where it began before."""
    earlier = directory / name.replace(" ", "_")
    # Runs of before lie in one folder, whatever they depend on.
    for manifest in earlier.glob("*/manifest.json"):
        try:
            found = load_json(manifest.read_bytes())["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found == plain_json({**identity, "run": name}):
            return earlier
    return directory / fingerprint(plain_json(identity)) / earlier.name
