# %% [markdown]
# # Reproduce: a data set of the paper with CLIP
#
# Runs `mca-jax cluster` with the settings of `experiments/configs`, over several
# seeds, and shows scores and curves. CLIP on 50,000 images wants a GPU or TPU: choose
# one under *Runtime, Change runtime type*. What was measured so far, and what not, is
# in `benchmarks/RESULTS.md`.

# %%
# Installs mca_jax where it is missing, as on Colab, and jax for the GPU or TPU there.
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # address of the repository, such as https://host/name/mca_jax.git

if importlib.util.find_spec("mca_jax") is None:
    clone = Path.cwd().parent
    if (clone / "mca_jax").is_dir():
        package = f"mca-jax[notebooks] @ {clone.as_uri()}"
    elif REPOSITORY:
        package = f"mca-jax[notebooks] @ git+{REPOSITORY}"
    else:
        raise RuntimeError("Write the address of the repository into REPOSITORY")
    accelerator = "cuda12" if shutil.which("nvidia-smi") else ""
    accelerator = accelerator or ("tpu" if Path("/dev/accel0").exists() else "cpu")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, package, f"jax[{accelerator}]"], check=True)

# %%
import json
import os

import matplotlib.pyplot as plt
import numpy as np

# %% [markdown]
# ## What to run
#
# `DATASET` is one with a file in `experiments/configs`, with published numbers:
# `stl10`, `cifar10`, `cifar20`, `tiny_imagenet`, or with ImageNet on disk
# `imagenet10`, `imagenet_dogs`, `imagenet`. The archive is downloaded once; `DATA_DIR`
# names a folder that has it already.
#
# `SMALL` is for a trial without a network: twenty made-up pictures in the format of
# CIFAR-10 and the embedded encoder in place of CLIP. Its scores say nothing. Our own
# tests set it by the variable `MCA_NOTEBOOK_SMALL=1`.

# %%
DATASET = "cifar10"
DATA_DIR = ""
SEEDS = range(5)
SMALL = os.environ.get("MCA_NOTEBOOK_SMALL") == "1"


# %%
def write_tiny_cifar(folder):
    """Write pictures in the binary format of CIFAR-10: a label, then three planes."""
    target = Path(folder, "cifar-10-batches-bin")
    target.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for name in (*names, "test_batch.bin"):
        records = []
        for label in range(10):
            colour = np.array([25 * label, 255 - 25 * label, 128])
            pixels = colour[:, None, None] + random.normal(0, 25, (3, 32, 32))
            records.append(bytes([label]) + pixels.clip(0, 255).astype("u1").tobytes())
        (target / name).write_bytes(b"".join(records))
    return str(folder)


if SMALL:
    DATASET, SEEDS, DATA_DIR = "cifar10", range(1), write_tiny_cifar("tiny")

SETTINGS = [f"--dataset={DATASET}", "--encoder=openai/clip-vit-base-patch32"]
if DATASET in ("imagenet", "tiny_imagenet"):
    # A step should see each cluster several times.
    SETTINGS.append(f"--set=train.batch_size={8192 if DATASET == 'imagenet' else 2048}")
if SMALL:
    SETTINGS += ["--encoder=lite", "--num_clusters=4", "--set=train.epochs=2"]
    SETTINGS += ["--set=data.limit=20", "--set=data.any_size=true"]

# %% [markdown]
# ## Run
#
# One run a seed. All of them read the embeddings that the first one wrote.


# %%
def run(seed):
    """Cluster one split, score the other; return the folder of the run."""
    workdir = Path(f"{DATASET}-{seed}")
    first = Path(f"{DATASET}-{SEEDS[0]}", "embeddings")
    if seed != SEEDS[0] and first.is_dir() and not (workdir / "embeddings").exists():
        shutil.copytree(first, workdir / "embeddings")
    program = [sys.executable, "-m", "mca_jax.pipeline.command_line.main"]
    command = [*program, "cluster", *SETTINGS]
    command += [f"--seed={seed}", f"--workdir={workdir}", "--overwrite"]
    if DATA_DIR:
        command.append(f"--data_dir={DATA_DIR}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    print(done.stdout.strip())
    return workdir


runs = [run(seed) for seed in SEEDS]
metrics = [json.loads((path / "metrics.json").read_text()) for path in runs]
print(metrics[0]["data"])

# %% [markdown]
# ## Scores
#
# In percent, mean over the seeds and standard deviation. Beside the run: simpler
# methods on the same embeddings. Labels were read for this table only.

# %%
print(f"{'method':20s} {'ACC':>12s} {'NMI':>12s} {'ARI':>12s}")
for method in metrics[0]["scores"]:
    cells = []
    for name in ("acc", "nmi", "ari"):
        values = np.array([100 * each["scores"][method][name] for each in metrics])
        cells.append(f"{values.mean():5.1f} ({values.std():3.1f})")
    print(f"{method:20s} " + " ".join(f"{cell:>12s}" for cell in cells))

# %%
labels = [each["label_free"] for each in metrics]
for name in sorted(labels[0]):
    values = [each[name] for each in labels if each.get(name) is not None]
    if values:
        print(f"{name:20s} {np.mean(values):8.3f}")

# %% [markdown]
# ## Curves

# %%
import mca_jax

names = ("loss", "changed", "mean_squared_grad")
figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3))
for path in runs:
    history = mca_jax.load_result(path).history
    for axis, name in zip(axes, names, strict=True):
        epochs = [row["epoch"] for row in history]
        axis.plot(epochs, [row[name] for row in history], label=path.name)
        axis.set(title=name.replace("_", " "), xlabel="epoch")
axes[0].legend()
plt.show()

# %% [markdown]
# Each run has a report: `DATASET-SEED/report.html`.
