"""The parts of the canvas loop: policies, remask rules, stops and fusions.

A part is a frozen dataclass; the numbers in it are defaults of traced knobs, which `generate` takes by name
(`generate(decoder, ..., threshold=0.8)`), so that a change of them compiles nothing.

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Knob
from jaxdec.diffusion.candidates import Candidates

Knobs = Mapping[str, jax.Array]


# The value of a knob is traced, so equal programs stay equal.
knob_default = lambda: dataclasses.field(compare=False)


class Unmask(abc.ABC):
    """A policy. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings, with their defaults."""
        return {}

    @property
    def value_dependent(self) -> bool:
        """Whether the choice of positions looks at the tokens that were drawn."""
        return False

    @property
    def exactness(self) -> Exactness:
        """What decoding by this policy promises, with no approximate cache."""
        return Exactness.HEURISTIC

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def choose(self, seen: Candidates, state: Any, knobs: Knobs) -> tuple[jax.Array, Any]:
        """Which allowed positions are committed, bool `[B, W]`, and the next state."""

    def ahead(self, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """A guess at the steps to come, this one first: a score `[B, W]`, and positions that each commits, `[B]`."""
        return seen.score("max_prob"), jnp.ones_like(seen.step)
