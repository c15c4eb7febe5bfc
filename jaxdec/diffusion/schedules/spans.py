"""Which units of a canvas see which.

A rule gives each unit a number n and the last number that sees it, m >= n: a unit of number n is seen by the units of
the numbers n to m. Two integers, so that a forward needs no mask (`jaxdec.visibility`).

                    n         m            sees
    Full            0         forever      everything
    BlockCausal     u + 1     forever      its own unit and all before it
    Near            max(u, 0) max(u, 0)    the prompt and unit 0; later units see their own alone
    Until(last)     u + 1     last[u] + 1  its own unit, and those before it that live so long

The prompt, unit -1, has n = 0 and is seen by all.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxdec import visibility


class SpanRule(abc.ABC):
    """Which units see which. Subclasses are frozen dataclasses; all methods are pure."""

    one_way: ClassVar[bool] = True
    """Whether no unit sees a later one, so that what was computed for a finished unit stays as it is."""

    @abc.abstractmethod
    def numbers(self, units: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The number of each unit, and the last number that sees it.

        Args:
          units: int32 of any shape, from 0 on; -1 for the prompt.

        Returns:
          int32 of the same shape each; `visibility.FOREVER` for a unit that all later ones see.
        """


@dataclasses.dataclass(frozen=True)
class Full(SpanRule):
    """Every position sees the whole canvas."""

    one_way = False

    def numbers(self, units: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One number for all."""
        return jnp.zeros_like(units), jnp.full_like(units, visibility.FOREVER)


@dataclasses.dataclass(frozen=True)
class Near(SpanRule):
    """Every position sees the prompt and unit 0; later units are seen by none but their own."""

    one_way = False

    def numbers(self, units: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One number for what is near, another one for each unit that is not."""
        number = jnp.maximum(units, 0)
        return number, number


@dataclasses.dataclass(frozen=True)
class BlockCausal(SpanRule):
    """A unit sees itself and all units before it."""

    def numbers(self, units: jax.Array) -> tuple[jax.Array, jax.Array]:
        """In order of the units."""
        return jnp.where(units < 0, 0, units + 1), jnp.full_like(units, visibility.FOREVER)


@dataclasses.dataclass(frozen=True)
class Until(BlockCausal):
    """A table: unit u is seen by itself and by the later units up to `last[u]`.

    `Until(range(1, scales + 1))` is Markov: a scale sees the one before it and itself. The units after the table's end
    see what `BlockCausal` says.

    Attributes:
      last: a unit for each unit.

    Raises:
      ValueError: for a unit that does not see itself.
    """

    last: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "last", tuple(int(unit) for unit in self.last))
        for unit, last in enumerate(self.last):
            if last < unit:
                raise ValueError(f"unit {unit} must see itself, got {last} as the last that does")

    def numbers(self, units: jax.Array) -> tuple[jax.Array, jax.Array]:
        """In order of the units, each as long as the table says."""
        number, last = super().numbers(units)
        inside = (units >= 0) & (units < len(self.last))
        table = jnp.asarray(self.last, jnp.int32)[jnp.clip(units, 0, len(self.last) - 1)]
        return number, jnp.where(inside, table + 1, last)
