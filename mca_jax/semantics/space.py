"""Builds the semantic space: the few nouns of the table that fit the images."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mca_jax.core.errors import InputError, check_in_range
from mca_jax.core.parallel import ShardedRows, compute, fetch_rows
from mca_jax.semantics.audit import Filter, SpaceAudit
from mca_jax.semantics.hierarchy import ancestor_mask, depth_mask
from mca_jax.semantics.relevance import relevance
from mca_jax.semantics.uniqueness import uniqueness
from mca_jax.semantics.vocabulary.categories import concrete_mask, people_mask
from mca_jax.semantics.vocabulary.graph import longest_path
from mca_jax.semantics.vocabulary.nouns import USER_CATEGORY, NounTable, hypernym_edges
from mca_jax.semantics.vocabulary.photographed import photographed_mask

__all__ = ["SemanticSpace", "build_semantic_space", "nameable_nouns"]

_REMEDY = {
    Filter.UNRELATED: "set concrete_only to false",
    Filter.PEOPLE: "set allow_people to true",
    Filter.OFFENSIVE: "use other nouns",
    Filter.NOT_PHOTOGRAPHED: "set photographed_only to false",
    Filter.TOO_GENERAL: "lower min_depth",
    Filter.NOT_UNIQUE: "lower min_uniqueness",
    Filter.NOT_RELEVANT: "raise nouns_per_center",
    Filter.ANCESTOR: "set drop_ancestors to false",
}


class SemanticSpace(NamedTuple):
    """The nouns that are kept, and the audit of all.

    Attributes:
      rows: Rows of the kept nouns in the table, ascending, int32 ``[m]``.
      embeddings: Their unit vectors, float32 ``[m, d]``.
      audit: Why each noun of the table stayed or went.
    """

    rows: np.ndarray
    embeddings: jax.Array
    audit: SpaceAudit


def build_semantic_space(
    table: NounTable,
    noun_embeddings: Any,
    centers: Any,
    *,
    nouns_per_center: int = 500,
    min_uniqueness: float = 0.05,
    min_depth: int = 4,
    drop_ancestors: bool = True,
    concrete_only: bool = True,
    allow_people: bool = False,
    allow_offensive: bool = False,
    photographed_only: bool = True,
) -> SemanticSpace:
    r"""Keep the nouns that are concrete, decent, specific and near the images.

    The filters that look at a noun alone run before relevance, so that every
    centre gets ``nouns_per_center`` nouns that are of use. The ancestor filter
    runs last, since it asks what else is kept.

    Args:
      table: ``M`` nouns.
      noun_embeddings: Unit vectors of all the nouns, float ``[M, d]``. A float32
        device array is used as it is, without a copy; rows over devices are
        filtered there.
      centers: Unit vectors of the images' centres, float ``[k, d]``.
      nouns_per_center: Nearest nouns to keep of each centre, at least 1.
      min_uniqueness: Smallest ``1 - cosine`` with the mean noun, in [0, 2].
      min_depth: Fewest steps below WordNet's root "entity", at least 0. A
        user's own nouns are not held to it.
      drop_ancestors: Drop a noun that is above another kept noun.
      concrete_only: Keep only things that a photograph can show.
      allow_people: Let nouns for people pass, and those for apes and monkeys.
      allow_offensive: Let nouns pass that are on the block list.
      photographed_only: Keep only nouns that people have photographed; a user's own
        nouns are not held to it.

    Returns:
      The space, with at least one noun.

    Raises:
      InputError: Shapes don't agree, a setting is out of range, or no noun is
        left; the message names the filter and the setting to relax.

    Example:
      >>> from mca_jax.semantics.vocabulary.text_file import parse_vocabulary
      >>> table = parse_vocabulary("femur,bone\nliver")
      >>> nouns = np.eye(3, dtype=np.float32)
      >>> space = build_semantic_space(table, nouns, nouns[:1])
      >>> [table.names[row] for row in space.rows]
      ['femur', 'liver']
      >>> space.audit.counts()["ancestor"]
      1
    """
    nouns, centers = _as_rows(noun_embeddings), _as_rows(centers)
    _check_shapes(table, nouns, centers)
    check_in_range("nouns_per_center", nouns_per_center, low=1)
    check_in_range("min_uniqueness", min_uniqueness, low=0, high=2)
    check_in_range("min_depth", min_depth, low=0)
    children, parents = hypernym_edges(table)
    passes = _passes(
        table,
        concrete_only=concrete_only,
        allow_people=allow_people,
        allow_offensive=allow_offensive,
        photographed_only=photographed_only,
    )
    depth = _depth(table)
    steps = longest_path(children, parents, len(table.names)) if drop_ancestors else 0
    filters = partial(
        _filter_nouns, nouns_per_center=int(nouns_per_center), steps=steps
    )
    others = centers, passes, depth, children, parents, min_depth, min_uniqueness
    codes, center, cosine = compute(filters, nouns, *others)
    audit = SpaceAudit(np.asarray(codes), np.asarray(center), np.asarray(cosine))
    rows = np.flatnonzero(audit.codes == Filter.KEPT).astype(np.int32)
    if rows.size == 0:
        raise InputError(_nothing_left(audit.codes))
    kept = jnp.asarray(fetch_rows(nouns, rows), jnp.float32)
    return SemanticSpace(rows, kept, audit)


def _passes(
    table: NounTable,
    *,
    concrete_only: bool,
    allow_people: bool,
    allow_offensive: bool,
    photographed_only: bool,
) -> np.ndarray:
    """Mark the nouns that pass each of the filters by kind, in their order.

    Returns:
      bool ``[4, M]``.
    """
    people = people_mask(table)
    everything = np.ones(len(table.names), bool)
    return np.stack(
        [
            concrete_mask(table) | people if concrete_only else everything,
            everything if allow_people else ~people,
            everything if allow_offensive else ~table.offensive,
            photographed_mask(table) if photographed_only else everything,
        ]
    )


def _depth(table: NounTable) -> np.ndarray:
    """Depth of the nouns, boundless for a user's own."""
    bottom = np.iinfo(np.int16).max
    return np.where(table.category == USER_CATEGORY, bottom, table.depth)


