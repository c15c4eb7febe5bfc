"""The contract of beam rules: which continuations of a prompt's hypotheses go on.

Legend: P prompts, H hypotheses of a prompt, G groups of W = H / G hypotheses, V vocabulary, K choices of a group.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part
from jaxdec.model import Params
from pallas_kernels import top_k


@dataclasses.dataclass(frozen=True)
class Continuations:
    """All one-token continuations of the hypotheses of each prompt.

    Attributes:
      law: float32 `[P, H, V]`, log-probabilities of the next token; -inf throughout for a hypothesis that has ended or
        whose law is not finite.
      scores: float32 `[P, H]`; -inf for a hypothesis that does not exist.
      running: bool `[P, H]`.
      new: int32 `[P, H]`, new tokens of each hypothesis.
      length: int32 `[P, H]`, all tokens of each: the position of the next one.
      ends: of tokens `[P, ...]`, bool: which end a hypothesis by themselves.
      knobs: the rule's own settings, `[P]` each.
      keys: a key a hypothesis `[P, H]`; the first is the prompt's own.
      own: what the rule keeps of each hypothesis, a pytree of arrays `[P, H, ...]`.
    """

    law: jax.Array
    scores: jax.Array
    running: jax.Array
    new: jax.Array
    length: jax.Array
    ends: Callable[[jax.Array], jax.Array]
    knobs: dict[str, jax.Array]
    keys: jax.Array
    own: Any = ()


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best continuations of each group, best first.

    Attributes:
      source: int32 `[P, G, K]`, the hypothesis of the prompt, 0 to H - 1, that is continued.
      token: int32 `[P, G, K]`.
      score: float32 `[P, G, K]`; -inf for what is no continuation.
      own: as in `Continuations`, of each choice, `[P, G, K, ...]`.
    """

    source: jax.Array
    token: jax.Array
    score: jax.Array
    own: Any = ()


class BeamRule(Part, abc.ABC):
    """How continuations are scored, and which are chosen.

    Attributes:
      groups: G, which end each by itself; static.
      sets_aside: whether hypotheses that end are set aside, and the best of them are the result; else they keep their
        places among the hypotheses as their own only continuations, and there is one group.
      draws: whether the choice depends on keys; static.
    """

    groups: int = 1
    sets_aside: bool = True
    draws: bool = False

    def start(self, scores: jax.Array) -> Any:
        """What the rule keeps of each hypothesis at the beginning, arrays `[B, ...]`."""
        return ()

    @abc.abstractmethod
    def choose(self, params: Params, seen: Continuations, count: int) -> Choice:
        """The `count` best continuations of each group.

        Args:
          params: the part's own.
          seen: all continuations.
          count: K, at most W V; static. W where hypotheses keep their places.
        """


def best_of(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The highest of the scores of continuations: `(score, source, token)`, `[..., K]` each, lower places first.

    Args:
      scores: float32 `[..., W, V]`.
      count: K, at most W V; static.
    """
    width, size = scores.shape[-2:]
    # Of each hypothesis first: a vocabulary that is split over devices is then not sent.
    values, tokens = top_k(scores, min(count, size))
    each = values.shape[-1]
    flat = lambda x: x.reshape(*x.shape[:-2], width * each)
    score, at = jax.lax.top_k(flat(values), count)
    token = jnp.take_along_axis(flat(tokens), at, axis=-1).astype(jnp.int32)
    return score, (at // each).astype(jnp.int32), token
