"""What the device decides; only CPUs are at hand, so accelerators are pretended."""

import jax
import pytest

from mca_jax.encoders.device import choose_batch_size, choose_dtype
from mca_jax.pipeline.config import Config, config_to_dict, settings_of_result


def test_a_cpu_keeps_float32_and_small_batches():
    assert choose_dtype("auto", "openai/clip-vit-base-patch32") == "float32"
    assert choose_batch_size(0) == 32


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)


def test_an_accelerator_takes_bfloat16_and_large_batches(accelerator):
    assert choose_dtype("auto", "openai/clip-vit-base-patch32", "") == "bfloat16"
    assert choose_batch_size(0) == 1024
    # Embedded encoders know float32 alone, and what goes with them.
    assert choose_dtype("auto", "lite") == "float32"
    assert choose_dtype("auto", "openai/clip-vit-base-patch32", "lite2") == "float32"


def test_what_is_set_stays(accelerator):
    assert choose_dtype("float32", "openai/clip-vit-base-patch32") == "float32"
    assert choose_batch_size(32) == 32


def test_a_run_records_what_was_chosen(accelerator):
    values = config_to_dict(Config())
    assert values["encoder"]["dtype"] == "auto"
    assert settings_of_result(values)["encoder"]["dtype"] == "float32"
    values["encoder"]["name"] = "openai/clip-vit-base-patch32"
    assert settings_of_result(values)["encoder"]["dtype"] == "bfloat16"
