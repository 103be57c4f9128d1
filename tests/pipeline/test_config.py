"""Settings: round trip, overrides, and errors that name the nearest setting."""

import pytest

from mca_jax.core.errors import InputError
from mca_jax.core.text import fingerprint
from mca_jax.pipeline.config import (
    Config,
    DataConfig,
    apply_overrides,
    config_from_dict,
    config_to_dict,
    list_overrides,
    settings_of_result,
)


def test_round_trip():
    config = apply_overrides(Config(), ["train.epochs=3", "losses.semantic=0.5"])
    assert config_from_dict(config_to_dict(config)) == config
    assert (config.train.epochs, config.losses.semantic) == (3, 0.5)


def test_values_in_place_of_texts():
    values = {"train.epochs": 3, "losses.semantic": 1, "encoder.glosses": True}
    texts = ["train.epochs=3", "losses.semantic=1", "encoder.glosses=True"]
    assert apply_overrides(Config(), values) == apply_overrides(Config(), texts)
    assert list_overrides(values) == texts
    with pytest.raises(InputError, match=r"train\.epochs as a whole number, found '3'"):
        apply_overrides(Config(), {"train.epochs": "3"})
    with pytest.raises(InputError, match=r"did you mean 'train\.epochs'"):
        apply_overrides(Config(), {"train.epoch": 3})


def test_later_overrides_win_and_words_are_read():
    settings = ["semantics.allow_people=true", "semantics.allow_people=no"]
    assert apply_overrides(Config(), settings[:1]).semantics.allow_people
    assert not apply_overrides(Config(), settings).semantics.allow_people


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "Unknown setting 'train.epoch'; did you mean 'train.epochs'"),
        ("train.epochs=many", "train.epochs as a whole number, found 'many'"),
        ("train.epochs", "as name=value, found 'train.epochs'"),
        ("train.epochs=0", "train.epochs at least 1, found 0"),
        ("losses.prototype_reading=sum", "Unknown losses.prototype_reading 'sum'"),
        ("encoder.whitening=0.9", "between 0 and 0.5, found 0.9"),
        ("num_clusters=1", "num_clusters at least 2, found 1"),
        ("semantics.drop_ancestors=7", "as true or false, found '7'"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(InputError) as caught:
        apply_overrides(Config(), [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_and_ill_typed_values_in_a_dict():
    with pytest.raises(InputError, match="Unknown setting 'train.speed'"):
        config_from_dict({"train": {"speed": 1}})
    with pytest.raises(InputError, match="train as a group of settings"):
        config_from_dict({"train": 1})
    with pytest.raises(InputError, match="seed as a whole number, found True"):
        config_from_dict({"seed": True})


def test_equal_settings_have_equal_fingerprints():
    one, two = config_to_dict(Config()), config_to_dict(Config())
    assert fingerprint(one) == fingerprint(two)
    two["seed"] = 1
    assert fingerprint(one) != fingerprint(two)


def test_newer_settings_at_their_defaults_tell_no_run_apart():
    plain = settings_of_result(config_to_dict(Config()))
    assert "max_megapixels" not in plain["data"]
    data = DataConfig(max_megapixels=300, partial_jpegs=True)
    other = settings_of_result(config_to_dict(Config(data=data)))
    assert other["data"]["max_megapixels"] == 300
    assert other["data"]["partial_jpegs"] is True
