"""The sweep on a small made-up set: its files, what it shares, and its sets."""

import inspect
import json

import numpy as np
import pytest
from small_runs import NOUNS, blobs

from benchmarks.methods import BASELINES, Shared, run_baseline, run_variant
from benchmarks.runs import load_runs, read_run, run_path, write_run
from benchmarks.sets import (
    Answers,
    SweepSet,
    draw_long_tail,
    join_sets,
    long_tail_sizes,
)
from benchmarks.sweep import REFERENCES, main, plan_runs, run_sweep
from benchmarks.variants import ALL_LEVELS, VARIANTS
from mca_jax.core.errors import InputError
from mca_jax.pipeline.config import Config, apply_overrides
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

PER_CLASS = 50
QUICK = ("train.epochs=2", "retrieval.kmeans_restarts=2")


@pytest.fixture(scope="module")
def small_set() -> tuple[SweepSet, Answers]:
    given = SweepSet(
        name="blobs",
        base="blobs",
        ratio=1,
        embeddings=blobs(per_axis=PER_CLASS),
        nouns=np.eye(len(NOUNS), dtype=np.float32),
        table=parse_vocabulary("\n".join(NOUNS), "nouns"),
        num_clusters=4,
        encoder="made up",
        digest="0",
    )
    return given, Answers(np.repeat(np.arange(4), PER_CLASS), NOUNS[:4])


def do(sets, folder, names, num_seeds=1):
    told = []
    plans = plan_runs(names=names, num_seeds=num_seeds, overrides=QUICK)
    done = run_sweep(sets, plans, folder, command="none", log=told.append)
    return done, told


def test_overrides_of_all_variants_are_settings():
    configs = {
        name: apply_overrides(Config(), variant.overrides)
        for name, variant in VARIANTS.items()
    }
    # Two variants of the same settings would be one experiment under two names.
    assert len(set(configs.values())) == len(VARIANTS)
    losses = configs["none"].losses
    assert (losses.instance, losses.prototype, losses.semantic) == (0, 0, 0)
    losses = configs["instance+semantic"].losses
    assert min(losses.instance, losses.semantic) > 0 == losses.prototype
    losses = configs[ALL_LEVELS].losses
    assert min(losses.instance, losses.prototype, losses.semantic) > 0


@pytest.mark.slow
def test_variants_baselines_and_references_run(small_set, tmp_path):
    # What trains by another loss is tried in tests/evaluation: compiling it is slow.
    names = ["none", ALL_LEVELS, *sorted(BASELINES.keys() - {"sic-style"}), *REFERENCES]
    done, told = do([small_set], tmp_path, names)
    assert done == len(names) == len(told)
    runs = {run["variant"]: run for run in load_runs(tmp_path)}
    assert runs.keys() == set(names)
    for name, run in runs.items():
        assert run["scores"]["acc"] == 1.0, name
        assert run["uses_labels"] == (name in REFERENCES)
        assert sum(run["seconds"].values()) > 0
        assert 0 < run["peak_gib"] < 64
    assert runs[ALL_LEVELS]["epochs"] in (1, 2)
    assert {"loss", "consistency"} <= runs[ALL_LEVELS]["label_free"].keys()
    assert runs["none"]["hardware"]["cores"] >= 1
    assert runs["none"]["versions"].keys() >= {"jax", "mca-jax"}


