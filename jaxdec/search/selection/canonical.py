"""Equal answers as equal numbers.

Legend: N samples of a prompt, W tokens of an answer at most; leading axes `[...]` are prompts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.search.selection.arrays import check_shape, flags, whole


def equal_rows(rows: Any, lengths: Any) -> jax.Array:
    """Which padded rows are equal, token for token.

        equal[i, j]  iff  length_i = length_j  and  row_i[w] = row_j[w] for all w < length_i

    Args:
      rows: int `[..., N, W]`; what stands after `lengths` is not read.
      lengths: int `[..., N]`, tokens, at least 0.

    Returns:
      bool `[..., N, N]`.

    Raises:
      ValueError: for other types or shapes.
    """
    rows = whole("rows", rows, 2)
    lengths = whole("lengths", lengths, 1, 0)
    check_shape("lengths", lengths, rows.shape[:-1])
    behind = jnp.arange(rows.shape[-1]) >= lengths[..., None]
    rows = jnp.where(behind, -1, rows)
    same = (rows[..., :, None, :] == rows[..., None, :, :]).all(-1)
    return same & (lengths[..., :, None] == lengths[..., None, :])


def canonical_ids(equal: Any, valid: Any = None) -> jax.Array:
    """A number for each sample: that of the first sample that it equals.

        id_i = min { j valid : equal[i, j] },   -1 where i is not valid

    Where `equal` is not transitive (a judge's word), samples that equal the same first one are alike.

    Args:
      equal: bool `[..., N, N]`, reflexive; `equal_rows`, or what a checker of the domain says.
      valid: bool `[..., N]`, which samples have an answer; all of them if not given.

    Returns:
      int32 `[..., N]` in [-1, N).

    Raises:
      ValueError: for other types or shapes.
    """
    shape = jnp.shape(equal)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"equal must have shape [..., N, N], got {list(shape)}")
    equal = flags("equal", equal, shape)
    valid = flags("valid", valid, shape[:-1])
    found = jnp.argmax(equal & valid[..., None, :], -1)
    return jnp.where(valid, found, -1).astype(jnp.int32)


def answer_ids(rows: Any, lengths: Any, valid: Any = None) -> jax.Array:
    """`canonical_ids` of padded answers `[..., N, W]`: equal token for token, equal in number.

    Args:
      rows: int `[..., N, W]`.
      lengths: int `[..., N]`.
      valid: bool `[..., N]`; all if not given.

    Returns:
      int32 `[..., N]`, -1 for samples that are not valid.

    Raises:
      ValueError: for other types or shapes.
    """
    return canonical_ids(equal_rows(rows, lengths), valid)


def same_answers(ids: jax.Array) -> jax.Array:
    """Which samples have one answer, bool `[..., N, N]`, of numbers `[..., N]`; those below 0 are no answers."""
    return (ids[..., :, None] == ids[..., None, :]) & (ids >= 0)[..., None, :]


def firsts(ids: jax.Array) -> jax.Array:
    """Which samples are the first with their number, bool `[..., N]`; never those below 0."""
    count = ids.shape[-1]
    own = jnp.argmax(same_answers(ids), -1) == jnp.arange(count)
    return own & (ids >= 0)
