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
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part, Scored
from jaxdec.diffusion.schedules.spans import Full, SpanRule
from jaxdec.model import Params


class Schedule(Part, abc.ABC):
    """An ordered partition of a canvas. Subclasses are frozen dataclasses; all methods are pure.

    Attributes:
      spans: which units see which, unless `denoise` is told otherwise.
    """

    spans: SpanRule = Full()
    cuts: ClassVar[bool] = False
    """Whether groups end where the model says (`cut`)."""

    @property
    def keeps_units(self) -> bool:
        """Whether no group reaches over the end of a unit, wherever groups are cut."""
        return True

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

    def cut(
        self,
        params: Params,
        scored: Scored,
        there: jax.Array,
        masked: jax.Array,
        knobs: Mapping[str, jax.Array],
    ) -> jax.Array:
        """How many positions of the active group stay in it, int32 `[B]`; asked in the first step of each group.

        Its other positions, and all behind it, begin anew: as `recut` says. At least one that is masked must stay.

        Args:
          params: the schedule's own.
          scored: the forward over the group as it is, `[B, W, ...]`.
          there: bool `[B, W]`, whether there is such a position.
          masked: bool `[B, W]`, those that are to be filled.
          knobs: traced settings.
        """
        return there.sum(-1, dtype=jnp.int32)

    def recut(self, places: jax.Array, prompt: jax.Array, end: jax.Array) -> jax.Array:
        """How many groups after the active one each position is, int32 `[B, L]`, once that ends before `end`.

        Args:
          places: int32 `[B, L]`.
          prompt: int32 `[B, 1]`, positions of the prompt.
          end: int32 `[B, 1]`, the first position behind the active group; nothing is asked of those before it.
        """
        return jnp.ones_like(places)

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
