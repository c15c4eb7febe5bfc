"""What is asked of a decoder: prompts and traced settings.

Legend: B rows, P prompt width.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.cache import Cache
from jaxdec.decoding.stops import RowStops, Stops
from jaxdec.model import Model, Order
from jaxdec.sampling import Warp, as_array, is_traced, over_rows, shown


@dataclasses.dataclass(frozen=True)
class Knob:
    """A traced setting that a decoder declares under a name in its `knobs`; `generate` takes it by that name.

    Attributes:
      default: for requests that do not set it.
      low: the least value.
      high: the largest one.
      integer: whether it is an int32 rather than a float32.
    """

    default: float
    low: float = -np.inf
    high: float = np.inf
    integer: bool = False

    def checked(self, name: str, value: Any, batch: int, hypotheses: int = 1) -> Any:
        """One value a row, `[batch hypotheses]`; a traced one is checked by shape and type alone.

        Raises:
          ValueError: if a value is out of its limits, or there is neither one nor one a prompt nor one a row.
        """
        value = self.default if value is None else value
        known = not is_traced(value)
        given = as_array(name, value, "an integer" if self.integer else "a number")
        kinds = (np.integer,) if self.integer else (np.integer, np.floating)
        if value is not self.default and not any(jnp.issubdtype(given.dtype, k) for k in kinds):
            kind = "an integer" if self.integer else "a number"
            raise ValueError(f"{name} must be {kind}, got {shown(value)}")
        rows = batch * hypotheses
        if given.shape not in ((), (batch,), (rows,)):
            each = f" or {rows}" if hypotheses > 1 else ""
            raise ValueError(
                f"{name} must be one value or {batch}{each}, got shape {list(given.shape)}"
            )
        dtype = np.int32 if self.integer else np.float32
        if not known:
            return over_rows(given.astype(dtype), 0, batch, hypotheses)
        high = min(self.high, np.iinfo(np.int32).max) if self.integer else self.high
        legal = (given >= self.low) & (given <= high)
        if not legal.all():
            raise ValueError(
                f"{name} must lie in [{self.low:g}, {high:g}], got {given[~legal].reshape(-1)[0]}"
            )
        return over_rows(given.astype(dtype), 0, batch, hypotheses)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Settings:
    """The traced settings of a request; a change of any value compiles nothing.

    Attributes:
      warp: the sampling pipeline.
      max_new_tokens: int32 `[B]`.
      stops: what ends a row.
      knobs: `[B]` each, those that the decoder itself declares (`Knob`).
      stop_state: int32 `[B]`, where each row begins in the automaton of its stop strings; None if there are none.
      row_stops: what ends each row beside that; None if rows have none of their own.
    """

    warp: Warp
    max_new_tokens: jax.Array
    stops: Stops
    knobs: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
    stop_state: Any = None
    row_stops: RowStops | None = None

    def ends(self, tokens: jax.Array) -> jax.Array:
        """Which of `tokens [B, W]` end their row by themselves, bool."""
        ends = (tokens[:, :, None] == self.stops.eos).any(-1)
        return ends if self.row_stops is None else ends | self.row_stops.ends(tokens)

    @property
    def longest_stop(self) -> int:
        """K, tokens of a stop sequence at most; static."""
        own = 0 if self.row_stops is None else self.row_stops.sequences.shape[2]
        return max(self.stops.sequences.shape[1], own)

    def completed(self, before: jax.Array, fresh: jax.Array, chunk: jax.Array) -> jax.Array:
        """Where a stop sequence is completed; see `Stops.completed`. `before` holds `longest_stop - 1` tokens."""
        completed = self.stops.completed(before, fresh, chunk)
        if self.row_stops is None:
            return completed
        return completed | self.row_stops.completed(before, fresh, chunk)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Request:
    """Checked, padded arguments of a decoder's `init`.

    Attributes:
      prompt: int32 `[B, P]`, right-padded.
      lengths: int32 `[B]`, prompt tokens, at least 1.
      settings: the traced settings.
      order: of generation, the prompt in its first ranks; None for causal decoding.
      capacity: tokens a row can hold, static.
      longest: a bound on the tokens of every row at its end, static; 0 for `capacity`.
      hypotheses: H, rows of each prompt, static; hypothesis h of prompt p is row p H + h.
      top_log_probs: K, how many of the most probable tokens are recorded beside each token; static.
      cache: from the empty cache of a model to the one that is used, such as one that rounds; static, compared by
        value. None for the models' own.
      read: what the target has read of the prompts already, a `jaxdec.decoding.Reading` of all of them; None if
        `init` reads them.
    """

    prompt: jax.Array
    lengths: jax.Array
    settings: Settings
    order: Order | None = None
    read: Any = None
    capacity: int = dataclasses.field(default=0, metadata={"static": True})
    longest: int = dataclasses.field(default=0, metadata={"static": True})
    hypotheses: int = dataclasses.field(default=1, metadata={"static": True})
    top_log_probs: int = dataclasses.field(default=0, metadata={"static": True})
    cache: Callable[[Any], Cache] | None = dataclasses.field(
        default=None, metadata={"static": True}
    )

    def new_cache(self, model: Model, batch: int | None = None) -> Any:
        """An empty cache of `capacity` slots for a model of this request: the one place where decoders get theirs.

        Args:
          model: the target, or a drafter's own.
          batch: rows; those of the prompt if not given.
        """
        batch = self.prompt.shape[0] if batch is None else batch
        cache = model.init_cache(batch, self.capacity)
        return cache if self.cache is None else self.cache(cache)
