"""Places WordNet's nouns among the 1000 ImageNet classes, for the build script.

Each class is a noun synset itself, and its classifier row points to where its
images are. A noun is a mixture of classes: of those that mean something similar
(sentence embeddings) and of those that are near in WordNet's hierarchy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mca_jax.semantics.vocabulary.wordnet import Synset

__all__ = ["embed_texts", "hierarchy_scores", "index_lemmas", "embed_vocabulary"]

# Chosen on a plateau: zero-shot accuracy moves by a point over half to twice
# these values. Names alone confuse "crane" with "crane", definitions alone lose
# plain words, either without the hierarchy loses kinds such as "bird".
_TEMPERATURE = 0.15
_LIN_WEIGHT = 8.0
_BELOW_WEIGHT = 4.0
_KEEP = 16
_BATCH = 512
_BLOCK = 8192


def embed_texts(texts: Sequence[str], *, model: Path) -> np.ndarray:
    """Embed texts with a sentence encoder: the mean of its last states.

    Args:
      texts: What to embed.
      model: Folder with a BERT in the Hugging Face layout, as safetensors.

    Returns:
      Unit vectors, float32 ``[len(texts), d]``.
    """
    # Here, so that the module can be imported without the extra `assets`.
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    bert = AutoModel.from_pretrained(model, use_safetensors=True).eval()
    # By length: padding to the longest of a batch then costs little.
    order = np.argsort([len(text) for text in texts], kind="stable")
    out = np.zeros((len(texts), bert.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=128,
                return_tensors="pt",
            )
            mask = batch["attention_mask"][..., None].float()
            states = bert(**batch).last_hidden_state
            mean = (states * mask).sum(1) / mask.sum(1)
            out[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return out


def _ancestors(synsets: Sequence[Synset]) -> list[frozenset[int]]:
    """Return for each noun the rows of itself and of all above it."""
    row = {synset.offset: index for index, synset in enumerate(synsets)}
    known: dict[int, frozenset[int]] = {}

    def climb(index: int) -> frozenset[int]:
        if index not in known:
            above = [climb(row[parent]) for parent in synsets[index].hypernyms]
            known[index] = frozenset({index}).union(*above)
        return known[index]

    return [climb(index) for index in range(len(synsets))]


def hierarchy_scores(
    synsets: Sequence[Synset], class_rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Measure how near nouns and classes are in the hierarchy.

    .. math:: \mathrm{lin}(a, b) = \frac{2\,ic(a \wedge b)}{ic(a) + ic(b)}, \quad
      ic(a) = 1 - \frac{\log \#\mathrm{below}(a)}{\log \#\mathrm{nouns}}

    where :math:`a \wedge b` is the most informative noun above both.

    Args:
      synsets: The nouns.
      class_rows: Row of each class among the nouns.

    Returns:
      Lin's similarity, float32 ``[len(synsets), len(class_rows)]`` in [0, 1], 1
      for the noun that is the class; and whether the class is the noun or a
      kind of it, bool of the same shape.

    References:
      Lin, "An Information-Theoretic Definition of Similarity", ICML 1998, with
      the information content of Seco, Veale and Hayes, ECAI 2004.
    """
    above = _ancestors(synsets)
    below = np.zeros(len(synsets))
    for rows in above:
        below[list(rows)] += 1
    content = 1.0 - np.log(below) / np.log(len(synsets))
    shared = np.zeros((len(synsets), len(class_rows)), np.float32)
    is_kind = np.zeros(shared.shape, bool)
    for column, row in enumerate(class_rows):
        ancestors = list(above[row])
        is_kind[ancestors, column] = True
        shared[ancestors, column] = content[ancestors]
    row_of = {synset.offset: index for index, synset in enumerate(synsets)}
    # A noun has more ancestors than any of its ancestors: parents come first.
    for row in sorted(range(len(synsets)), key=lambda row: len(above[row])):
        for parent in synsets[row].hypernyms:
            np.maximum(shared[row], shared[row_of[parent]], out=shared[row])
    total = content[:, None] + content[list(class_rows)][None]
    return (2.0 * shared / total).astype(np.float32), is_kind


def embed_vocabulary(
    synsets: Sequence[Synset], classes: Sequence[int], *, model: Path
) -> tuple[np.ndarray, np.ndarray]:
    r"""Write every noun as a mixture of few classes.

    .. math:: p_c(n) = \mathrm{softmax}_c\Big(\frac{s(n, c)}{0.15} +
      8\,\mathrm{lin}(n, c) + 4\,[c \text{ is a kind of } n]\Big)

    with :math:`s` the mean of two cosines of sentence embeddings: of the nouns'
    first lemmas, and of their first lemmas with their definitions.

    Args:
      synsets: The nouns.
      classes: WordNet offset of each ImageNet class.
      model: Folder of the sentence encoder.

    Returns:
      The indices of the heaviest classes of each noun, uint16
      ``[len(synsets), 16]``, heaviest first, and their weights, float16 of the
      same shape.
    """
    row_of = {synset.offset: index for index, synset in enumerate(synsets)}
    class_rows = [row_of[offset] for offset in classes]
    names = [synset.lemmas[0] for synset in synsets]
    defined = [f"{synset.lemmas[0]}: {synset.gloss}" for synset in synsets]
    # Half the cosine of the joint vectors is the mean of both cosines.
    texts = np.hstack([embed_texts(t, model=model) for t in (names, defined)])
    near, is_kind = hierarchy_scores(synsets, class_rows)
    indices = np.zeros((len(synsets), _KEEP), np.uint16)
    weights = np.zeros((len(synsets), _KEEP), np.float16)
    for start in range(0, len(synsets), _BLOCK):
        block = slice(start, start + _BLOCK)
        logits = texts[block] @ texts[class_rows].T / (2.0 * _TEMPERATURE)
        logits += _LIN_WEIGHT * near[block] + _BELOW_WEIGHT * is_kind[block]
        best = np.argsort(-logits, axis=1, kind="stable")[:, :_KEEP]
        kept = np.take_along_axis(logits, best, axis=1)
        mixture = np.exp(kept - kept[:, :1])
        indices[block] = best
        weights[block] = mixture / mixture.sum(axis=1, keepdims=True)
    return indices, weights


def index_lemmas(
    synsets: Sequence[Synset], *, index_noun: str, noun_exc: str
) -> tuple[list[str], np.ndarray]:
    """List every lemma with the noun that it most probably means.

    That is WordNet's first sense, except that kinds go before individuals:
    "crane" is a machine before it is Stephen Crane.

    Args:
      synsets: The nouns.
      index_noun: WordNet's list of lemmas with their senses.
      noun_exc: WordNet's list of irregular plurals.

    Returns:
      Lemmas in lower case, with spaces, sorted, and for each its row, int32.
    """
    row_of = {synset.offset: index for index, synset in enumerate(synsets)}
    found: dict[str, int] = {}
    for line in index_noun.splitlines():
        if line.startswith("  ") or not line:
            continue
        fields = line.split()
        senses = [row_of[int(offset)] for offset in fields[-int(fields[2]) :]]
        senses.sort(key=lambda row: synsets[row].instance)
        found[fields[0].replace("_", " ").lower()] = senses[0]
    for line in noun_exc.splitlines():
        plural, *singulars = (word.replace("_", " ") for word in line.lower().split())
        for singular in singulars:
            if singular in found:
                found.setdefault(plural, found[singular])
    lemmas = sorted(found)
    return lemmas, np.array([found[lemma] for lemma in lemmas], np.int32)
