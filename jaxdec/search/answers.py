"""Answers of decoded rows, found on the device: what stands after a marker, up to a delimiter.

Legend: B rows, L buffer width, K tokens of the marker, W tokens of an answer at most.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import integers
from jaxdec.sampling import is_traced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers of some rows, padded.

    Attributes:
      tokens: int32 `[B, W]`, -1 behind each answer.
      lengths: int32 `[B]`, 0 for rows without one.
      valid: bool `[B]`, which rows have one: not empty, and no longer than W.
    """

    tokens: jax.Array
    lengths: jax.Array
    valid: jax.Array


def extract_answers(
    tokens: Any,
    lengths: Any,
    prompt_lengths: Any,
    *,
    marker: Sequence[int] | np.ndarray,
    ends: Sequence[int] = (),
    most: int = 16,
    ignored: Sequence[int] = (),
    which: str = "last",
    closed: bool = False,
) -> Answers:
    """Finds the answer of each row, such as a number after "####" up to a line's end.

    The answer begins behind a marker that lies whole in the new tokens, and ends before the first token of `ends`, or
    where the row ends. Tokens that are `ignored`, such as spaces, are dropped from it, so that answers that differ in
    them alone are equal. `selection.answer_ids(*...)` of what is found numbers them for a vote.

    Args:
      tokens: int `[B, L]`, prompts and what followed; `Result.tokens`.
      lengths: int `[B]`, tokens of each row.
      prompt_lengths: int `[B]`.
      marker: K tokens; an empty one stands before the first new token.
      ends: tokens, any of which ends an answer; usually those that end a row, too.
      most: W, at least 1: a longer answer is not valid, as it cannot be told from others.
      ignored: tokens that do not count; they are dropped before W is applied.
      which: the "first" or the "last" marker of a row.
      closed: whether an answer must be followed by one of `ends`.

    Returns:
      The answers; rows without a marker or with an empty answer have none.

    Raises:
      ValueError: for other types or shapes, or a word that is neither "first" nor "last".
    """
    tokens = jnp.asarray(integers("tokens", tokens, [(None, None)]))
    batch, width = tokens.shape
    stop = jnp.asarray(integers("lengths", lengths, [(batch,)]))
    start = jnp.asarray(integers("prompt_lengths", prompt_lengths, [(batch,)]))
    if which not in ("first", "last"):
        raise ValueError(f'which must be "first" or "last", got {which!r}')
    if is_traced(most):
        raise ValueError("most must be an integer; it is traced")
    most = int(integers("most", most, [()], low=1))
    place = jnp.arange(width, dtype=jnp.int32)
    new = (place >= start[:, None]) & (place < stop[:, None])
    begin, found = _behind_marker(tokens, new, start, _tokens("marker", marker), which)
    ending = _among(tokens, _tokens("ends", ends)) & new & (place >= begin[:, None])
    end = jnp.where(ending.any(1), jnp.argmax(ending, 1), stop).astype(jnp.int32)
    inside = (place >= begin[:, None]) & (place < end[:, None])
    kept = inside & ~_among(tokens, _tokens("ignored", ignored))
    count = kept.sum(1).astype(jnp.int32)
    valid = found & (count > 0) & (count <= most) & (ending.any(1) | (not closed))
    order = jnp.argsort(~kept, axis=1, stable=True)[:, :most]
    text = jnp.take_along_axis(tokens, order, axis=1)
    text = jnp.pad(text, ((0, 0), (0, most - text.shape[1])))
    count = jnp.where(valid, count, 0)
    there = jnp.arange(most) < count[:, None]
    return Answers(jnp.where(there, text, -1), count, valid)


def _behind_marker(
    tokens: jax.Array, new: jax.Array, start: jax.Array, marker: jax.Array, which: str
) -> tuple[jax.Array, jax.Array]:
    """The place behind the marker, int32 `[B]`, and whether there is one, bool `[B]`."""
    width, size = tokens.shape[1], len(marker)
    if not size:
        return start, jnp.ones(start.shape, bool)
    if size > width:
        return start, jnp.zeros(start.shape, bool)
    behind = lambda array: jnp.stack([array[:, i : width - size + 1 + i] for i in range(size)], -1)
    hits = ((behind(tokens) == marker) & behind(new)).all(-1)  # [B, L - K + 1]
    at = (
        jnp.argmax(hits, 1)
        if which == "first"
        else hits.shape[1] - 1 - jnp.argmax(hits[:, ::-1], 1)
    )
    return (at + size).astype(jnp.int32), hits.any(1)


def _tokens(name: str, given: Any) -> jax.Array:
    given = given if len(given) else np.zeros(0, np.int32)
    return jnp.asarray(integers(name, given, [(None,)], low=0))


def _among(tokens: jax.Array, some: jax.Array) -> jax.Array:
    return (tokens[..., None] == some).any(-1)
