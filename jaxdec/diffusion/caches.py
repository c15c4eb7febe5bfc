"""Cache rules: which positions of a canvas are computed again in a step, and which are read as they were.

A step computes the rows of some positions, its *fresh* ones, and reads the keys and values of all others from the
cache. Most steps are narrow; a *wide* one, when a group begins or a period is over, computes more and so refreshes the
cache. A rule says in terms of groups and units (blocks) which positions are which; both sets have a fixed size.

Legend: B rows, L positions, g the active group, u its unit.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Knob
from jaxdec.diffusion.schedules import Schedule

NEVER = 2**30
"""A period that no row lives to see."""


class Facts(NamedTuple):
    """What a rule may look at.

    Attributes:
      groups: int32 `[B, L]`.
      units: int32 `[B, L]`.
      exists: bool `[B, L]`, positions of the prompt and those that are generated.
      group: int32 `[B, 1]`, g.
      unit: int32 `[B, 1]`, u.
      entered: bool `[B]`, whether this is the group's first step.
      entered_unit: bool `[B]`, whether it is the unit's first step.
      first: bool `[B]`, whether it is the row's first step.
      over: bool `[B]`, whether the refresh period is over.
    """

    groups: jax.Array
    units: jax.Array
    exists: jax.Array
    group: jax.Array
    unit: jax.Array
    entered: jax.Array
    entered_unit: jax.Array
    first: jax.Array
    over: jax.Array


@dataclasses.dataclass(frozen=True)
class CacheRule:
    """No cache: every step computes every position.

    Attributes:
      period: steps after which the cache is refreshed whatever happens; None for never.
    """

    period: int | None = dataclasses.field(default=None, compare=False)

    kept = False
    """Whether there is a cache."""
    exact = True
    """Whether what is read equals what would be computed, for a block-causal model."""
    needs_blocks = False
    """Whether the rule is for block-causal attention alone."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """`refresh_period`, for rules that refresh."""
        if self.exact:
            return {}
        default = NEVER if self.period is None else self.period
        return {"refresh_period": Knob(default, 1, integer=True)}

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """Fresh positions of a narrow and of a wide step, at most.

        Args:
          schedule: of the decoder.
          length: L.
          room: positions that can be generated.
        """
        return length, length

    def prefill(self, facts: Facts) -> jax.Array | None:
        """Positions that are computed before the first step, bool `[B, L]`."""
        return None

    def narrow(self, facts: Facts) -> jax.Array:
        """Fresh positions of a narrow step, bool `[B, L]`."""
        return facts.exists

    def wide(self, facts: Facts) -> jax.Array:
        """Fresh positions of a wide step, bool `[B, L]`; they include the narrow ones."""
        return facts.exists

    def refresh(self, facts: Facts) -> jax.Array:
        """Which rows take a wide step, bool `[B]`."""
        return jnp.zeros_like(facts.first)


@dataclasses.dataclass(frozen=True)
class _Block(CacheRule):
    kept = True
    needs_blocks = True

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A block, and two."""
        unit = schedule.largest(room)[1]
        return min(unit, length), min(2 * unit, length)

    def prefill(self, facts: Facts) -> jax.Array | None:
        """All finished blocks of the prompt."""
        return facts.exists & (facts.units < facts.unit)

    def narrow(self, facts: Facts) -> jax.Array:
        """The active block."""
        return facts.exists & (facts.units == facts.unit)

    def wide(self, facts: Facts) -> jax.Array:
        """And the block before it, which has just been finished."""
        return facts.exists & (facts.units <= facts.unit) & (facts.units >= facts.unit - 1)

    def refresh(self, facts: Facts) -> jax.Array:
        """When a block begins; the first one follows the prefill."""
        return facts.entered_unit & ~facts.first


