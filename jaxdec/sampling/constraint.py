"""Which tokens an automaton allows, wherever a law stands: after a text, along a path of drafts, in a gap.

A row's state is kept with the row; the state before a law is that state, moved on by the drafts on the way to the law.

    allowed(v)  iff  next[state, v] can still be accepted by the end of the row

Legend: B rows, W tokens of a chunk, S states, V vocabulary, R places, K tokens to test, D tokens of a path at most.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling.limits import is_traced, shown
from jaxdec.sampling.text_before import TextBefore


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StateTable:
    """The automata of a batch in one table, which all rows share. State 0 is dead, state 1 allows whatever comes.

    Attributes:
      next: unsigned `[S, V]`, the state after each token.
      shortest: int32 `[S]`, tokens from each state to the nearest accepting one; more than any row has for state 0.
    """

    next: Any
    shortest: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constraint:
    """What each row of a batch may say, as the pipeline reads it; `generate` makes it of a `jaxdec.text.Automaton`.

    Attributes:
      table: the automata.
      start: int32 `[B]`, the state of each row before its first new token.
      budget: int32 `[B]`, new tokens that a row has at most: a token is allowed only if an accepting state can be
        reached within them, so that rows end in one whether they end by themselves or by their budget.
      ahead: unsigned `[B, R, S]`, where the text is known behind new tokens or has to have a given length: the state
        before the new token r + 1, from that after the new token r, 0 where what follows cannot be accepted. None
        where a row may end anywhere.
    """

    table: StateTable
    start: Any
    budget: Any
    ahead: Any = None

    def checked(self, batch: int, vocab_size: int) -> "Constraint":
        """Itself, if it is of the right shapes.

        Raises:
          ValueError: naming the shape and the one that is needed.
        """
        found = np.shape(self.table.next)
        if len(found) != 2 or found[1] != vocab_size:
            raise ValueError(
                f"constraint: got a table {list(found)}, must have {vocab_size} columns, a token each"
            )
        for name in ("start", "budget"):
            if np.shape(getattr(self, name)) != (batch,):
                raise ValueError(
                    f"constraint: got {name} {list(np.shape(getattr(self, name)))}, must be [{batch}]"
                )
        return self

    def follow(self, state: jax.Array, place: jax.Array, chunk: jax.Array) -> jax.Array:
        """The states through a chunk.

        Args:
          state: int32 `[B]`, before the chunk.
          place: int32 `[B]`, new tokens before the chunk.
          chunk: int32 `[B, W]`.

        Returns:
          int32 `[B, W + 1]`, before the chunk and after each of its tokens.
        """

        def read(carry, token):
            state, place = carry
            state = self._after(state, token, place)
            return (state, place + 1), state

        _, states = jax.lax.scan(read, (state, place), chunk.T)
        return jnp.concatenate([state[None], states]).T

    def accepts(
        self, text: TextBefore, state: jax.Array | None, tokens: jax.Array | None = None
    ) -> jax.Array:
        """Which tokens may come next.

        Where drafts left the automaton, stand beyond the budget or are not known, every token may: no draft below such
        a place is ever kept. Where the row itself has left it, by a token that was given to it, none may.

        Args:
          text: before each law.
          state: int32 `[B]`, of each row after its own tokens.
          tokens: int32 `[B, ..., K]`, those to test; all V if not given.

        Returns:
          bool `[B, ..., K]`.

        Raises:
          ValueError: if the state is not given.
        """
        if state is None:
            raise ValueError("a constraint is set: log_probs needs the state of each row, got none")
        here = self._here(text, state)
        wide = here[..., None]
        after = self.table.next[here] if tokens is None else self.table.next[wide, tokens]
        place = text.generated
        budget, own = self._of_row(self.budget, place), self._of_row(state, place)
        known = text.depth <= text.path.shape[-1]
        free = ~known | ((here == 0) & (own != 0)) | (place >= budget)
        if self.ahead is None:
            left = budget - place - 1
            allowed = self.table.shortest[after] <= left[..., None]
        else:
            row = self._of_row(jnp.arange(len(self.ahead)), place)[..., None]
            allowed = self.ahead[row, self._place(place)[..., None], after] > 0
        return allowed | free[..., None]

    def _here(self, text: TextBefore, state: jax.Array) -> jax.Array:
        """The state before each law, int32 `[B, ...]`."""
        here = jnp.broadcast_to(self._of_row(state, text.depth), text.depth.shape)
        first = text.generated - text.depth

        def move(place, here):
            token = jax.lax.dynamic_index_in_dim(text.path, place, axis=-1, keepdims=False)
            after = self._after(here, token, first + place)
            return jnp.where(place < text.depth, after, here)

        steps = text.path.shape[-1]
        return jax.lax.fori_loop(jnp.int32(0), jnp.int32(steps), move, here) if steps else here

    def _after(self, state: jax.Array, token: jax.Array, place: jax.Array) -> jax.Array:
        """The states after some tokens, `[B, ...]` all."""
        after = self.table.next[state, token]
        if self.ahead is not None:
            row = self._of_row(jnp.arange(len(self.ahead)), place)
            after = self.ahead[row, self._place(place), after]
        return after.astype(jnp.int32)

    def _place(self, place: jax.Array) -> jax.Array:
        return jnp.clip(place, 0, self.ahead.shape[1] - 1)

    def _of_row(self, values: jax.Array, like: jax.Array) -> jax.Array:
        """`[B]`, shaped to broadcast against `[B, ...]`."""
        return jnp.reshape(values, (-1, *(1,) * (like.ndim - 1)))


def checked_constraint(
    constraint: Any, batch: int, vocab_size: int, hypotheses: int = 1
) -> Constraint:
    """The knob `constraint` of `Warp`, if it is one for these prompts, as one for all their rows.

    Args:
      constraint: the knob.
      batch: prompts.
      vocab_size: V.
      hypotheses: rows of each prompt, which are adjacent.

    Raises:
      ValueError: naming what it is and what it must be.
    """
    if not isinstance(constraint, Constraint):
        got = type(constraint).__name__ if is_traced(constraint) else shown(constraint)
        raise ValueError(
            f"constraint: got {got}, must be a jaxdec.sampling.Constraint; `generate` takes a "
            "jaxdec.text.Automaton, or one a prompt"
        )
    checked = constraint.checked(batch, vocab_size)
    repeat = lambda x: (jnp if is_traced(x) else np).repeat(x, hypotheses, axis=0)
    ahead = None if checked.ahead is None else repeat(checked.ahead)
    return Constraint(checked.table, repeat(checked.start), repeat(checked.budget), ahead)