def test_whole_runs_are_not_repeated_and_halves_are(small_set, tmp_path):
    assert do([small_set], tmp_path, ["kmeans-raw"], num_seeds=2)[0] == 2
    kept = run_path(tmp_path, "blobs", "kmeans-raw", 0)
    before = kept.read_bytes()
    broken = run_path(tmp_path, "blobs", "kmeans-raw", 1)
    broken.write_bytes(before[: len(before) // 2])
    assert [run["seed"] for run in load_runs(tmp_path)] == [0]
    done, told = do([small_set], tmp_path, ["kmeans-raw"], num_seeds=2)
    assert (done, len(told)) == (1, 1)
    assert kept.read_bytes() == before
    assert read_run(broken)["seed"] == 1
    # Other embeddings are another experiment, whatever the file is called.
    other = (small_set[0]._replace(digest="1"), small_set[1])
    assert do([other], tmp_path, ["kmeans-raw"], num_seeds=2)[0] == 2
    # A file without all keys is none of ours.
    write_run(kept, {"seed": 0})
    assert read_run(kept) is None


def test_methods_are_given_no_labels(small_set, tmp_path):
    given, answers = small_set
    assert not {"labels", "class_names"} & set(given._fields)
    for method in (run_variant, run_baseline, Shared):
        assert "Answers" not in str(inspect.signature(method))
    random = np.random.default_rng(0)
    shuffled = answers._replace(labels=random.permutation(answers.labels))
    names = ["kmeans", "kmeans-image-text"]
    do([(given, answers)], tmp_path / "true", names)
    do([(given, shuffled)], tmp_path / "shuffled", names)
    for true, wrong in zip(
        load_runs(tmp_path / "true"), load_runs(tmp_path / "shuffled"), strict=True
    ):
        assert true["label_free"] == wrong["label_free"]
        assert true["scores"]["acc"] > wrong["scores"]["acc"]


def test_semantic_variants_take_the_clusters_over(small_set):
    shared = Shared(small_set[0])
    base = apply_overrides(Config(num_clusters=4), QUICK)
    wide = apply_overrides(base, ["semantics.nouns_per_center=5000"])
    rough = apply_overrides(base, ["retrieval.smoothing_steps=0"])
    one, two, three = (shared.prepare(c) for c in (base, wide, rough))
    assert one.kmeans is two.kmeans
    assert one.nouns is not two.nouns
    assert one.kmeans is not three.kmeans
    again = shared.prepare(base)
    assert again.data is one.data
    assert again.initialization is one.initialization
    uniform = shared.prepare(apply_overrides(base, ["losses.prior=uniform"]))
    assert uniform.data is one.data
    assert uniform.initialization is not one.initialization
    shared.forget_seed()
    assert shared.prepare(base).data is not one.data


def test_each_space_of_a_set_has_axes_of_its_own(small_set):
    given = small_set[0]
    width = given.embeddings.shape[1]
    both = np.concatenate([given.embeddings] * 2, axis=1) * 0.5**0.5
    nouns = np.pad(given.nouns, ((0, 0), (0, width)))
    joint = given._replace(embeddings=both, nouns=nouns, spaces=(width, width))
    projection = Shared(joint).project(Config(num_clusters=4)).projection
    assert projection is not None
    axes = np.asarray(projection.axes)
    half = axes.shape[1] // 2
    assert not axes[:width, half:].any()
    assert not axes[width:, :half].any()


def test_levels_share_what_is_compiled(small_set):
    shared = Shared(small_set[0])
    base = apply_overrides(Config(num_clusters=4), QUICK)
    setups = {
        name: shared.setup(apply_overrides(base, VARIANTS[name].overrides))
        for name in ("none", "instance+prototype", ALL_LEVELS, "no-attention")
    }
    # Levels are weights, arguments of what is compiled; the attention is part of it.
    assert setups["none"] is setups["instance+prototype"] is setups[ALL_LEVELS]
    assert setups["no-attention"] is not setups[ALL_LEVELS]
    assert not setups["no-attention"].constants["attention"]


def test_sizes_of_a_long_tail():
    # 100 * 10 ** (-j / 2) is 100, 31.6, 10.
    assert long_tail_sizes([100, 100, 100], 10) == [100, 32, 10]
    # The middle class has 19 of the 31.6 wanted: all are cut by that share.
    assert long_tail_sizes([100, 19, 19], 10) == [60, 19, 6]
    assert long_tail_sizes([5, 5], 1) == [5, 5]
    assert long_tail_sizes([3, 3], 50) == [3, 1]
    with pytest.raises(InputError, match="ratio at least 1, found 0"):
        long_tail_sizes([5, 5], 0)


def test_a_long_tailed_set_is_drawn_by_its_seed(small_set):
    given, answers = small_set
    drawn, kept = draw_long_tail(given, answers, ratio=10, seed=3)
    assert drawn.name == "blobs-lt10"
    assert (drawn.base, drawn.ratio) == ("blobs", 10)
    assert sorted(np.bincount(kept.labels), reverse=True) == [50, 23, 11, 5]
    # Each image keeps its label: the blobs are around the axes.
    assert (drawn.embeddings.argmax(axis=1) == kept.labels).all()
    again = draw_long_tail(given, answers, ratio=10, seed=3)[0]
    assert again.digest == drawn.digest
    assert draw_long_tail(given, answers, ratio=10, seed=4)[0].digest != drawn.digest


def test_bad_names_and_seeds(tmp_path, capsys):
    with pytest.raises(InputError, match="Unknown variant 'nome'; did you mean 'none'"):
        plan_runs(names=["nome"], num_seeds=1, overrides=())
    folders = [f"--images={tmp_path}", f"--cache={tmp_path}", f"--out={tmp_path}"]
    assert main([*folders, "--seeds=0"]) == 2
    assert "Expected --seeds at least 1, found 0" in capsys.readouterr().err
    assert main([f"--images={tmp_path},{tmp_path}", *folders[1:]]) == 2
    assert "folders of different names" in capsys.readouterr().err


def test_run_files_are_plain_json(small_set, tmp_path):
    do([small_set], tmp_path, ["kmeans"])
    text = run_path(tmp_path, "blobs", "kmeans", 0).read_text()
    assert json.loads(text)["scores"].keys() == {"acc", "nmi", "ari"}


def test_classes_of_a_union_stay_apart(small_set):
    given, answers = small_set
    few = given._replace(name="few", embeddings=given.embeddings[:PER_CLASS])
    few = few._replace(num_clusters=1, views=np.zeros((2, 3, 4)))
    other = few, Answers(answers.labels[:PER_CLASS], NOUNS[:1])
    joined, found = join_sets([small_set, other], "few+blobs")
    assert (joined.name, joined.num_clusters) == ("few+blobs", 5)
    np.testing.assert_array_equal(joined.embeddings[PER_CLASS:], given.embeddings)
    np.testing.assert_array_equal(found.labels[PER_CLASS:], answers.labels + 1)
    assert found.labels[:PER_CLASS].tolist() == [0] * PER_CLASS
    # Views of one set alone would tell nothing of the other.
    assert joined.views is None
    assert join_sets([other, small_set], "blobs+few")[0].digest != joined.digest
    with pytest.raises(InputError, match="Unknown set of a union 'fw'.*few"):
        join_sets([small_set, other], "blobs+fw")
    with pytest.raises(InputError, match="sets of a union"):
        join_sets([small_set, other], "few+few")