def nameable_nouns(
    table: NounTable,
    *,
    min_depth: int = 4,
    concrete_only: bool = True,
    allow_people: bool = False,
    allow_offensive: bool = False,
    photographed_only: bool = True,
) -> np.ndarray:
    r"""Find the nouns that any picture may show, whatever the images of a set.

    Arguments are those of :func:`build_semantic_space`.

    Returns:
      Their rows, ascending, int32; all of a user's own vocabulary.

    Example:
      >>> from mca_jax.semantics.vocabulary.text_file import parse_vocabulary
      >>> nameable_nouns(parse_vocabulary("positron\nnice things")).tolist()
      [0, 1]
    """
    passes = _passes(
        table,
        concrete_only=concrete_only,
        allow_people=allow_people,
        allow_offensive=allow_offensive,
        photographed_only=photographed_only,
    )
    deep = _depth(table) >= min_depth
    return np.flatnonzero(passes.all(axis=0) & deep).astype(np.int32)


def _judge_nouns(
    nouns: jax.Array,
    centers: jax.Array,
    passes: jax.Array,
    depth: jax.Array,
    children: jax.Array,
    parents: jax.Array,
    min_depth: jax.Array,
    min_uniqueness: jax.Array,
    *,
    nouns_per_center: int,
    steps: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    masks = [
        passes[0],
        passes[1],
        passes[2],
        passes[3],
        depth_mask(depth, min_depth),
        uniqueness(nouns) >= min_uniqueness,
    ]
    codes = jnp.zeros(passes.shape[1], jnp.int8)
    for filter_, passed in zip(list(Filter)[1:], masks, strict=False):
        codes = jnp.where((codes == 0) & ~passed, jnp.int8(filter_), codes)
    near = relevance(nouns, centers, codes == 0, nouns_per_center=nouns_per_center)
    irrelevant = (codes == 0) & ~near.mask
    codes = jnp.where(irrelevant, jnp.int8(Filter.NOT_RELEVANT), codes)
    above = ancestor_mask(codes == 0, children, parents, longest_path=steps)
    codes = jnp.where((codes == 0) & above, jnp.int8(Filter.ANCESTOR), codes)
    return codes, near.center, near.cosine


_filter_nouns = jax.jit(_judge_nouns, static_argnames=("nouns_per_center", "steps"))


def _as_rows(values: Any) -> jax.Array | ShardedRows:
    if isinstance(values, (jax.Array, ShardedRows)):
        return values
    # jnp.asarray would copy twice, which matters at 420 MB.
    return jax.device_put(np.asarray(values, np.float32))


def _check_shapes(
    table: NounTable, nouns: jax.Array | ShardedRows, centers: jax.Array | ShardedRows
) -> None:
    if len(nouns.shape) != 2 or nouns.shape[0] != len(table.names):
        raise InputError(
            f"Expected noun embeddings of shape [{len(table.names)}, d], one row a "
            f"noun, found {list(nouns.shape)}"
        )
    if (
        len(centers.shape) != 2
        or centers.shape[0] < 1
        or centers.shape[1] != nouns.shape[1]
    ):
        raise InputError(
            f"Expected centres of shape [k, {nouns.shape[1]}], as wide as the nouns, "
            f"found {list(centers.shape)}"
        )


def _nothing_left(codes: np.ndarray) -> str:
    last = Filter(int(codes.max()))
    return (
        f"Expected at least one noun in the semantic space, found none: the filter "
        f"{last.name.lower()} took the last of {codes.size}; {_REMEDY[last]}"
    )
