"""Parts beside the unmasking policy: rules that take tokens back, stop early, or change the logits.

Legend: B rows, W positions of the active group, V vocabulary, S slots.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.unmask import Knobs


class Remask(abc.ABC):
    """Takes committed tokens of the active group back. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def take_back(
        self, seen: Candidates, reveal: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Which positions are masked again, bool `[B, W]`, given those that the step commits; fewer than those."""


@dataclasses.dataclass(frozen=True)
class Backtracking(Remask):
    """See `backtracking`."""

    minimum: int = dataclasses.field(compare=False)

    @property
    def knobs(self) -> dict[str, Knob]:
        """`minimum`: n, that of the policy."""
        return {"minimum": Knob(self.minimum, 1, integer=True)}

    def init(self, batch: int, window: int) -> Any:
        """Each position's confidence in the step before."""
        return jnp.zeros((batch, window), jnp.float32)

    def take_back(
        self, seen: Candidates, reveal: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Those whose confidence fell most."""
        confidence = seen.score("max_prob")
        minimum, revealed = knobs["minimum"], reveal.sum(-1)
        most = jnp.maximum(minimum, revealed)
        count = jnp.maximum(minimum // 2, -(-most // 8))
        # The published bound is one less than max(n, revealed); one less than what was revealed always makes progress.
        count = jnp.clip(count, 0, jnp.maximum(revealed - 1, 0))
        fall = state - confidence
        # The step that completes a group ends it: there is nothing left to look at again.
        open_after = (seen.allowed & ~reveal).any(-1)
        count = jnp.where(open_after & (seen.step > 0), count, 0)
        return top(fall, seen.committed | reveal, count), confidence


def backtracking(minimum: int = 2) -> Backtracking:
    """Masks again the `max(n // 2, ceil(r / 8))` tokens whose position lost most confidence, r of them committed.

    Args:
      minimum: n (knob), as in `unmask.saber`.

    Differs from the published rule where fewer than n positions are left: it then takes back fewer than it commits, so
    that every step makes progress; and it takes none back in the first step, when nothing has fallen yet. Confidence is
    that of the position's most probable token, as published.

    Source: Saber 2510.18165.
    """
    return Backtracking(minimum)


class Stop(abc.ABC):
    """Ends a group early by committing all that is left. Subclasses are frozen dataclasses; all methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    @abc.abstractmethod
    def now(self, seen: Candidates, knobs: Knobs) -> jax.Array:
        """Which rows commit everything now, bool `[B]`."""


@dataclasses.dataclass(frozen=True)
class Prophet(Stop):
    """See `prophet`."""

    early: float = dataclasses.field(compare=False)
    middle: float = dataclasses.field(compare=False)
    late: float = dataclasses.field(compare=False)

    @property
    def knobs(self) -> dict[str, Knob]:
        """`early_gap`, `middle_gap`, `late_gap`: in units of logits."""
        gaps = {"early_gap": self.early, "middle_gap": self.middle, "late_gap": self.late}
        return {name: Knob(value) for name, value in gaps.items()}

    def now(self, seen: Candidates, knobs: Knobs) -> jax.Array:
        """Where the mean gap reaches the limit of the progress made."""
        gap = jnp.where(seen.allowed, seen.own.top - seen.own.second, 0).sum(-1)
        gap = gap / jnp.maximum(seen.left, 1)
        thirds = 3 * (seen.opened - seen.left)  # in integers: a third of the group is exact
        limit = jnp.select(
            [thirds < seen.opened, thirds < 2 * seen.opened],
            [knobs["early_gap"], knobs["middle_gap"]],
            knobs["late_gap"],
        )
        return (gap >= limit) & (limit < jnp.inf)  # a gap is infinite where one token is possible


def prophet(early: float = 7.5, middle: float = 5.0, late: float = 2.5) -> Prophet:
    """Early commit: all that is left, once the mean gap between the two highest logits is wide enough.

    Args:
      early: limit in the first third of the group, in units of logits (knob `early_gap`).
      middle: limit in the second third (knob `middle_gap`).
      late: limit in the last third (knob `late_gap`).

    Progress is the share of the group that is committed, which is that of the steps at one token a step. Infinite
    limits change nothing, limits of minus infinity fill a group in one step.

    Source: Prophet 2508.19982, over all positions of the group that are still masked.
    """
    return Prophet(early, middle, late)


class Fuse(abc.ABC):
    """Changes the logits of a step by those of earlier steps. Subclasses are frozen dataclasses; methods are pure."""

    @property
    def knobs(self) -> dict[str, Knob]:
        """The traced settings."""
        return {}

    def init(self, batch: int, window: int) -> Any:
        """The state at the beginning of a group."""
        return None

    @abc.abstractmethod
    def fuse(
        self, logits: jax.Array, masked: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """New logits `[B, W, V]`, and the next state; `masked` bool `[B, W]`."""


@dataclasses.dataclass(frozen=True)
class Credit(Fuse):
    """See `credit`."""

    alpha: float = dataclasses.field(compare=False)
    beta: float = dataclasses.field(compare=False)
    gamma: float = dataclasses.field(compare=False)
    slots: int = 8

    @property
    def knobs(self) -> dict[str, Knob]:
        """`credit_alpha`, `credit_beta`, `credit_gamma`."""
        return {
            "credit_alpha": Knob(self.alpha, 0),
            "credit_beta": Knob(self.beta, 0, 1),
            "credit_gamma": Knob(self.gamma, 0),
        }

    def init(self, batch: int, window: int) -> Any:
        """Tokens that have credit, and how much: 0 marks a free slot."""
        shape = (batch, window, self.slots)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)

    def fuse(
        self, logits: jax.Array, masked: jax.Array, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Credit for the most probable token; then the logits of all that have some."""
        tokens, held = state
        each = lambda name: knobs[name][:, None, None]
        held = held * each("credit_beta")
        law = jax.nn.log_softmax(logits)
        best = jnp.argmax(law, axis=-1).astype(jnp.int32)[..., None]
        earned = jnp.exp(each("credit_gamma") * jnp.max(law, axis=-1, keepdims=True))
        mine = (tokens == best) & (held > 0)
        # The token's own slot, else the slot with the least credit, which a free one is.
        slot = jnp.where(mine.any(-1), jnp.argmax(mine, -1), jnp.argmin(held, -1))[..., None]
        here = (jnp.arange(self.slots) == slot) & masked[..., None]
        held = jnp.where(here, jnp.where(mine, held, 0) + earned, held)
        tokens = jnp.where(here, best, tokens)
        bonus = each("credit_alpha") * jnp.log1p(held)
        add = lambda row, at, value: row.at[at].add(value)
        return jax.vmap(jax.vmap(add))(logits, tokens, bonus), (tokens, held)


def credit(alpha: float = 0.7, beta: float = 0.8, gamma: float = 0.2, *, slots: int = 8) -> Credit:
    """Credit for tokens that stay the most probable at their position, step after step.

        C <- beta C;   C[v*] <- C[v*] + p(v*)^gamma,  v* = argmax p;   logits <- logits + alpha log(1 + C)

    Args:
      alpha: weight of the credit (knob `credit_alpha`); 0 changes nothing.
      beta: what is kept of it a step (knob `credit_beta`).
      gamma: power of the probability (knob `credit_gamma`).
      slots: S, tokens that can have credit at a position; the least is forgotten.

    Source: CreditDecoding 2510.06133, with slots instead of a table over the vocabulary.
    """
    if slots < 1:
        raise ValueError(f"credit needs at least 1 slot, got {slots}")
    return Credit(alpha, beta, gamma, slots)
