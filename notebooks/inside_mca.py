# %% [markdown]
# # Inside MCA: each equation on a small example
#
# Made-up images and nouns, small enough to look at. Each section says what is computed,
# computes it with the package's function and again by hand, and plots it. The text
# behind it is `docs/method.md`; what is our own choice is marked there.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from mca_jax.core.numerics import l2_normalize

print("on", jax.devices()[0])

# %% [markdown]
# ## Images and nouns
#
# Three kinds of images around three nouns in eight dimensions. One more direction,
# shared by all images, stands for what says nothing of the kind: brightness, say. The
# fourth kind of noun belongs to no image.

# %%
WIDTH, KINDS, EACH = 8, 3, 60
names = ["cat", "dog", "boat", "fog"]
axes8 = jnp.eye(WIDTH)
kinds = np.repeat(np.arange(KINDS), EACH)
noise_key, bright_key = jax.random.split(jax.random.key(0))
noise = 0.22 * jax.random.normal(noise_key, (KINDS * EACH, WIDTH))
bright = jax.random.normal(bright_key, (KINDS * EACH, 1)) * axes8[7][None]
embeddings = l2_normalize(axes8[kinds] + noise + bright)
nouns = l2_normalize(axes8[:4] + 0.1 * axes8[6][None])


def scatter(vectors, title, axis, colour=None):
    """Show vectors along their two strongest directions."""
    centred = np.asarray(vectors) - np.asarray(vectors).mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ directions[:2].T
    axis.scatter(*flat.T, c=kinds if colour is None else colour, s=12, cmap="tab10")
    axis.set(title=title, xticks=[], yticks=[])


# %% [markdown]
# ## 1. Principal axes and whitening
#
# $$u \leftarrow \mathrm{normalise}\left(\Lambda^{-w} V^\top (u - \bar u)\right)$$
#
# With $w = 0$ brightness, the strongest direction, decides; with $w = 0.5$ all axes are
# equally strong.

# %%
from mca_jax.neighbors import apply_projection, fit_projection

plain = fit_projection(embeddings, components=4, whitening=0.0)
projection = fit_projection(embeddings, components=4, whitening=0.5)

mean = np.asarray(embeddings).mean(axis=0)
covariance = np.cov(np.asarray(embeddings).T, bias=True)
variances, directions = np.linalg.eigh(covariance)
scaled = directions[:, ::-1][:, :4] * variances[::-1][:4] ** -0.5
by_hand = (np.asarray(embeddings) - mean) @ scaled
by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
images = apply_projection(projection, embeddings)
# The sign of an axis is free; cosines don't depend on it.
np.testing.assert_allclose(images @ images.T, by_hand @ by_hand.T, atol=1e-3)

texts = apply_projection(projection, nouns, jnp.mean(nouns, axis=0))
figure, axes = plt.subplots(1, 3, figsize=(12, 3.5))
scatter(embeddings, "as embedded", axes[0])
scatter(apply_projection(plain, embeddings), "principal axes, w = 0", axes[1])
scatter(images, "whitened, w = 0.5", axes[2])
plt.show()

# %% [markdown]
# ## 2. Smoothing over neighbours
#
# $$u_i \leftarrow \mathrm{normalise}\Big(u_i + \sum_{j \in N_I(i)} u_j\Big)$$

# %%
from mca_jax.neighbors import image_neighbors
from mca_jax.neighbors.smoothing import smooth_embeddings

near = image_neighbors(images, num_neighbors=10)
smoothed, _ = smooth_embeddings(images, near.indices, num_steps=1)
by_hand = np.asarray(images) + np.asarray(images)[np.asarray(near.indices)].sum(axis=1)
by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
np.testing.assert_allclose(smoothed, by_hand, atol=1e-5)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.5))
for axis, steps in zip(axes, (0, 1, 4), strict=True):
    moved, _ = smooth_embeddings(images, near.indices, num_steps=steps)
    scatter(moved, f"{steps} steps", axis)
plt.show()
images, _ = smooth_embeddings(images, near.indices, num_steps=4)

# %% [markdown]
# ## 3. Spherical k-means
#
# The start of both heads. It maximises $\sum_i \max_c \langle u_i, \mu_c \rangle$ over
# unit centres.

# %%
from mca_jax.neighbors import spherical_kmeans

kmeans = spherical_kmeans(jax.random.key(0), images, num_clusters=KINDS)
cosines = np.asarray(images @ kmeans.centers.T)
np.testing.assert_array_equal(kmeans.assignments, cosines.argmax(axis=1))
print("mean cosine to the own centre:", cosines.max(axis=1).mean().round(3))

