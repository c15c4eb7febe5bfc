"""What the slot engine holds on the device, and what it gives back.

Everything has a leading axis that divides over groups of devices: slots, places of the queue, and, for what there is
one of, the group itself (a *lane*). Legend: B slots, Q places, N places of the output ring, L buffer width.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Reading, Record, Rows, with_rows
from jaxdec.generation.requests.waiting import NOBODY, Waiting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """What a lane did in a run, int32 `[1]` each.

    Attributes:
      steps: of the decoder.
      busy: rows that ran, summed over steps: `busy / (steps B)` is the occupancy.
      reads: chunks of prompts (or whole prompts, of decoders that read them at once).
      inserted: requests that got a slot.
    """

    steps: jax.Array
    busy: jax.Array
    reads: jax.Array
    inserted: jax.Array

    @classmethod
    def start(cls) -> "Counts":
        """Nothing yet."""
        return cls(*(jnp.zeros((1,), jnp.int32) for _ in dataclasses.fields(cls)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """Rows that decode, each on behalf of a request.

    Attributes:
      state: the decoder's, of B rows.
      record: of the rows, each since its request got the slot.
      ids: int32 `[B]`; `NOBODY` for a free slot.
      keys: `[B]`.
      budget: int32 `[B]`, new tokens that the request may have.
      deadline: int32 `[B]`, the engine's step at which the row ends.
      started: int32 `[B]`, the engine's step at which the request got the slot.
    """

    state: Any
    record: Record
    ids: jax.Array
    keys: jax.Array
    budget: jax.Array
    deadline: jax.Array
    started: jax.Array

    @property
    def rows(self) -> Rows:
        """The decoder's rows."""
        return self.state.rows

    @property
    def free(self) -> jax.Array:
        """bool `[B]`."""
        return self.ids == NOBODY

    @property
    def ended(self) -> jax.Array:
        """Slots whose request has ended, bool `[B]`."""
        return ~self.free & ~self.rows.running

    def end(self, which: jax.Array, status: jax.Array | int) -> "Slots":
        """Ends some of the running rows, bool `[B]`, with a status."""
        rows = self.rows
        code = jnp.where(which & rows.running, jnp.int32(status), rows.status)
        return dataclasses.replace(
            self, state=with_rows(self.state, dataclasses.replace(rows, status=code))
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EngineState:
    """The engine between two runs; a pytree of arrays.

    Attributes:
      slots: rows that decode.
      queue: requests that wait.
      staged: the one whose prompt is being read, or was and waits for a slot, `[1]`.
      reading: what was read of it, `[1]`; None for decoders that read a prompt at once.
      prefixes: what was read of beginnings that several prompts have, the first one empty; None likewise.
      clock: int32 `[1]`, steps of the engine.
      counts: what was done in the last run.
    """

    slots: Slots
    queue: Waiting
    staged: Waiting
    reading: Reading | None
    prefixes: Reading | None
    clock: jax.Array
    counts: Counts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Finished:
    """The output ring of one run: requests that ended, in the order in which they did.

    Attributes:
      ids: int32 `[N]`; `NOBODY` behind the last.
      tokens: int32 `[N, L]`, prompt and generated tokens.
      lengths: int32 `[N]`.
      prompt_lengths: int32 `[N]`.
      status: int32 `[N]`.
      record: of each row.
      started: int32 `[N]`, the engine's step at which the request got a slot.
      ended: int32 `[N]`, that at which it ended.
      count: int32 `[1]`, requests in the ring.
    """

    ids: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    prompt_lengths: jax.Array
    status: jax.Array
    record: Record
    started: jax.Array
    ended: jax.Array
    count: jax.Array

    @classmethod
    def start(cls, slots: Slots, size: int) -> "Finished":
        """An empty ring of N places."""
        rows = slots.rows
        empty = lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype)
        number = jnp.zeros((size,), jnp.int32)
        return cls(
            ids=number + NOBODY,
            tokens=empty(rows.tokens),
            lengths=number,
            prompt_lengths=number,
            status=number,
            record=jax.tree.map(empty, slots.record),
            started=number,
            ended=number,
            count=jnp.zeros((1,), jnp.int32),
        )

    def add(self, slots: Slots, clock: jax.Array) -> tuple["Finished", jax.Array]:
        """Takes in the requests that ended, as many as there is room for.

        Returns:
          The ring, and the slots that are free now, bool `[B]`.
        """
        ended, rows, size = slots.ended, slots.rows, self.ids.shape[0]
        place = self.count + jnp.cumsum(ended, dtype=jnp.int32) - 1
        place = jnp.where(ended, place, size)
        put: Any = lambda old, new: old.at[place].set(new, mode="drop")
        gone = ended & (place < size)
        ring = Finished(
            ids=put(self.ids, slots.ids),
            tokens=put(self.tokens, rows.tokens),
            lengths=put(self.lengths, rows.length),
            prompt_lengths=put(self.prompt_lengths, rows.prompt_length),
            status=put(self.status, rows.status),
            record=jax.tree.map(put, self.record, slots.record),
            started=put(self.started, slots.started),
            ended=put(self.ended, jnp.broadcast_to(clock, ended.shape)),
            count=self.count + gone.sum(dtype=jnp.int32),
        )
        return ring, gone
