"""What a search spends: a decoder that adds up the forwards of all rows of a prompt, whoever's past they go on with.

`Result.stats` follow a row's past where it takes that of another, so they say what an answer's own path cost.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec.decoding import Decoder, decode
from jaxdec.generation import Result
from jaxdec.generation.result import result
from jaxdec.model import Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spent:
    """A decoder's state, and what was spent so far, int32 `[B]` a row.

    Attributes:
      inner: the decoder's.
      target: forwards of the target in each row's place.
      draft: of the draft model.
      steps: of the loop while the row ran or waited.
    """

    inner: Any
    target: jax.Array
    draft: jax.Array
    steps: jax.Array

    def __getattr__(self, name: str) -> Any:
        """The inner state's."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


@dataclasses.dataclass(frozen=True)
class Metered:
    """A decoder with a meter; nothing else differs."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        """The decoder's."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def init(self, params: Params, request: Any) -> Spent:
        """Nothing is spent; prompts are not counted."""
        none = jnp.zeros(request.lengths.shape, jnp.int32)
        return Spent(self.inner.init(params, request), none, none, none)

    def step(self, params: Params, state: Spent, rng: jax.Array) -> tuple[Spent, Any]:
        """A step, and what it cost."""
        before = state.inner.rows.running
        after, info = self.inner.step(params, state.inner, rng)
        return Spent(
            after,
            state.target + info.target_forwards,
            state.draft + info.draft_forwards,
            state.steps + before,
        ), info


@dataclasses.dataclass(frozen=True)
class Run:
    """What was found and spent.

    Attributes:
      result: of the decoder.
      target: int `[P]`, forwards of the target, all rows of a prompt together.
      draft: int `[P]`, of the draft model.
      steps: int `[P]`, of the loop until the last row of a prompt had ended: they cannot run at once.
    """

    result: Result
    target: np.ndarray
    draft: np.ndarray
    steps: np.ndarray


def spend(
    decoder: Decoder, params: Params, prompt: Any, *, rng: Any, hypotheses: int = 1, **options: Any
) -> Run:
    """`generate`, metered.

    Args:
      decoder: of several hypotheses a prompt.
      params: parameters by part name.
      prompt: int `[P, L]`.
      rng: a key or seed.
      hypotheses: H.
      **options: further arguments of `generate`.
    """
    metered: Any = Metered(decoder)
    request = jaxdec.prepare(metered, params, prompt, hypotheses=hypotheses, **options)
    state, record = decode(metered, params, request, rng)
    each = lambda x: np.asarray(x).reshape(-1, hypotheses)
    return Run(
        result(state, record),
        each(state.target).sum(1),
        each(state.draft).sum(1),
        each(state.steps).max(1),
    )
