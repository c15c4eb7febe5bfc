"""Which of the requests that wait is taken next.

Legend: Q places, B slots.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows
from jaxdec.generation.requests.waiting import Waiting


@dataclasses.dataclass(frozen=True)
class Policy(abc.ABC):
    """The order in which requests are taken: by priority, then as a subclass says, then by arrival."""

    @abc.abstractmethod
    def cost(self, waiting: Waiting, rows: Rows, budget: jax.Array) -> jax.Array:
        """What decides among requests of one priority, int32 `[Q]`: the least goes first.

        Args:
          waiting: the queue.
          rows: of the slots.
          budget: int32 `[B]`, new tokens of each slot's request at most.
        """

    def pick(self, waiting: Waiting, rows: Rows, budget: jax.Array) -> jax.Array:
        """The place of the next request, int32 `[]`; any if nobody waits."""
        left = waiting.there
        cost = self.cost(waiting, rows, budget)
        for key in (-waiting.priority, cost, waiting.arrival):
            best = jnp.min(jnp.where(left, key, jnp.iinfo(jnp.int32).max))
            left &= key == best
        return jnp.argmax(left).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class FirstCome(Policy):
    """First come, first served: what Flover does with requests that arrive while others run (2305.13484)."""

    def cost(self, waiting: Waiting, rows: Rows, budget: jax.Array) -> jax.Array:
        """The same for all."""
        return jnp.zeros_like(waiting.ids)


@dataclasses.dataclass(frozen=True)
class ShortestFirst(Policy):
    """The request of the fewest tokens, prompt and budget, goes first: the least mean wait; long ones may starve."""

    def cost(self, waiting: Waiting, rows: Rows, budget: jax.Array) -> jax.Array:
        """Tokens of the request."""
        return waiting.work


@dataclasses.dataclass(frozen=True)
class SameRemaining(Policy):
    """EXSPEC's grouping: the request that has as many tokens to go as the rows that run, of a window of the oldest.

        cost = | max_new_tokens - mean_b (max_new_tokens_b - generated_b) |

    so that rows which run together draft as many tokens and end together. In the paper a group must have equal lengths,
    since its caches are stacked without padding; here rows are ragged anyway, and what is left of the idea is this
    order. Any order gives the same tokens.

    Attributes:
      window: W, requests that are looked at, by arrival.

    Source: Batch Speculative Decoding Done Right (EXSPEC), 2510.22876.
    """

    window: int = 32

    def cost(self, waiting: Waiting, rows: Rows, budget: jax.Array) -> jax.Array:
        """How far the request is from the rows."""
        order = jnp.where(waiting.there, waiting.arrival, jnp.iinfo(jnp.int32).max)
        rank = (order[None] < order[:, None]).sum(1)
        left = budget - (rows.length - rows.prompt_length)
        running = rows.running.sum()
        mean = jnp.where(rows.running, left, 0).sum() // jnp.maximum(running, 1)
        apart = jnp.abs(waiting.request.settings.max_new_tokens - mean)
        apart = jnp.where(running > 0, apart, 0)
        return jnp.where(rank < self.window, apart, jnp.iinfo(jnp.int32).max).astype(jnp.int32)