@dataclasses.dataclass(frozen=True)
class _Refreshed(CacheRule):
    kept = True
    exact = False

    def wide(self, facts: Facts) -> jax.Array:
        """Everything."""
        return facts.exists

    def refresh(self, facts: Facts) -> jax.Array:
        """When a group begins, and when the period is over."""
        return facts.entered | facts.over


@dataclasses.dataclass(frozen=True)
class _Prefix(_Refreshed):
    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """All that can be generated, and everything."""
        return min(room + (schedule.unit or schedule.size or 0), length), length

    def narrow(self, facts: Facts) -> jax.Array:
        """The active group and all later ones."""
        return facts.exists & (facts.groups >= facts.group)


@dataclasses.dataclass(frozen=True)
class _Dual(_Refreshed):
    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A group, and everything."""
        return min(schedule.largest(room)[0], length), length

    def narrow(self, facts: Facts) -> jax.Array:
        """The active group."""
        return facts.exists & (facts.groups == facts.group)


@dataclasses.dataclass(frozen=True)
class _SubBlock(_Block):
    exact = False

    def sizes(self, schedule: Schedule, length: int, room: int) -> tuple[int, int]:
        """A sub-block, and two blocks."""
        group, unit = schedule.largest(room)
        return min(group, length), min(2 * unit, length)

    def narrow(self, facts: Facts) -> jax.Array:
        """The active sub-block."""
        return facts.exists & (facts.groups == facts.group)

    def refresh(self, facts: Facts) -> jax.Array:
        """When a sub-block begins, and when the period is over."""
        return facts.entered | facts.over


@dataclasses.dataclass(frozen=True)
class _Frozen(_Prefix):
    def wide(self, facts: Facts) -> jax.Array:
        """The group that has just been finished, for the last time, and all later ones; at first everything."""
        everything = facts.first | facts.over
        return facts.exists & (everything[:, None] | (facts.groups >= facts.group - 1))


def none() -> CacheRule:
    """No cache: every step computes every position. The reference."""
    return CacheRule()


def block() -> CacheRule:
    """Exact cache of a block-causal model: finished blocks are computed once, a step computes the active block.

    The entries of a finished block are computed in the first step of the next one, in the same forward.

    Exactness: exact; needs block-causal attention.

    Source: BD3-LM 2503.09573; SDAR 2510.06303.
    """
    return _Block()


def prefix(period: int | None = None) -> CacheRule:
    """Entries of everything before the active group are kept while the group is decoded.

    Args:
      period: refresh after as many steps as well (knob `refresh_period`).

    Exactness: approximate(period); period 1 is no cache.

    Source: Fast-dLLM 2505.22618.
    """
    return _Prefix(_checked(period))


def dual(period: int | None = None) -> CacheRule:
    """Entries of everything before and after the active group are kept while the group is decoded.

    Args:
      period: refresh after as many steps as well (knob `refresh_period`).

    Exactness: approximate(period); period 1 is no cache.

    Source: Fast-dLLM 2505.22618.
    """
    return _Dual(_checked(period))


def sub_block(period: int | None = None) -> CacheRule:
    """Exact cache of finished blocks; in the active one, entries outside the active sub-block are kept while it lasts.

    Args:
      period: refresh the block after as many steps as well (knob `refresh_period`).

    For schedules `blocks(8, within=32)`.

    Exactness: approximate(period); period 1 is the exact block cache. Needs block-causal attention.

    Source: Fast-dLLM v2 2509.26328.
    """
    return _SubBlock(_checked(period))


def frozen(period: int | None = None) -> CacheRule:
    """Entries of finished groups are computed once, when the next group begins, and never again.

    Args:
      period: compute everything after as many steps all the same (knob `refresh_period`).

    Exactness: approximate(period); period 1 is no cache.

    Source: FreeCache 2505.21467, with the last finished group as the boundary.
    """
    return _Frozen(_checked(period))


def _checked(period: int | None) -> int | None:
    if period is not None and period < 1:
        raise ValueError(f"a refresh period is at least 1 step, got {period}")
    return period
