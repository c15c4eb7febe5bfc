"""Which tokens of a byte-pair encoding may stand side by side, from the merges themselves: for large vocabularies.

Legend: B rows, V vocabulary, H entries of a hash table.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MOST_PROBES = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Merges:
    """How tokens are made of others.

    Attributes:
      left: int32 `[V]`, the first half of each token; itself for one that is not merged.
      right: int32 `[V]`, the second half.
      rank: int32 `[V]`, tokens that are not merged first, then by the order of the merges.
      keys: int32 `[H, 2]`, the halves of each merge, where their hash or a place after it says; -1 elsewhere.
      values: int32 `[H]`, the merged tokens.
      probes: places after a hash that hold its merges, at most; static.
    """

    left: Any
    right: Any
    rank: Any
    keys: Any
    values: Any
    probes: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, size: int, merges: Sequence[Sequence[int]]) -> "Merges":
        """Tables of merges `(first, second, merged)`, tokens all, in their order.

        Raises:
          ValueError: for a merge that is no three tokens, or whose result another one has.
        """
        table = np.asarray(merges)
        if table.ndim != 2 or table.shape[1] != 3 or not np.issubdtype(table.dtype, np.integer):
            raise ValueError(
                f"merges: got shape {table.shape}, must be (first, second, merged), tokens all"
            )
        if ((table < 0) | (table >= size)).any():
            raise ValueError(f"merges: got a token outside [0, {size}), the vocabulary")
        merged = table[:, 2]
        if len(np.unique(merged)) < len(merged):
            raise ValueError("merges: got two of one result, must be one merge a token")
        left, right = np.arange(size, dtype=np.int32), np.arange(size, dtype=np.int32)
        left[merged], right[merged] = table[:, 0], table[:, 1]
        single = np.setdiff1d(np.arange(size), merged)
        rank = np.zeros(size, np.int32)
        rank[np.concatenate([single, merged])] = np.arange(size)
        return cls(left, right, rank, *_hashed(table))

    def apart(self, tokens: jax.Array) -> jax.Array:
        """Whether `[u, v]` is the encoding of its bytes, for `tokens [B]` and all v: bool `[B, V]`.

        No merge goes across the border between u and v. Both are taken apart along it, the later merge first, which is
        how the tokens at the border were before it. A merge of these goes across if it comes before that one: or is
        the same merge and stands to the left of it.
        """
        left, right, rank = jnp.asarray(self.left), jnp.asarray(self.right), jnp.asarray(self.rank)
        size = left.shape[0]
        shape = (tokens.shape[0], size)
        first = jnp.broadcast_to(tokens[:, None], shape)
        second = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), shape)
        limit = jnp.full(shape, size, jnp.int32)

        def go_on(state):
            return state[3].any()

        def take_apart(state):
            first, second, limit, left_to_do, good = state
            across = self._merged(first, second)
            crossed = (across >= 0) & (rank[jnp.maximum(across, 0)] < limit)
            one, two = rank[first], rank[second]
            later = one > two  # the first one was made later
            halves = jnp.where(later, right[first], left[second])
            single = halves == jnp.where(later, first, second)
            good &= ~(left_to_do & crossed)
            left_to_do &= ~crossed & ~single
            limit = jnp.where(later, one, two + 1)
            first, second = jnp.where(later, halves, first), jnp.where(later, second, halves)
            return first, second, limit, left_to_do, good

        every = jnp.ones(shape, bool)
        return jax.lax.while_loop(go_on, take_apart, (first, second, limit, every, every))[4]

    def _merged(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """What two tokens merge to, int32; -1 where they do not."""
        keys, values = jnp.asarray(self.keys), jnp.asarray(self.values)
        place = _hash(first, second, jnp) & jnp.uint32(len(values) - 1)
        found = jnp.full(first.shape, -1, jnp.int32)
        for probe in range(self.probes):
            at = ((place + jnp.uint32(probe)) & jnp.uint32(len(values) - 1)).astype(jnp.int32)
            equal = (keys[at, 0] == first) & (keys[at, 1] == second)
            found = jnp.where(equal, values[at], found)
        return found


def _hash(first: Any, second: Any, xp: Any) -> Any:
    """uint32, of two tokens."""
    x = first.astype(xp.uint32) * xp.uint32(0x9E3779B1) ^ second.astype(xp.uint32)
    x = (x ^ (x >> xp.uint32(15))) * xp.uint32(0x85EBCA6B)
    return x ^ (x >> xp.uint32(13))


def _hashed(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Keys, values, and how many probes find all of them: the table grows until these are few."""
    hashes = _hash(table[:, 0], table[:, 1], np)
    size = 1 << max(4, int(4 * len(table) - 1).bit_length())
    while True:
        keys, values = np.full((size, 2), -1, np.int32), np.full(size, -1, np.int32)
        most = 0
        for (first, second, merged), at in zip(table.tolist(), hashes.tolist(), strict=True):
            probe = 0
            while values[(at + probe) & (size - 1)] >= 0:
                probe += 1
            place = (at + probe) & (size - 1)
            keys[place], values[place] = (first, second), merged
            most = max(most, probe + 1)
        if most <= MOST_PROBES:
            return keys, values, most
        size *= 2
