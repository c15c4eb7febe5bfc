"""The cache of recurrent networks: the state after the committed tokens of each row, and nothing else.

A state-space or linear-attention layer sums up all tokens before a place in one state of fixed size. Its entries are
the states after each of the T new tokens, and a commit picks the one at the end of the accepted path: states of drafts
that were not accepted are dropped with the entries, so that nothing is rolled back here either.

Legend: B rows, T new tokens, A tokens of an accepted path.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RecurrentEntries:
    """The states after each new token.

    Attributes:
      states: a pytree a layer, of arrays `[B, T, ...]`.
    """

    states: tuple[Any, ...]

    def first(self, count: int) -> "RecurrentEntries":
        """Those after the first `count` of the T tokens; static."""
        return jax.tree.map(lambda x: x[:, :count], self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RecurrentCache:
    """The states after the committed tokens; see `jaxdec.cache.Cache`.

    A forward finds the state that a new token starts from by `visibility.parents` of its inputs: the entry after the
    parent, or the cache's for a token without one.

    Attributes:
      states: a pytree a layer, of arrays `[B, ...]`.
      length: int32 `[B]`, tokens that went into them.
      capacity: tokens that a row may hold; static. States do not grow, but buffers beside them do.
    """

    states: tuple[Any, ...]
    length: jax.Array
    capacity: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def create(cls, states: tuple[Any, ...], capacity: int) -> "RecurrentCache":
        """No tokens, and the states `[B, ...]` that a sequence starts from."""
        batch = jax.tree.leaves(states)[0].shape[0]
        return cls(states, jnp.zeros((batch,), jnp.int32), capacity)

    @property
    def layers(self) -> int:
        """Layers."""
        return len(self.states)

    def read(self, layer: int) -> Any:
        """The states `[B, ...]` of a layer."""
        return self.states[layer]

    def commit(
        self, entries: RecurrentEntries, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "RecurrentCache":
        """Takes the state after the last token of each accepted path.

        A row with no token, or without room for A, keeps what it has. Only the spans of committed tokens would change
        with `key_spans`, and there are none.

        Args:
          entries: of T new tokens.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A.
          key_spans: int32 `[B, A, 2]`; not read.
        """
        count = jnp.where(self.length + index.shape[1] <= self.capacity, count, 0)
        last = jnp.take_along_axis(index, jnp.maximum(count - 1, 0)[:, None], axis=1)

        def end(old: jax.Array, new: jax.Array) -> jax.Array:
            wide = lambda x: x.reshape(-1, *(1,) * (old.ndim - 1))
            picked = jnp.take_along_axis(new, wide(last)[:, None], axis=1)[:, 0]
            return jnp.where(wide(count > 0), picked.astype(old.dtype), old)

        states = jax.tree.map(end, self.states, entries.states)
        return dataclasses.replace(self, states=states, length=self.length + count)

    def commit_share(
        self, entries: RecurrentEntries, count: jax.Array, axis: str
    ) -> "RecurrentCache":
        """Takes the state after the first tokens of each row, of which each device has read a share.

        Args:
          entries: of this device's share: its T / n of T consecutive tokens, device after device.
          count: int32 `[B]`, tokens of each row, 0 to T.
          axis: name of the mesh axis, manual in the enclosing `jax.shard_map`; one sum over it an array.
        """
        width = jax.tree.leaves(entries.states)[0].shape[1]
        last = jnp.maximum(count - 1, 0)
        mine = last // width == jax.lax.axis_index(axis).astype(jnp.int32)

        def end(old: jax.Array, new: jax.Array) -> jax.Array:
            wide = lambda x: x.reshape(-1, *(1,) * (old.ndim - 1))
            picked = jnp.take_along_axis(new, wide(last % width)[:, None], axis=1)[:, 0]
            picked = jax.lax.psum(jnp.where(wide(mine), picked, jnp.zeros_like(picked)), axis)
            return jnp.where(wide(count > 0), picked.astype(old.dtype), old)

        states = jax.tree.map(end, self.states, entries.states)
        return dataclasses.replace(self, states=states, length=self.length + count)

    def write(self, entries: RecurrentEntries, slots: jax.Array, key_spans: jax.Array) -> NoReturn:
        """Raises `ValueError`: there are no slots."""
        raise _whole("written to slots")

    def hide(self, slots: jax.Array) -> NoReturn:
        """Raises `ValueError`: there are no slots."""
        raise _whole("read without some tokens")

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> NoReturn:
        """Raises `ValueError`: there are no spans."""
        raise _whole("given other spans")

    def rows(self, index: jax.Array) -> "RecurrentCache":
        """Row `index [N]` in place of each row."""
        return jax.tree.map(lambda x: x[index], self)

    def back_to(self, length: jax.Array) -> NoReturn:
        """Raises `ValueError`: what a token did to a state cannot be undone."""
        raise ValueError(
            "a recurrent state sums up all tokens of its row and cannot go back to fewer: it serves decoders that drop "
            "no token which they have committed"
        )


def _whole(action: str) -> ValueError:
    return ValueError(
        f"a recurrent state sums up all tokens of its row and cannot be {action}: it serves causal "
        "decoding, not canvases"
    )
