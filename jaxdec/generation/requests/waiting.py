"""Requests that wait for a slot, on the device.

Legend: Q places, each of one request of one row.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request, by_row
from jaxdec.sampling import Purpose, key_at

NEVER = 2**30
"""A step that is never reached: the deadline of a request without one."""
NOBODY = -1
"""The id of no request: an empty place, or a free slot."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Waiting:
    """Requests, one a place.

    Attributes:
      request: their prompts and settings, a row a place.
      keys: `[Q]`, those of the prompts.
      sample: int32 `[Q]`, which of the samples of its prompt: the first draws with the prompt's own key, the others
        with folds of it, as hypotheses do (`sampling.row_keys`).
      ids: int32 `[Q]`, `NOBODY` for an empty place.
      arrival: int32 `[Q]`, counted up from request to request.
      priority: int32 `[Q]`; the higher goes first.
      deadline: int32 `[Q]`, the engine's step at which the request ends, wherever it is; `NEVER` for none.
      group: int32 `[Q]`: requests that have the same prompt have the same number, and it is read once for those that
        are taken one behind the other; -1 for a prompt of its own.
      prefix: int32 `[Q]`, which of the prefixes that were read before the prompt begins with; 0 for none.
    """

    request: Request
    keys: jax.Array
    sample: Any
    ids: Any
    arrival: Any
    priority: Any
    deadline: Any
    group: Any
    prefix: Any

    @classmethod
    def nobody(cls, request: Request, key: jax.Array) -> "Waiting":
        """An empty place, `[1]`.

        Args:
          request: of one row, with everything that requests may set.
          key: any.
        """
        number = lambda value: jnp.full((1,), value, jnp.int32)
        return cls(
            request=request,
            keys=key[None],
            sample=number(0),
            ids=number(NOBODY),
            arrival=number(0),
            priority=number(0),
            deadline=number(NEVER),
            group=number(-1),
            prefix=number(0),
        )

    @property
    def there(self) -> jax.Array:
        """Which places hold a request, bool `[Q]`."""
        return self.ids != NOBODY

    @property
    def work(self) -> jax.Array:
        """Tokens of each request, its prompt's and those that it may generate, int32 `[Q]`."""
        return self.request.lengths + self.request.settings.max_new_tokens

    @property
    def row_keys(self) -> jax.Array:
        """The keys that requests draw with, `[Q]`."""
        others = key_at(self.keys, Purpose.HYPOTHESIS, self.sample)
        return jnp.where(self.sample > 0, others, self.keys)

    def at(self, place: jax.Array) -> "Waiting":
        """The request of one place, `[1]`."""
        take = lambda x: jax.lax.dynamic_index_in_dim(x, place, axis=0)
        return by_row(self, take, lambda stops: stops)

    def without(self, gone: jax.Array) -> "Waiting":
        """Some places emptied, bool `[Q]`."""
        return dataclasses.replace(self, ids=jnp.where(gone, NOBODY, self.ids))

    def push(self, others: "Waiting") -> "Waiting":
        """Puts the requests of `others`, those that are there, into empty places; the caller sees to it that they fit.

        Args:
          others: M places, those that hold a request before those that do not.
        """
        size, places = others.ids.shape[0], self.ids.shape[0]
        empty = jnp.argsort(self.there, stable=True)  # empty places first
        empty = jnp.pad(empty[:size], (0, max(size - places, 0)))
        fits = jnp.arange(size) < (~self.there).sum()
        place = jnp.where(others.there & fits, empty, places)
        stops = self.request.settings.stops
        old, new = (by_row(tree, lambda x: x, lambda _: None) for tree in (self, others))
        put: Any = lambda x, y: x.at[place].set(y, mode="drop")
        joined = jax.tree.map(put, old, new)
        settings = dataclasses.replace(joined.request.settings, stops=stops)
        return dataclasses.replace(
            joined, request=dataclasses.replace(joined.request, settings=settings)
        )
