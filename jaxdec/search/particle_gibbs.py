"""The filter of particle Gibbs: one that a reference trajectory passes unchanged.

Legend: P prompts, H hypotheses of a prompt (particles).
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Decoder, Knob
from jaxdec.sampling import gumbel
from jaxdec.search.contract import Boundary, Scorer
from jaxdec.search.particles import RewardWeights
from jaxdec.search.population import Population, population
from jaxdec.search.segments import Segment

REFERENCE = "keeps_reference"
"""The knob that says whether hypothesis 0 is the reference, 0 or 1."""


@dataclasses.dataclass(frozen=True)
class KeepsReference(RewardWeights):
    """A particle filter that hypothesis 0 passes unchanged, where a reference is given; the others may become it."""

    scheme: str = "multinomial"

    @property
    def knobs(self) -> dict[str, Knob]:
        """Those of the filter, and whether there is a reference."""
        return {**super().knobs, REFERENCE: Knob(0, low=0, high=1, integer=True)}

    def drawn(self, boundary: Boundary, log_weights: jax.Array) -> jax.Array:
        """As the filter, but for the reference: the others are drawn one by one, so that it may be kept."""
        draws = super().drawn(boundary, log_weights)
        kept = boundary.by_prompt(boundary.settings.knobs[REFERENCE])[:, :1] > 0
        alone = _one_by_one(boundary, log_weights)
        alone = jnp.where(boundary.here == 0, 0, alone)
        return jnp.where(kept, alone, draws)


def _one_by_one(boundary: Boundary, log_weights: jax.Array) -> jax.Array:
    """Independent ancestors `[P, H]`; all stay where no weight is left."""
    known = jnp.isfinite(jax.nn.logsumexp(log_weights, axis=1, keepdims=True))
    size = boundary.hypotheses
    keys = jax.vmap(lambda key: jax.random.split(key, size))(boundary.prompt_keys)
    draws = jnp.argmax(log_weights[:, None] + gumbel(keys, size), axis=-1).astype(jnp.int32)
    return jnp.where(known, draws, boundary.here)


def conditional_filter(decoder: Decoder, reward: Scorer, *, segment: Segment) -> Population:
    """A particle filter that may be given a reference trajectory: one iteration of `jaxdec.generation.particle_gibbs`.

    Args:
      decoder: draws the steps.
      reward: scores a past, as a logit.
      segment: a step of reasoning, such as `until([newline])`.

    The knob `keeps_reference` is 1 for prompts whose hypothesis 0 is a reference, given as its `forced_prefix`: it is
    never drawn again, and the others may take its past. Else this is `particle_filter`, drawn multinomially.

    Exactness: heuristic.
    Source: Andrieu, Doucet, Holenstein 2010; 2502.01618.
    """
    return population(decoder, segment=segment, rule=KeepsReference(), scorer=reward)