# %% [markdown]
# ## 4. The semantic space
#
# Uniqueness is $1 - \cos(t, \mathrm{mean}(T))$: a noun that is close to all others
# says nothing. Relevance keeps the nouns nearest to the centres of the images. A noun
# goes where one below it is kept: here "animal", above "cat" and "dog".

# %%
from mca_jax.semantics import build_semantic_space
from mca_jax.semantics.uniqueness import uniqueness
from mca_jax.semantics.vocabulary.text_file import parse_vocabulary

table = parse_vocabulary("cat,animal\ndog,animal\nboat\nfog")
print(table.names)
animal = l2_normalize(texts[0] + texts[1])
vocabulary = jnp.concatenate([texts, animal[None]])
centre = np.asarray(vocabulary).mean(axis=0)
by_hand = 1 - np.asarray(vocabulary) @ (centre / np.linalg.norm(centre))
np.testing.assert_allclose(uniqueness(vocabulary), by_hand, atol=1e-4)

space = build_semantic_space(
    table, vocabulary, kmeans.centers, nouns_per_center=2, min_uniqueness=0.0
)
for entry in space.audit.entries(table):
    print(f"{entry.name:8s} {entry.filter:14s} cosine {entry.cosine:5.2f}")
kept = [table.names[row] for row in space.rows]

# %% [markdown]
# ## 5. Attention, and the noun that says "none of these"
#
# $$a_i = \mathrm{softmax}_j\left(\frac{\langle u_i, t_j\rangle}{\tau_a} + \frac{\langle
# W_q u_i, W_k t_j\rangle}{\sqrt{d_a}}\right)$$
#
# with one null noun of a fixed score. $W_k$ starts at zero, so step 0 is plain
# retrieval. What is not given to the null noun is the trust in an image's nouns.

# %%
from mca_jax.alignment import build_heads
from mca_jax.neighbors import noun_neighbors

TEMPERATURE, NULL = 0.2, 0.5
heads = build_heads(
    num_clusters=KINDS, attention_temperature=TEMPERATURE, null_similarity=NULL
)
params = heads.init(jax.random.key(1), kmeans.centers)
words = noun_neighbors(images, space.embeddings, num_neighbors=len(kept))
attended = heads.attend(
    params, images, space.embeddings[words.indices], words.similarities
)
powers = np.exp(np.asarray(words.similarities) / TEMPERATURE)
null = np.exp(NULL / TEMPERATURE)
by_hand = powers / powers.sum(axis=1, keepdims=True)
np.testing.assert_allclose(attended.weights, by_hand, atol=1e-5)
by_hand = powers.sum(axis=1) / (powers.sum(axis=1) + null)
np.testing.assert_allclose(attended.trust, by_hand, atol=1e-5)

figure, axis = plt.subplots(figsize=(8, 3))
shown = [0, EACH, 2 * EACH]
for offset, row in enumerate(shown):
    shares = np.zeros(len(kept) + 1)
    trust = float(attended.trust[row])
    shares[np.asarray(words.indices[row])] = trust * np.asarray(attended.weights[row])
    shares[-1] = 1 - trust
    axis.bar(
        np.arange(len(kept) + 1) + 0.25 * offset,
        shares,
        width=0.25,
        label=f"a {names[kinds[row]]}",
    )
axis.set_xticks(np.arange(len(kept) + 1) + 0.25, [*kept, "null noun"])
axis.set(title="attention of three images")
axis.legend()
plt.show()

# %% [markdown]
# ## 6. The losses
#
# One batch: all images, each with one drawn neighbour.

# %%
from mca_jax.alignment.losses import (
    LossWeights,
    assignment_prototype_loss,
    build_objective,
    consistency_loss,
    entropy_balance_loss,
    init_prototypes,
    instance_loss,
    pseudo_labels,
    semantic_loss,
    semantic_prototypes,
    uniform_prior,
)
from mca_jax.training import TrainingData, gather_batch

data = TrainingData(
    images, space.embeddings, near.indices, words.indices, words.similarities
)
batch = gather_batch(jax.random.key(2), data, jnp.arange(len(kinds)))
logits = heads.image_logits(params, batch.images)
p = jax.nn.softmax(logits)
p_near = jax.nn.softmax(heads.image_logits(params, batch.neighbors))
q = jax.nn.softmax(heads.text_logits(params, batch.nouns))


