"""Resampling rules pick one of several proposals for all masked positions of a group, as a whole.

    propose x^1 .. x^K ~ prod_i q_i(x_i)  -> pick one -> the policy commits some of its tokens

Legend: B rows, L positions of the canvas, K proposals.
"""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part
from jaxdec.diffusion.contract import Knobs
from jaxdec.model import Params


class Proposals(NamedTuple):
    """What a rule picks from.

    Attributes:
      tokens: int32 `[K, B, L]`, canvases whose active group is filled.
      known: bool `[B, L]`, positions that hold a token: the prompt, what is committed, and the active group.
      begin: int32 `[B]`, the first position that is generated.
      log_probs: float32 `[K, B, L]`, of proposed tokens under the law that they were drawn from; 0 elsewhere.
      noise: float32 `[B, K]`, Gumbel noise that is used for nothing else.
    """

    tokens: jax.Array
    known: jax.Array
    begin: jax.Array
    log_probs: jax.Array
    noise: jax.Array


class Resample(Part, abc.ABC):
    """Picks a proposal. Subclasses are frozen dataclasses; all methods are pure.

    Attributes:
      number: K.
      least_vocabulary: tokens that its model knows; 0 for any.
    """

    number: int
    least_vocabulary: int = 0

    def due(self, masked: jax.Array, knobs: Knobs) -> jax.Array:
        """Which rows resample in a step, bool `[B]`; `masked` is the share of the canvas that is, float32 `[B]`."""
        return jnp.ones(masked.shape, bool)

    @abc.abstractmethod
    def pick(self, params: Params, proposals: Proposals, due: jax.Array, knobs: Knobs) -> jax.Array:
        """The proposal that each row takes, int32 `[B]`; of rows that are not due, nothing is asked.

        Args:
          params: the rule's own; None without weights.
          proposals: the first of them is what the row would take without a rule.
          due: bool `[B]`, rows that are still decoded and resample in this step.
          knobs: traced settings.
        """
