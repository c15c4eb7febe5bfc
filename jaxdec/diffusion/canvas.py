"""The canvas of a row, and how positions of it are read and written.

Legend: B rows, L positions of the canvas, W positions of a group.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.sampling import TopTokens

FAR = 2**30
"""A group, or a branch, that nothing reaches."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Canvas:
    """All positions of each row, by rank.

    Attributes:
      tokens: int32 `[B, L]`; what stands at positions that are not committed means nothing.
      committed: bool `[B, L]`.
      steps: int32 `[B, L]`, the step of the row that committed each position; -1 for the prompt and masks.
      log_probs: float32 `[B, L]`, of each token under the law that it was drawn from.
      raw_log_probs: float32 `[B, L]`, under the model's own law (with guidance, but without fusion).
      groups: int32 `[B, L]`, of the schedule.
      units: int32 `[B, L]`, of the schedule.
      end: int32 `[B]`, positions of the prompt and those that may be generated.
      top: the most probable tokens `[B, L, K]` of the model's own law that each token was drawn by; None where none are
        asked for.
    """

    tokens: jax.Array
    committed: jax.Array
    steps: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    groups: jax.Array
    units: jax.Array
    end: jax.Array
    top: TopTokens | None = None

    @classmethod
    def blank(cls, rows: Rows, groups: jax.Array, units: jax.Array, new: jax.Array) -> "Canvas":
        """The prompts, and `new [B]` masks behind each; `groups` and `units [B, L]` of the schedule."""
        shape = rows.tokens.shape
        nothing = jnp.zeros(shape, jnp.float32)
        return cls(
            tokens=rows.tokens,
            committed=jnp.broadcast_to(jnp.arange(shape[1]), shape) < rows.length[:, None],
            steps=jnp.full(shape, -1, jnp.int32),
            log_probs=nothing,
            raw_log_probs=nothing,
            groups=groups.astype(jnp.int32),
            units=units.astype(jnp.int32),
            end=rows.length + new,
            top=TopTokens.empty(shape, rows.top_log_probs),
        )

    @property
    def exists(self) -> jax.Array:
        """bool `[B, L]`."""
        return jnp.arange(self.tokens.shape[1]) < self.end[:, None]

    @property
    def masked(self) -> jax.Array:
        """bool `[B, L]`."""
        return self.exists & ~self.committed


class GroupState(NamedTuple):
    """The positions of the active group, `[B, W]` or `[B, W, K]` each; as in `Canvas`."""

    tokens: jax.Array
    committed: jax.Array
    steps: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    top: TopTokens | None = None


def at_token(law: jax.Array, tokens: jax.Array) -> jax.Array:
    """`law [B, W, V]` at `tokens [B, W]`."""
    return jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]


def take(values: jax.Array, at: jax.Array) -> jax.Array:
    """`values [B, L, ...]` at `at [B, W]`."""
    at = at.reshape(*at.shape, *(1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, at, axis=1, mode="clip")


def put(values: jax.Array, at: jax.Array, new: jax.Array, where: jax.Array) -> jax.Array:
    """`values [B, L, ...]` with `new [B, W, ...]` at `at [B, W]`, where asked for."""
    at = jnp.where(where, at, values.shape[1] + jnp.arange(at.shape[1]))
    put = lambda row, at, new: row.at[at].set(new, mode="drop", unique_indices=True)
    return jax.vmap(put)(values, at, new)


def compact(chosen: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first `size` chosen positions of each row: places and whether they exist `[B, size]`; all ranks `[B, L]`."""
    rank = jnp.cumsum(chosen, axis=1, dtype=jnp.int32) - 1
    at = jnp.where(chosen, rank, size)
    places = jnp.arange(chosen.shape[1], dtype=jnp.int32)
    put = lambda at: jnp.zeros(size, jnp.int32).at[at].set(places, mode="drop")
    return jax.vmap(put)(at), jnp.arange(size) < chosen.sum(1, keepdims=True), rank
