# %% [markdown]
# # Quickstart: from a folder of pictures to a report
#
# Groups unlabelled pictures, names the groups, and shows the report right here. Choose
# *Runtime, Run all*. A GPU or TPU is used if the runtime has one; a CPU does too.

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
import html
import os

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

import mca_jax

print("mca_jax", mca_jax.__version__, "on", jax.devices()[0])

# %% [markdown]
# ## Pictures
#
# Write your own folder into `FOLDER`. On Colab that may be a folder of Google Drive:
#
#     from google.colab import drive
#     drive.mount("/content/drive")
#     FOLDER = "/content/drive/MyDrive/photos"
#
# Left empty, it is crops of the two photographs that scikit-learn brings, so that the
# notebook runs anywhere. They show the way, and nothing more.

# %%
FOLDER = ""
NUM_CLUSTERS = 4
# Set to 1 by our own tests, to be quick.
SMALL = os.environ.get("MCA_NOTEBOOK_SMALL") == "1"


def write_crops(folder, count, seed):
    """Cut crops out of two photographs."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(seed)
    names = ("temple", "flower")
    for name, pixels in zip(names, load_sample_images().images, strict=True):
        target = Path(folder, name)
        target.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            top, left = random.integers(0, (pixels.shape[0] - 240, 400))
            crop = Image.fromarray(pixels[top : top + 240, left : left + 240])
            crop.save(target / f"{number:03d}.jpg")
    return str(folder)


folder = FOLDER or write_crops("photos", 20 if SMALL else 100, seed=0)

# %% [markdown]
# ## Cluster
#
# `cluster` takes no labels. Embeddings are kept in `cache_dir`: a second run with other
# settings starts at the training.

# %%
config = mca_jax.apply_overrides(
    mca_jax.Config(), ["train.epochs=3"] if SMALL else ["seed=0"]
)
result = mca_jax.cluster(
    folder, num_clusters=NUM_CLUSTERS, config=config, cache_dir="embeddings"
)
for group in result.clusters:
    print(f"{group.index:3d} {group.name:30s} {group.size:5d} images")
for warning in result.warnings:
    print("Warning:", warning)


# %%
def show_groups(result, columns=8):
    """Show the images nearest to the centre of each cluster."""
    rows = [group for group in result.clusters if group.size]
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(columns * 1.3, len(rows) * 1.5), squeeze=False
    )
    for group, line in zip(rows, axes, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, row in zip(line, group.exemplars, strict=False):
            axis.imshow(Image.open(Path(result.root, result.paths[row])))
        line[0].set_title(f"{group.name} ({group.size})", loc="left", fontsize=9)
    plt.show()


show_groups(result)

# %% [markdown]
# ## The report
#
# One page that works offline. It is also on disk, to download or mail.

# %%
Path("OUT").mkdir(exist_ok=True)
files = mca_jax.write_outputs(result, "OUT")


def show_report(path):
    """Show a report inside of the notebook."""
    page = html.escape(Path(path).read_text(encoding="utf-8"), quote=True)
    frame = f'<iframe srcdoc="{page}" width="100%" height="700"></iframe>'
    display({"text/html": frame}, raw=True)


show_report(files["report.html"])

# %% [markdown]
# ## New images
#
# An image that is far from all clusters is "none of these".

# %%
new = FOLDER or write_crops("new", 3, seed=1)
predictor = mca_jax.load("OUT")
placed = predictor.predict(new)
for path, name, confidence in list(
    zip(placed.paths, placed.names, placed.confidences, strict=True)
)[:6]:
    print(path, name, round(float(confidence), 2))
noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
print("noise:", predictor.predict(noise).names[0])

# %% [markdown]
# ## Better groups
#
# Merge two groups that are one, split one that is two, give a name. Each edit returns a
# new result, and no image is embedded again.

# %%
largest = max(result.clusters, key=lambda group: group.size)
edited = mca_jax.split_cluster(result, largest.id, seed=0, num_parts=2)
edited = mca_jax.merge_clusters(edited, edited.model.edits[-1]["into"], name="merged")
edited = mca_jax.rename_cluster(edited, edited.clusters[-1].id, "my name")
mca_jax.save_version(edited, "OUT-v2", overwrite=True)
show_groups(edited)

# %% [markdown]
# `docs/` has the rest: a tutorial on the command line, how to read the report, how to
# choose encoder and settings, your own vocabulary.
