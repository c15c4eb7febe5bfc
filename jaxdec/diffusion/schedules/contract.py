"""Schedules: in which order the positions of a canvas are decoded, what an unknown one is fed, and who sees whom.

All positions of a group are decoded together, in as many steps as the policy takes; the next group begins when the last
position of a group is committed. Groups may be of any size: one group is the whole canvas, groups of one are
autoregressive decoding, one group a scale is next-scale decoding. Groups lie in *units* (blocks), which attention and
caches go by.

A schedule also holds what depends on the place of a position alone: the input rule (what it is fed), the span rule
(which units see which) and the codebook (which tokens may stand there).

Legend: B rows, L positions of a canvas, W positions of a group, V vocabulary, D width.
"""

import abc

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part
from jaxdec.diffusion.schedules.spans import Full, SpanRule
from jaxdec.model import Params


class Schedule(Part, abc.ABC):
    """An ordered partition of a canvas. Subclasses are frozen dataclasses; all methods are pure.

    Attributes:
      spans: which units see which, unless `denoise` is told otherwise.
    """

    spans: SpanRule = Full()

    @property
    def overlap(self) -> int:
        """Positions of the prompt that groups may hold, at most."""
        return 0

    @property
    def in_order(self) -> bool:
        """Whether no position is of a later unit than the one to its right; not for granted."""
        return False

    def edges(self, room: int) -> int:
        """Positions right before one of a group, but outside of it, at most: 1 for groups without gaps."""
        return self.largest(room)[0]

    @abc.abstractmethod
    def assign(self, params: Params, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """The group and the unit of every position.

        Args:
          params: the schedule's own; None without weights. So it is for every hook.
          prompt: int32 `[B]`, positions of the prompt.
          length: L.

        Returns:
          int32 `[B, L]` each, from 0 on; -1 for positions of the prompt that lie in no group.
        """

    @abc.abstractmethod
    def largest(self, room: int) -> tuple[int, int]:
        """The most positions that a group, and a unit, of a canvas with `room` generated ones has; W is the first."""

    def inputs(
        self,
        params: Params,
        tokens: jax.Array,
        known: jax.Array,
        places: jax.Array,
        groups: jax.Array,
        mask: int,
    ) -> jax.Array:
        """What each position is fed: its token where that is known, else the model's mask.

            x_i = token_i  if known,  else mask

        A next-scale schedule feeds a position what the scale before it holds there, known or not. For an exact cache of
        finished units, what these are fed must not change any more.

        Args:
          params: the schedule's own.
          tokens: int32 `[N, L]`; where they are not known they mean nothing. N counts rows, branches and, with
            guidance, both prompts.
          known: bool `[N, L]`, the prompt, what is committed and what a branch guesses.
          places: int32 `[N, L]`, counted from the end of the prompt.
          groups: int32 `[N, L]`, as `assign` gave them.
          mask: the model's mask token.

        Returns:
          int32 `[N, L]`, or embeddings `[N, L, D]` for a model that takes them.
        """
        return jnp.where(known, tokens, mask)

    def allowed(
        self, params: Params, places: jax.Array, groups: jax.Array, size: int
    ) -> jax.Array | None:
        """Which tokens may stand at each position of the active group: its codebook.

        Logits of all others are minus infinity, in the model's own law too.

        Args:
          params: the schedule's own.
          places: int32 `[B, W]`, counted from the end of the prompt.
          groups: int32 `[B, W]`, all that of the active group.
          size: V.

        Returns:
          bool `[B, W, V]`; None for all tokens everywhere.
        """
        return None
