"""Tokens that are written again in place: the editing of LLaDA2.1.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.remask.contract import Remask
from jaxdec.model import Params


class _Edits(NamedTuple):
    """Steps taken without a mask, int32 `[B]`, and whether the group takes another one, bool `[B]`."""

    spent: jax.Array
    lingers: jax.Array


@dataclasses.dataclass(frozen=True)
class Editing(Remask):
    """See `editing`."""

    threshold: float = knob_default()
    steps: int = knob_default()
    rewrites = True

    @property
    def knobs(self) -> dict[str, Knob]:
        """`edit_threshold` and `edit_steps`."""
        return {
            "edit_threshold": Knob(self.threshold),
            "edit_steps": Knob(self.steps, 0, integer=True),
        }

    def init(self, params: Params, batch: int, window: int) -> Any:
        """Nothing spent."""
        return _Edits(jnp.zeros((batch,), jnp.int32), jnp.zeros((batch,), bool))

    def take_back(
        self, params: Params, seen: Candidates, reveal: jax.Array, state: _Edits, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Those for which another token was drawn that is likely enough."""
        chance = jnp.exp(seen.own.log_prob)
        edits = seen.committed & (seen.drawn != seen.tokens)
        edits &= chance > knobs["edit_threshold"][:, None]
        spent = state.spent + ~seen.allowed.any(-1)
        changed, full = (edits | reveal).any(-1), ~(seen.allowed & ~reveal).any(-1)
        return edits, _Edits(spent, full & changed & (spent < knobs["edit_steps"]))

    def lingers(self, state: _Edits, never: jax.Array) -> jax.Array:
        """While something changed, and there are steps left."""
        return state.lingers


@typed
def editing(threshold: float = 0.5, steps: int = 16) -> Editing:
    """Editing: committed tokens of the active group are replaced where the model now prefers another one clearly.

        x_i <- v_i  where  v_i != x_i  and  p_i(v_i) > threshold,   v the tokens drawn in this step

    in every step, beside what the policy commits. A group that is full takes further steps that only edit, until one
    changes nothing. Tokens given with the prompt are not edited, nor are those of finished groups.

    Args:
      threshold: of the model's own probability of the new token (knob `edit_threshold`); 1 edits nothing.
      steps: without a mask, of each group, at most (knob `edit_steps`).

    At temperature 0 v is the most probable token, as published. Above it v is a draw, by position and step: a likely
    token may replace another one that is as likely, until the steps are spent.

    Raises:
      ValueError: for fewer steps than 0.

    Exactness: heuristic; with a threshold of 1 and no steps the tokens of the policy alone at temperature 0.

    Source: LLaDA2.1's editing, as its public implementations have it (thresholds 0.7 for masks and 0.5 for edits).
    Missing are edits of earlier blocks, and the insertions and deletions of LLaDA2.2.
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    return Editing(threshold, steps)
