"""The surest positions within a budget of entropy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Knob
from jaxdec.diffusion.candidates import Candidates, ranked
from jaxdec.diffusion.contract import Knobs, Unmask, knob_default
from jaxdec.model import Params


@dataclasses.dataclass(frozen=True)
class EntropyBound(Unmask):
    """See `entropy_bound`."""

    bound: float = knob_default()
    by = "entropy"

    @property
    def knobs(self) -> dict[str, Knob]:
        """`entropy_bound`."""
        return {"entropy_bound": Knob(self.bound, 0)}

    def choose(
        self, params: Params, seen: Candidates, state: Any, knobs: Knobs
    ) -> tuple[jax.Array, Any]:
        """The longest prefix within the budget."""
        score = seen.score("entropy")
        places = ranked(score, seen.allowed)
        order = jnp.argsort(places, axis=-1)
        spent = jnp.where(seen.allowed, -score, jnp.inf)
        spent = jnp.cumsum(jnp.take_along_axis(spent, order, axis=-1), axis=-1)
        count = jnp.maximum((spent < knobs["entropy_bound"][:, None]).sum(-1), 1)
        return seen.allowed & (places < count[:, None]), state

    def ahead(self, params: Params, seen: Candidates, knobs: Knobs) -> tuple[jax.Array, jax.Array]:
        """The next surest one by one."""
        return seen.score("entropy"), jnp.ones_like(seen.step)


@typed
def entropy_bound(bound: float = 0.35) -> EntropyBound:
    """The surest positions as long as their entropies add up to less than a bound; at least one.

        commit the first n in order of H(p_i),  n the largest with  H(p_1) + ... + H(p_n) < bound

    Args:
      bound: in nats (knob); 0 commits one position a step.

    Exactness: heuristic. The sum of the entropies bounds how far the product of the tokens' laws is from their joint
    law, in nats.

    Source: the entropy-bounded rule of SDAR 2510.06303, with the entropy of the whole law.
    """
    return EntropyBound(bound)