def read_text(images, rows, similarities):
    """Attention-weighted assignment and mean noun of each image, and the trust."""
    seen = heads.attend(params, images, batch.nouns[rows], similarities)
    assignments = jnp.einsum("br,brk->bk", seen.weights, q[rows])
    views = l2_normalize(jnp.einsum("br,brd->bd", seen.weights, batch.nouns[rows]))
    return assignments, views, seen.trust


q_own, views, trust = read_text(batch.images, batch.rows, batch.similarities)
q_near, _, _ = read_text(
    batch.neighbors, batch.neighbor_rows, batch.neighbor_similarities
)

# %% [markdown]
# **Image consistency** $L_{con} = -\frac1b\sum_i \log\langle p_i, p_{i'}\rangle$ and
# the **instance level** $L_{inst} = -\frac1b\sum_i v_i\log\langle p_i, \hat
# q_i\rangle$.

# %%
consistency = consistency_loss(p, p_near)
by_hand = -np.log((np.asarray(p) * np.asarray(p_near)).sum(axis=1)).mean()
np.testing.assert_allclose(consistency, by_hand, rtol=1e-4)

instance = instance_loss(p, q_own, trust)
agreement = (np.asarray(p) * np.asarray(q_own)).sum(axis=1)
by_hand = -(np.asarray(trust) * np.log(agreement)).mean()
np.testing.assert_allclose(instance, by_hand, rtol=1e-4)

# %% [markdown]
# **Prototype level**: column $c$ of the images' assignments belongs to column $c$ of
# the texts' and to no other. The matrix of their cosines should be strong on its
# diagonal.

# %%
prototype = assignment_prototype_loss(p, q_own, p_near, q_near, temperature=0.5)


def unit_columns(matrix):
    """Scale the columns to unit length, and stand them up as rows."""
    return (np.asarray(matrix) / np.linalg.norm(matrix, axis=0)).T


def contrast(first, second):
    """InfoNCE over rows and columns."""
    scores = np.exp(first @ second.T / 0.5)
    rows = np.log(np.diag(scores) / scores.sum(axis=1))
    columns = np.log(np.diag(scores) / scores.sum(axis=0))
    return -0.5 * (rows.mean() + columns.mean())


image_columns, text_columns = unit_columns(p), unit_columns(q_near)
by_hand = 0.5 * (
    contrast(image_columns, text_columns)
    + contrast(unit_columns(q_own), unit_columns(p_near))
)
np.testing.assert_allclose(prototype, by_hand, rtol=1e-4)

figure, axis = plt.subplots(figsize=(3.5, 3))
picture = axis.imshow(image_columns @ text_columns.T, vmin=0, vmax=1)
axis.set(title="columns: images, texts", xlabel="text cluster", ylabel="image cluster")
figure.colorbar(picture)
plt.show()

# %% [markdown]
# **Semantic level**: prototypes $h_c$ from the texts of confident images, pseudo-labels
# $y_i = \arg\max_c\langle u_i + \hat s_i, h_c\rangle$ where they are sure enough, and
# cross-entropy. No gradient passes through $y$ or $h$.

# %%
prototypes = l2_normalize(semantic_prototypes(q_own, views, confident_share=0.9))
labels, used = pseudo_labels(batch.images, views, prototypes, min_confidence=0.5)
semantic = semantic_loss(logits, labels, used * trust)
scores = (np.asarray(batch.images) + np.asarray(views)) @ np.asarray(prototypes).T
np.testing.assert_array_equal(labels, scores.argmax(axis=1))
log_p = np.log(np.asarray(p))[np.arange(len(kinds)), np.asarray(labels)]
by_hand = -(np.asarray(used * trust) * log_p).mean()
np.testing.assert_allclose(semantic, by_hand, rtol=1e-3, atol=1e-6)
print("share of images with a used pseudo-label:", float(used.mean()))

# %% [markdown]
# **Entropy balance** $L_{ent} = \mathrm{KL}(\bar p\,\Vert\,\pi)$ for images and for
# texts, and the sum of all parts, as a step computes it.

# %%
prior = uniform_prior(KINDS)
balance = entropy_balance_loss(p, prior) + entropy_balance_loss(q_own, prior)
by_hand = sum(
    (share * (np.log(share) - np.log(1 / KINDS))).sum()
    for share in (np.asarray(p).mean(axis=0), np.asarray(q_own).mean(axis=0))
)
np.testing.assert_allclose(balance, by_hand, rtol=1e-3, atol=1e-6)

