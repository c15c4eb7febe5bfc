"""The parts of the canvas loop: policies, remask rules, stops and fusions.

A part is a frozen dataclass; the numbers in it are defaults of traced knobs, which `generate` takes by name
(`generate(decoder, ..., threshold=0.8)`), so that a change of them compiles nothing. A part with weights has a `name`:
its hooks get `params[name]` first, all others get None (`decoding.Part`).

    class Learned(Unmask):                       generate(denoise(model, unmask=Learned("head")),
        name: str                                         {"target": ..., "head": ...}, ...)

Legend: B rows, W positions of the active group, V vocabulary.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Part, Request
from jaxdec.diffusion.candidates import VALUE_DEPENDENT, Candidates, Score
from jaxdec.model import Params

Knobs = Mapping[str, jax.Array]


# The value of a knob is traced, so equal programs stay equal.
knob_default = lambda: dataclasses.field(compare=False)


class GroupPart(Part, abc.ABC):
    """A part that works on the active group. Subclasses are frozen dataclasses; all methods are pure."""

    def init(self, params: Params, batch: int, window: int) -> Any:
        """The state at the beginning of a group, a pytree whose arrays are `[B, ...]`; None without one.

        Args:
          params: the part's own; None without weights. So it is for every hook.
          batch: B.
          window: W.
        """
        return None

    def begin(self, params: Params, request: Request, state: Any) -> Any:
        """The state when decoding begins, for parts that read the prompts; as `init` made it for all others."""
        return state

    def renew(self, params: Params, state: Any, fresh: Any) -> Any:
        """The state when the next group begins: a fresh one, unless the part remembers the groups before it.

        Args:
          params: the part's own.
          state: as the last step of the group before left it; at the first group, as `init` made it.
          fresh: as `init` makes it.
        """
        return fresh


class Unmask(GroupPart):
    """A policy: which positions of the active group are committed in a step.

    Attributes:
      by: what it ranks positions by; None for a policy without a score.
      forwards: of a model of its own in a step.
      reads_text: whether it keeps what it has read of the committed text, which must stand then.
      least_vocabulary: tokens that its model knows; 0 for any.
    """

    by: Score | None = None
    forwards: int = 0
    reads_text: bool = False
    least_vocabulary: int = 0

    @property
    def value_dependent(self) -> bool:
        """Whether the choice of positions looks at the tokens that were drawn: as the score does, if there is one."""
        return self.by in VALUE_DEPENDENT

    @property
    def exactness(self) -> Exactness:
        """What decoding by this policy promises, with no approximate cache."""
        return Exactness.HEURISTIC

    @abc.abstractmethod
    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Which allowed positions are committed, bool `[B, W]`, and the next state.

        Where none is, the loop commits the position of the highest `max_prob`, once `patience` is over.
        """

    def patience(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """The first steps of a group that may commit nothing, int32 `[B]`; 0 unless a policy says otherwise."""
        return jnp.zeros_like(seen.step)

    def progress(self, params: Params, seen: Candidates, knobs: Knobs) -> jax.Array:
        """How far the group is, float32 `[B]`, from 0 in its first step to 1; by the share that is committed."""
        done = (seen.opened - seen.left).astype(jnp.float32)
        return jnp.clip(done / jnp.maximum(seen.opened - 1, 1), 0, 1)

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """A guess at the steps to come, this one first: a score `[B, W]`, and positions that each commits, `[B]`."""
        return seen.score("max_prob"), jnp.ones_like(seen.step)
