"""Policies that were trained by their rewards: a coin for each position, whose chances a head gives.

Legend: B rows, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, top
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params, PositionHead, Sureness


def sureness(seen: Candidates) -> Sureness:
    """What a head sees of a step; the time falls by the share of the steps that the group may take."""
    sure = seen.score("max_prob")
    taken = seen.step / jnp.maximum(seen.opened, 1)
    return Sureness(
        confidence=jnp.where(jnp.isnan(sure), 0.0, sure),
        masked=seen.allowed,
        there=seen.allowed | seen.committed,
        time=jnp.clip(1 - taken, 0, 1).astype(jnp.float32),
    )


def chances(logits: jax.Array, temperature: jax.Array, beta: jax.Array) -> jax.Array:
    """The probability that the coin of a position says so, `min(1, beta sigmoid(b / T))`, `[B, W]`; see `learned`.

    Args:
      logits: float32 `[B, W]`.
      temperature: T `[B]`; 0 for the limit.
      beta: `[B]`.
    """
    warm = jnp.where(temperature > 0, temperature, 1)[:, None]
    limit = jnp.where(logits == 0, 0, jnp.sign(logits) * jnp.inf)
    scaled = jnp.where(temperature[:, None] > 0, logits / warm, limit)
    return jnp.minimum(1.0, beta[:, None] * jax.nn.sigmoid(scaled))


def log_likelihood(
    logits: jax.Array, chosen: jax.Array, allowed: jax.Array, *, fallback: bool = True
) -> jax.Array:
    """The log-probability that a policy of temperature 1 and beta 1 commits just these positions, float32 `[...]`.

        sum over chosen of log s_i + sum over others of log (1 - s_i);   s = sigmoid(logits)

    Args:
      logits: float32 `[..., W]`.
      chosen: bool `[..., W]`, at least one of those allowed; none counts as the coins' all falling so.
      allowed: bool `[..., W]`, masked positions.
      fallback: whether coins that all say no commit the likeliest position, which adds their probability to that of
        committing it alone. The published loss leaves that out.
    """
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    own = jnp.where(allowed, jnp.where(chosen, yes, no), 0).sum(-1)
    if not fallback:
        return own
    none = jnp.where(allowed, no, 0).sum(-1)
    first = jnp.argmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)[..., None]
    alone = jnp.all((chosen & allowed) == (jnp.arange(logits.shape[-1]) == first), axis=-1)
    return jnp.where(alone, jnp.logaddexp(own, none), own)


@dataclasses.dataclass(frozen=True)
class Learned(Unmask):
    """See `learned`."""

    head: PositionHead
    temperature: float = knob_default()
    beta: float = knob_default()
    name: str = "policy"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`policy_temperature` and `beta`."""
        return {
            "policy_temperature": Knob(self.temperature, 0),
            "beta": Knob(self.beta, 0),
        }

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Where the coin says so; where none does, the likeliest."""
        logits = self.head(params, sureness(seen))
        chance = chances(logits, knobs["policy_temperature"], knobs["beta"])
        reveal = seen.allowed & (seen.coins() < chance)
        first = top(logits, seen.allowed, jnp.ones_like(seen.step))
        return jnp.where(reveal.any(-1, keepdims=True), reveal, first), state

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The likeliest, one by one."""
        return self.head(params, sureness(seen)), jnp.ones_like(seen.step)


@typed
def learned(
    head: PositionHead, *, temperature: float = 1.0, beta: float = 1.0, name: str = "policy"
) -> Learned:
    """A learned policy: each masked position is committed by a coin of its own, whose chance a head gives.

        b = head(c, m, t);   s_i = min(1, beta sigmoid(b_i / T));   commit i with probability s_i

    and where no coin says so, the position of the largest b. c is the probability of the most probable token, m whether
    a position is masked, t the time, from 1 in the first step of a group down by 1 / (its positions) a step. Coins are
    by position and step, whatever the temperature of the tokens.

    Args:
      head: gives b, such as that of the checkpoint `tasks-unmasking` (`checkpoints.load_heads(...).heads`).
      temperature: T (knob `policy_temperature`), 0 for the limit: commit where b > 0.
      beta: turns parallelism up and down without training again (knob `beta`); 0 commits one position a step.
      name: of the head's parameters in the `params` of `generate`.

    Raises:
      ValueError: for a head that reads one number of positions at once alone, or a knob below 0.

    Exactness: heuristic. With `b = (c - threshold) K` and K large, `threshold`.

    Source: Learning unmasking policies 2512.09106 (Bernoulli actions; its training is `training.policies`). Missing are
    the Plackett-Luce actions of its appendix.
    """
    if head.window is not None:
        raise ValueError(
            f"a policy reads groups of any size; this head reads {head.window} positions at once"
        )
    for what, value in (("temperature", temperature), ("beta", beta)):
        if value < 0:
            raise ValueError(f"{what} must be at least 0, got {value}")
    return Learned(head, temperature, beta, name)
