"""Counts of n-grams on the device: what has followed the last tokens of a text, found by binary search.

Legend: M contexts, C continuations kept of each, B texts, m tokens in question.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

_STEP = 0x9E3779B1
"""Odd, of spread bits: the multiplier of the hash."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Table:
    """n-grams of one order, sorted by the hash of their contexts.

    Attributes:
      keys: uint32 `[M]`, ascending, no two alike.
      contexts: int32 `[M, n - 1]`; what is found by its hash is compared with them.
      following: int32 `[M, C]`, the most frequent tokens after each context; -1 behind them.
      chances: float32 `[M, C]`, of all that followed the context.
      seed: uint32 `[]`, of the hash, such that no two contexts have one hash.
    """

    keys: jax.Array
    contexts: jax.Array
    following: jax.Array
    chances: jax.Array
    seed: jax.Array

    @property
    def order(self) -> int:
        """n."""
        return self.contexts.shape[1] + 1

    def chance(self, context: jax.Array, tokens: jax.Array) -> jax.Array:
        """How often some tokens followed a context, of all that did: float32 `[B, m]`, 0 for what was never seen.

        Args:
          context: int32 `[B, n - 1]`.
          tokens: int32 `[B, m]`.
        """
        key = _hash(context, self.seed)
        at = jnp.minimum(jnp.searchsorted(self.keys, key), len(self.keys) - 1)
        known = (self.contexts[at] == context).all(-1)[:, None]
        same = tokens[:, :, None] == self.following[at][:, None]
        found = jnp.where(same, self.chances[at][:, None], 0.0).sum(-1)
        return jnp.where(known, found, 0.0)


def ngram_store(
    texts: Iterable[Sequence[int]], orders: Sequence[int] = (2, 3, 4, 5, 6), keep: int = 16
) -> tuple[Table, ...]:
    """Counts the n-grams of some texts, on the host.

    Args:
      texts: sequences of tokens.
      orders: n, each at least 2.
      keep: C, continuations kept of each context; the most frequent, lower tokens first.

    Returns:
      A table an order: parameters of `superposed`, under its `ngrams`.

    Raises:
      ValueError: for an order below 2, a `keep` below 1, or texts without an n-gram of some order.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    held = [list(map(int, text)) for text in texts]
    return tuple(_table(held, order, keep) for order in orders)


def _table(texts: list[list[int]], order: int, keep: int) -> Table:
    if order < 2:
        raise ValueError(f"orders must be at least 2, got {order}")
    counts: dict[tuple[int, ...], collections.Counter[int]] = {}
    for text in texts:
        for end in range(order - 1, len(text)):
            context = tuple(text[end - order + 1 : end])
            counts.setdefault(context, collections.Counter())[text[end]] += 1
    if not counts:
        longest = max(map(len, texts), default=0)
        raise ValueError(f"orders holds {order}, and the longest text has {longest} tokens")
    contexts = np.array(list(counts), np.int32)
    for seed in range(1, 1 << 16):
        keys = _hash_there(contexts, seed)
        if len(np.unique(keys)) == len(keys):
            break
    else:
        raise ValueError(f"{len(contexts)} contexts of {order} tokens are too many for one table")
    following = np.full((len(contexts), keep), -1, np.int32)
    chances = np.zeros((len(contexts), keep), np.float32)
    for i, found in enumerate(counts.values()):
        best = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:keep]
        following[i, : len(best)] = [token for token, _ in best]
        chances[i, : len(best)] = [count / found.total() for _, count in best]
    by_key = np.argsort(keys)
    held = lambda x: jnp.asarray(x[by_key])
    seed_of_all = jnp.asarray(np.uint32(seed))
    return Table(held(keys), held(contexts), held(following), held(chances), seed_of_all)


def _hash(context: jax.Array, seed: jax.Array) -> jax.Array:
    """A hash uint32 `[B]` of contexts `[B, n - 1]`."""
    key = jnp.broadcast_to(seed, context.shape[:1])
    for i in range(context.shape[1]):
        key = _mix(key * jnp.uint32(_STEP) + context[:, i].astype(jnp.uint32))
    return key


def _mix(key: jax.Array) -> jax.Array:
    key = (key ^ (key >> 16)) * jnp.uint32(0x7FEB352D)
    return key ^ (key >> 15)


_jitted_hash = jax.jit(_hash)


def _hash_there(contexts: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(_jitted_hash(contexts, np.uint32(seed)))
