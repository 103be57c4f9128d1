"""How nouns are placed among classes: the hierarchy and the lemmas, by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from experiments.build_lite_assets import expected_features, fold_weights
from experiments.lite_nouns import hierarchy_scores, index_lemmas
from mca_jax.core.assets import load_asset
from mca_jax.semantics import load_nouns
from mca_jax.semantics.vocabulary.wordnet import Synset


def noun(offset: int, lemma: str, *parents: int, instance: bool = False) -> Synset:
    return Synset(offset, 5, (lemma,), "", parents, instance, ())


# thing -> animal -> (dog -> (poodle, pug), cat), thing -> rock
NOUNS = [
    noun(10, "thing"),
    noun(20, "animal", 10),
    noun(30, "dog", 20),
    noun(40, "poodle", 30),
    noun(50, "pug", 30),
    noun(60, "cat", 20),
    noun(70, "rock", 10),
]
POODLE, CAT = 3, 5


def test_hierarchy_by_hand():
    near, is_kind = hierarchy_scores(NOUNS, [POODLE, CAT])

    def content(below: int) -> float:
        return 1 - math.log(below) / math.log(7)

    dog, animal = content(3), content(5)
    expected = [
        [0, 0],
        [2 * animal / (animal + 1)] * 2,
        [2 * dog / (dog + 1), 2 * animal / (dog + 1)],
        [1, animal],
        [dog, animal],
        [animal, 1],
        [0, 0],
    ]
    np.testing.assert_allclose(near, expected, atol=1e-6)
    kinds = [[1, 1], [1, 1], [1, 0], [1, 0], [0, 0], [0, 1], [0, 0]]
    np.testing.assert_array_equal(is_kind, np.array(kinds, bool))


def test_the_nearest_of_several_common_ancestors_counts():
    # A pet poodle is an animal and a pet; what is rarer says more.
    nouns = [*NOUNS, noun(80, "pet", 20), noun(90, "lap dog", 30, 80)]
    near, _ = hierarchy_scores(nouns, [POODLE])
    dog = 1 - math.log(4) / math.log(9)
    np.testing.assert_allclose(near[8, 0], dog, atol=1e-6)


def test_kinds_go_before_individuals_and_plurals_are_known():
    nouns = [
        noun(10, "thing"),
        noun(20, "Crane", 10, instance=True),
        noun(30, "crane", 10),
        noun(40, "Paris", 10, instance=True),
        noun(50, "polar_mouse", 10),
    ]
    index = (
        "  1 Licence\n"
        "crane n 2 2 @ ~ 2 0 00000020 00000030  \n"
        "paris n 1 1 @i 1 0 00000040  \n"
        "polar_mouse n 1 1 @ 1 0 00000050  \n"
    )
    exceptions = "polar_mice polar_mouse\noxen ox\nparis crane\n"
    lemmas, rows = index_lemmas(nouns, index_noun=index, noun_exc=exceptions)
    assert lemmas == ["crane", "paris", "polar mice", "polar mouse"]
    assert rows.tolist() == [2, 3, 4, 4]
    assert rows.dtype == np.int32


def test_asset_has_the_rows_of_the_noun_table():
    offsets = load_asset("lite.nouns.npz")["offsets"]
    assert tuple(f"n{offset:08d}" for offset in offsets) == load_nouns().synsets


def test_asset_agrees_with_wordnet_where_it_is_installed():
    folder = Path("/usr/share/wordnet")
    if not (folder / "index.noun").exists():
        pytest.skip("Debian's wordnet-base is not installed")
    asset = load_asset("lite.nouns.npz")
    lemmas = asset["lemmas"].tobytes().decode().split("\n")
    rows = dict(zip(lemmas, asset["lemma_rows"].tolist(), strict=True))
    for line in (folder / "index.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        fields = line.split()
        senses = [int(offset) for offset in fields[-int(fields[2]) :]]
        assert asset["offsets"][rows[fields[0].replace("_", " ")]] in senses


@pytest.fixture
def torch():
    """Tensors only; no weights are needed."""
    return pytest.importorskip("torch")


def test_expected_features_match_sampling(torch):
    mean = np.array([-1.0, 0.5, 3.0, 7.0])
    deviation = np.array([1.0, -0.5, 2.0, 1.0])
    state = {
        "_bn1.bias": torch.tensor(mean),
        "_bn1.weight": torch.tensor(deviation),
    }
    draws = np.random.default_rng(0).normal(mean, np.abs(deviation), (400_000, 4))
    sampled = draws.clip(0, 6).mean(0)
    # Four standard errors of the widest channel: 4 * 2 / sqrt(400,000).
    np.testing.assert_allclose(expected_features(state), sampled, atol=0.013)


def test_folded_layers_are_convolution_then_normalisation(torch):
    draw = np.random.default_rng(1)

    def layer(conv, norm, shape):
        out = shape[0]
        return {
            f"{conv}.weight": torch.tensor(draw.normal(size=shape)),
            f"{norm}.weight": torch.tensor(draw.normal(size=out)),
            f"{norm}.bias": torch.tensor(draw.normal(size=out)),
            f"{norm}.running_mean": torch.tensor(draw.normal(size=out)),
            f"{norm}.running_var": torch.tensor(draw.uniform(0.5, 2, size=out)),
        }

    block = "_blocks.0"
    state = (
        layer("_conv_stem", "_bn0", (4, 3, 3, 3))
        | layer(f"{block}._depthwise_conv", f"{block}._bn1", (4, 1, 3, 3))
        | layer(f"{block}._project_conv", f"{block}._bn2", (5, 4, 1, 1))
        | layer("_conv_head", "_bn1", (6, 5, 1, 1))
    )
    weights = fold_weights(state)
    assert {name: array.shape for name, array in weights.items()} == {
        "stem.kernel": (3, 3, 3, 4),
        "stem.bias": (4,),
        "blocks.0.depthwise.kernel": (3, 3, 4),
        "blocks.0.depthwise.bias": (4,),
        "blocks.0.project.kernel": (4, 5),
        "blocks.0.project.bias": (5,),
        "head.kernel": (5, 6),
        "head.bias": (6,),
    }
    x = draw.normal(size=(7, 4))
    functional = torch.nn.functional
    expected = functional.batch_norm(
        functional.conv2d(
            torch.tensor(x)[:, :, None, None],
            state[f"{block}._project_conv.weight"],
        ),
        *(
            state[f"{block}._bn2.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        ),
        eps=1e-3,
    )[:, :, 0, 0]
    found = x @ weights["blocks.0.project.kernel"]
    found += weights["blocks.0.project.bias"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