objective = build_objective(heads)
weights = LossWeights()
total, (parts, _) = objective(
    params, init_prototypes(kmeans.centers), batch, weights, prior
)
by_hand = (
    parts.consistency
    + weights.instance * parts.instance
    + weights.prototype * parts.prototype
    + weights.semantic * parts.semantic
    + weights.balance * parts.balance
)
np.testing.assert_allclose(total, by_hand, rtol=1e-5)
np.testing.assert_allclose(parts.consistency, consistency, rtol=1e-5)
np.testing.assert_allclose(parts.prototype, prototype, rtol=1e-5)
for name, value in parts._asdict().items():
    print(f"{name:12s} {float(value):8.4f}")

# %% [markdown]
# ## 7. Training, and when it is over
#
# Adam with a cosine decay. The run ends when the loss is on a plateau *and* hardly an
# image changes its cluster.

# %%
from mca_jax.evaluation import score_clustering
from mca_jax.training import build_optimizer, build_trainer, fit, fit_rate_exponent

PASSES, BATCH = 20, 30
optimizer = build_optimizer(
    learning_rate=1e-2, total_steps=PASSES * (len(kinds) // BATCH)
)
trainer = build_trainer(heads, objective, optimizer, batch_size=BATCH)
done = fit(
    jax.random.key(3),
    trainer,
    data,
    kmeans.centers,
    weights=weights,
    prior=prior,
    num_epochs=PASSES,
)
print(done.status, score_clustering(kinds, done.assignments))

figure, axes = plt.subplots(1, 3, figsize=(12, 3))
passes = [row["epoch"] for row in done.history]
for name in ("loss", "consistency", "instance", "prototype", "semantic"):
    axes[0].plot(passes, [row[name] for row in done.history], label=name)
axes[0].set(title="loss and its parts", xlabel="pass")
axes[0].legend(fontsize=7)
axes[1].plot(passes, [row["changed"] for row in done.history])
axes[1].set(title="share that changed cluster", xlabel="pass")
axes[2].loglog(passes, [row["mean_squared_grad"] for row in done.history])
axes[2].set(title="mean squared gradient", xlabel="pass")
plt.show()

# %% [markdown]
# The paper claims a sublinear rate: the mean squared gradient over the first $T$
# steps falls about as $T^{-1/2}$ or faster. The fitted exponent, and the same fit on
# a series whose answer is known:

# %%
print("this run:", round(done.rate_exponent, 2))
steps = np.arange(1, 2001)
known = np.diff(np.concatenate([[0], steps**0.5]))  # whose mean is T ** -0.5
np.testing.assert_allclose(fit_rate_exponent(known), -0.5, atol=1e-6)

# %% [markdown]
# ## 8. What the risk depends on
#
# Consistency of neighbours, confidence, and imbalance of neighbourhoods. No bound is
# computed, since its constants are not known; see `docs/risk.md`.

# %%
from mca_jax.evaluation import measure_risk

probabilities = jax.nn.softmax(heads.image_logits(done.params, images))
risk = measure_risk(probabilities, near.indices)
around = np.asarray(probabilities)[np.asarray(near.indices)].mean(axis=1)
by_hand = (np.asarray(probabilities) * around).sum(axis=1).mean()
np.testing.assert_allclose(risk.consistency, by_hand, rtol=1e-4)
degree = np.bincount(np.asarray(near.indices).ravel(), minlength=len(kinds))
np.testing.assert_allclose(risk.imbalance, degree.std() / degree.mean(), rtol=1e-4)
for name, value in risk._asdict().items():
    print(f"{name:16s} {float(value):.3f}")

# %% [markdown]
# ## 9. Names
#
# Attention summed over the images of a cluster, less for nouns that other clusters
# use too; the headline is what covers much of that evidence and still says something.

# %%
from mca_jax.alignment.forward import noun_evidence, forward_pass
from mca_jax.semantics.naming import name_clusters

predictions = forward_pass(
    heads,
    done.params,
    images=images,
    nouns=space.embeddings,
    noun_neighbors=words.indices,
    noun_similarities=words.similarities,
)
evidence = noun_evidence(predictions, np.asarray(words.indices), done.assignments)
found = name_clusters(evidence, predictions.noun_assignments, table, space.rows)
for index, name in enumerate(found):
    shares = ", ".join(f"{table.names[row]} {share:.2f}" for row, share in name.nouns)
    print(f"cluster {index}: {name.name} (from {shares})")
