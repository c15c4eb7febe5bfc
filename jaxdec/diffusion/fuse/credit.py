"""CreditDecoding.

Legend: B rows, W positions of the active group, V vocabulary, S slots.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Scored
from jaxdec.diffusion.contract import Knobs, knob_default
from jaxdec.diffusion.fuse.contract import Fuse, Standing
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class Credit(Fuse):
    """See `credit`."""

    alpha: float = knob_default()
    beta: float = knob_default()
    gamma: float = knob_default()
    slots: int = 8

    @property
    def knobs(self) -> dict[str, Knob]:
        """`credit_alpha`, `credit_beta`, `credit_gamma`."""
        return {
            "credit_alpha": Knob(self.alpha, 0),
            "credit_beta": Knob(self.beta, 0, 1),
            "credit_gamma": Knob(self.gamma, 0),
        }

    def init(self, params: Params, batch: int, window: int) -> Any:
        """Tokens that have credit, and how much: 0 marks a free slot."""
        shape = (batch, window, self.slots)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)

    def fuse(
        self, params: Params, scored: Scored, standing: Standing, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """Credit for the most probable token; then the logits of all that have some."""
        logits, (tokens, held) = scored.logits, state
        each = lambda name: knobs[name][:, None, None]
        held = held * each("credit_beta")
        law = jax.nn.log_softmax(logits)
        best = jnp.argmax(law, axis=-1).astype(jnp.int32)[..., None]
        earned = jnp.exp(each("credit_gamma") * jnp.max(law, axis=-1, keepdims=True))
        mine = (tokens == best) & (held > 0)
        # The token's own slot, else the slot with the least credit, which a free one is.
        slot = jnp.where(mine.any(-1), jnp.argmax(mine, -1), jnp.argmin(held, -1))[..., None]
        here = (jnp.arange(self.slots) == slot) & standing.masked[..., None]
        held = jnp.where(here, jnp.where(mine, held, 0) + earned, held)
        tokens = jnp.where(here, best, tokens)
        bonus = each("credit_alpha") * jnp.log1p(held)
        add = lambda row, at, value: row.at[at].add(value)
        return jax.vmap(jax.vmap(add))(logits, tokens, bonus), (tokens, held)


@typed
def credit(alpha: float = 0.7, beta: float = 0.8, gamma: float = 0.2, *, slots: int = 8) -> Credit:
    """Credit for tokens that stay the most probable at their position, step after step.

        C <- beta C;   C[v*] <- C[v*] + p(v*)^gamma,  v* = argmax p;   logits <- logits + alpha log(1 + C)

    Args:
      alpha: weight of the credit (knob `credit_alpha`); 0 changes nothing.
      beta: what is kept of it a step (knob `credit_beta`).
      gamma: power of the probability (knob `credit_gamma`).
      slots: S, tokens that can have credit at a position; the least is forgotten.

    Raises:
      ValueError: without a slot.

    Exactness: heuristic; exact at alpha 0.

    Source: CreditDecoding 2510.06133, with slots instead of a table over the vocabulary.
    """
    if slots < 1:
        raise ValueError(f"credit needs at least 1 slot, got {slots}")
    return Credit(alpha, beta, gamma, slots)
