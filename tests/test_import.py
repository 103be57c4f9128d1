"""What importing the package costs, in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each is optional, slow to import, or both.
HEAVY = (
    "matplotlib",
    "nltk",
    "pandas",
    "sklearn",
    "tensorflow",
    "torch",
    "transformers",
)

MEASURE = """
import json, sys, time
start = time.perf_counter()
import mca_jax
seconds = time.perf_counter() - start
{more}
import jax
# Fails where something imported above has already started the devices.
jax.config.update("jax_num_cpu_devices", 3)
report = {{
    "seconds": seconds,
    "modules": sorted(sys.modules),
    "devices": jax.local_device_count("cpu"),
}}
print(json.dumps(report))
"""

EVERY_MODULE = """
import importlib, pkgutil
for module in pkgutil.walk_packages(mca_jax.__path__, "mca_jax."):
    # The estimator is a subclass of scikit-learn's.
    if module.name != "mca_jax.pipeline.estimator":
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("more", ["", EVERY_MODULE], ids=["root", "every_module"])
def test_import_is_light(more):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(more=more)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    # The machine may be busy: the time is shown with -rP, not judged.
    sys.stdout.write(f"import mca_jax: {report['seconds']:.2f} s\n")
    assert not set(HEAVY) & set(report["modules"])
    assert "mca_jax" in report["modules"]
    assert report["devices"] == 3
