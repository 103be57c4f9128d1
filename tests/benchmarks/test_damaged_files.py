"""Faults on purpose, in a short form: some damaged files of every kind."""

import numpy as np
import pytest

from benchmarks.faults.files import try_files
from benchmarks.faults.mutations import mutate, mutate_json


@pytest.mark.parametrize(
    ("name", "tries"),
    [
        ("images of 33 kinds", 99),
        ("zip and tar archives", 36),
        ("safetensors, msgpack, index", 36),
        ("embedding cache (npy, npz)", 20),
        ("constraints, settings, nouns", 36),
    ],
)
def test_a_damaged_file_is_read_or_refused_in_a_line(name, tries, tmp_path, capfd):
    tried = list(try_files(name, tmp_path, tries, seed=1))
    assert [f"{where}: {each.wrong}" for where, each in tried if each.wrong] == []
    assert {each.outcome for _, each in tried} <= {"read", "refused"}
    assert sum(each.outcome == "refused" for _, each in tried) > tries // 4
    assert capfd.readouterr() == ("", "")
    assert {each.name for each in tmp_path.iterdir()} == {"whole", "box", "current"}


def test_every_try_is_another_and_the_same_again():
    content = bytes(range(250)) * 4

    def drawn(seed):
        return mutate(np.random.default_rng([0, seed]), content)

    changed = [drawn(seed) for seed in range(50)]
    assert changed == [drawn(seed) for seed in range(50)]
    assert len(set(changed)) > 45
    assert sum(each == content for each in changed) < 3


def test_a_value_of_json_is_changed():
    text = b'{"a": [1, {"b": "c"}], "d": null}'
    changed = {mutate_json(np.random.default_rng(seed), text) for seed in range(40)}
    assert len(changed) > 30
