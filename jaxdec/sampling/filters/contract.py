"""What a filter is: a rule that keeps some tokens of a law, and the limits of its knob.

Legend: B rows, V vocabulary.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdec.sampling.limits import Limit


@dataclasses.dataclass(frozen=True)
class Filter:
    """A stage of the pipeline after the temperature.

    Attributes:
      name: of its knob, a field of `Warp`.
      keep: `(log_probs [B, ..., V], knob) -> bool [B, ..., V]`, which tokens are kept. Log-probabilities stand in
        descending order, with -inf for tokens that earlier filters removed; the knob broadcasts to them.
      limit: of the knob.
      any_order: whether `keep` holds for unsorted laws too; a pipeline of such filters alone needs no sort.
    """

    name: str
    keep: Callable[[jax.Array, jax.Array], jax.Array]
    limit: Limit
    any_order: bool = False


def log_floor(floor: jax.Array) -> jax.Array:
    """The logarithm of a least probability; -inf for a subnormal one, which programs may or may not take for 0."""
    return jnp.log(jnp.where(floor < jnp.finfo(jnp.float32).tiny, 0.0, floor))
