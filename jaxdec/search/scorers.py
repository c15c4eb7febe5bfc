"""Scores of hypotheses: what a part of its own, or the model itself, thinks of a row's past.

Legend: B rows, L buffer width, D width of states.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.model import Inputs, Model, Params, score
from jaxdec.search.contract import Pool, Scorer


@dataclasses.dataclass(frozen=True)
class LogProb(Scorer):
    """The log-probability of the new tokens, or its mean over them."""

    mean: bool = False

    def score(
        self, params: Params, model: Model, target: Params, cache: Any, rows: Rows, pool: Pool
    ) -> jax.Array:
        """See `Scorer`."""
        new = jnp.maximum(rows.length - rows.prompt_length, 1)
        return pool.log_probs / new if self.mean else pool.log_probs


@dataclasses.dataclass(frozen=True)
class OfTokens(Scorer):
    """A function of the tokens alone, `function(tokens [B, L], prompt_length [B], length [B]) -> [B]`."""

    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

    def score(
        self, params: Params, model: Model, target: Params, cache: Any, rows: Rows, pool: Pool
    ) -> jax.Array:
        """See `Scorer`."""
        found = self.function(rows.tokens, rows.prompt_length, rows.length)
        return jnp.asarray(found, jnp.float32)


@dataclasses.dataclass(frozen=True)
class OfHidden(Scorer):
    """A head on the target's state after the last token, `head(params, hidden [B, D]) -> [B]`: a reward, a value.

    Costs a forward of one token where segments end: the last token of a row has not been scored yet.
    """

    head: Callable[[Params, jax.Array], jax.Array]
    name: str = "reward"
    forwards: int = 1

    def score(
        self, params: Params, model: Model, target: Params, cache: Any, rows: Rows, pool: Pool
    ) -> jax.Array:
        """See `Scorer`."""
        inputs = Inputs.causal(rows.pending[:, None], rows.length - 1)
        output = score(model, target, inputs, cache, rows.order)
        return jnp.asarray(self.head(params, output.hidden[:, 0]), jnp.float32)


def log_prob(mean: bool = False) -> Scorer:
    """The log-probability of a row's new tokens under the law that they were drawn from.

        score = sum_t log p(x_t | x_{<t}),   or its mean over t

    Args:
      mean: whether it is divided by the number of new tokens.
    """
    return LogProb(mean)


def of_tokens(function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Scorer:
    """A score from the tokens alone: a checker, a potential, a count.

    Args:
      function: `function(tokens [B, L], prompt_length [B], length [B]) -> [B]`, traced; rows do not depend on one
        another, and tokens at and after `length` are zeros. A part of the compiled program: give the same one each
        time.

    Raises:
      ValueError: for what is no function.
    """
    if not callable(function):
        raise ValueError(f"function must be callable, got {type(function).__name__}")
    return OfTokens(function)


def of_hidden(head: Callable[[Params, jax.Array], jax.Array], name: str = "reward") -> Scorer:
    """A head's score of the target's state after a row's last token: a process reward, a value.

    Args:
      head: `head(params, hidden [B, D]) -> [B]`, traced; a reward r in (0, 1) as its logit.
      name: under which its parameters stand beside the target's.

    Raises:
      ValueError: for what is no function.
    """
    if not callable(head):
        raise ValueError(f"head must be callable, got {type(head).__name__}")
    return OfHidden(head, name)
