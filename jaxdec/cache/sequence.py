"""Slots over devices: a cache of which each device along a mesh axis holds a part.

Slot g lies on device `(g // turn) % n`: devices take turns of a few slots, so that a cache that is half full is half
full everywhere, and each device's own slots are filled in their order. A turn is what a chip writes at a time.

It lives inside a `jax.shard_map` that is manual over the axis. Every operation is called on all devices with the same
arguments, those of the whole cache, and each changes what it holds; none communicates. What attends to it does
(`pallas_kernels.span_attention.Split`).

Legend: B rows, S slots in all, n devices, A tokens of an accepted path.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxdec.cache.contract import Cache
from jaxdec.cache.recurrent import RecurrentCache
from pallas_kernels.span_attention import Form, Split, check_form, own_turns

TURN = 16
"""The most slots of a turn: rows of one tile of bfloat16."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SequenceCache:
    """A cache whose slots are split over devices; see `jaxdec.cache.Cache`.

    Attributes:
      local: what this device holds: a cache of `S / n` slots; its own length is not used.
      length: int32 `[B]`, committed tokens on all devices.
      capacity: S; static.
      devices: n; static.
      axis: name of the mesh axis; static.
      form: how attention goes over the devices, see `pallas_kernels.span_attention.Split`; static.
    """

    local: Any
    length: jax.Array
    capacity: int = dataclasses.field(metadata={"static": True})
    devices: int = dataclasses.field(metadata={"static": True})
    axis: str = dataclasses.field(metadata={"static": True})
    form: Form = dataclasses.field(default="gather", metadata={"static": True})

    @classmethod
    def split(cls, cache: Cache, axis: str, devices: int, form: Form = "gather") -> Any:
        """An empty cache as one that is split over devices.

        The arrays of the cache have slots as their third axis if there are four, else as their second, as those of
        `KVCache` and of what rounds it.

        Args:
          cache: empty, of S slots a row.
          axis: name of the mesh axis.
          devices: n, along it.
          form: how attention goes over the devices.

        Returns:
          A `SequenceCache`; a `RecurrentCache`, whose states have no slots, as it is.

        Raises:
          ValueError: if the slots do not divide over the devices, an array has no axis of S slots, or there is no such
            form.
        """
        check_form(form)
        if isinstance(cache, RecurrentCache):
            return cache
        capacity = cache.capacity
        if devices < 1 or capacity % devices:
            raise ValueError(
                f"{capacity} slots do not divide over {devices} devices along {axis!r}"
            )

        def first(x: jax.Array) -> jax.Array:
            at = _slot_axis(x)
            if at is None:
                return x
            if x.shape[at] != capacity:
                raise ValueError(
                    f"an array {list(x.shape)} of a {type(cache).__name__} has no {capacity} slots on axis {at}"
                )
            return jax.lax.slice_in_dim(x, 0, capacity // devices, axis=at)

        local = jax.tree.map(first, cache)
        return cls(local, cache.length, capacity, devices, axis, form)

    @property
    def turn(self) -> int:
        """Slots in a row on one device: the largest power of two, up to `TURN`, that divides its slots."""
        return math.gcd(self.capacity // self.devices, TURN)

    @property
    def layers(self) -> int:
        """Layers."""
        return self.local.layers

    def specs(self, rows: str | None = None) -> "SequenceCache":
        """The partition of each array over a mesh: slots over this axis, rows over another.

        Args:
          rows: name of the mesh axis that rows are split over; None if they are not.
        """

        def spec(x: Any) -> P:
            at = _slot_axis(x)
            return P(rows) if at is None else P(rows, *(None,) * (at - 1), self.axis)

        return jax.tree.map(spec, self)

    def read(self, layer: int) -> Split:
        """This device's keys of a layer, as a part of all keys."""
        return Split(self.local.read(layer), self.axis, self.form, self.turn)

    def commit(
        self, entries: Any, index: jax.Array, count: jax.Array, key_spans: jax.Array
    ) -> "SequenceCache":
        """Appends an accepted path to each row at the row's own length; each device writes O(A / n).

        Args:
          entries: of T new tokens, `KVEntries`.
          index: int32 `[B, A]`, which new tokens, in path order.
          count: int32 `[B]`, how many of them, 0 to A.
          key_spans: int32 `[B, A, 2]`, the spans that the stored tokens live over from now on.
        """
        width = index.shape[1]
        count = jnp.where(self.length + width <= self.capacity, count, 0)
        # What follows a row's length on this device, as many slots as a path can have here.
        most = min(width, -(-width // (self.turn * self.devices)) * self.turn)
        slots = self._below(self.length)[:, None] + jnp.arange(most, dtype=jnp.int32)
        place = self._global(slots) - self.length[:, None]
        stored = place < count[:, None]
        place = jnp.minimum(place, width - 1)
        taken = entries.at(jnp.take_along_axis(index, place, axis=1))
        spans = jnp.take_along_axis(key_spans, place[..., None], axis=1)
        local = self.local.write(taken, jnp.where(stored, slots, -1), spans)
        return dataclasses.replace(self, local=local, length=self.length + count)

    def write(self, entries: Any, slots: jax.Array, key_spans: jax.Array) -> "SequenceCache":
        """Overwrites chosen slots; lengths stay.

        Args:
          entries: of T new tokens.
          slots: int32 `[B, T]`, of the whole cache; a slot outside `[0, S)` is skipped. Slots of one row differ.
          key_spans: int32 `[B, T, 2]`.
        """
        turns = slots // self.turn
        mine = (slots >= 0) & (slots < self.capacity) & (turns % self.devices == self._device)
        here = turns // self.devices * self.turn + slots % self.turn
        local = self.local.write(entries, jnp.where(mine, here, -1), key_spans)
        return dataclasses.replace(self, local=local)

    def hide(self, slots: jax.Array) -> "SequenceCache":
        """The cache without some slots, bool `[B, S]`; entries are not touched."""
        return dataclasses.replace(
            self, local=self.local.hide(own_turns(slots, self.axis, self.turn))
        )

    def renumber(self, change: Callable[[jax.Array], jax.Array]) -> "SequenceCache":
        """The cache with other spans; entries are not touched."""
        return dataclasses.replace(self, local=self.local.renumber(change))

    def rows(self, index: jax.Array) -> "SequenceCache":
        """Row `index [N]` in place of each row."""
        return dataclasses.replace(self, local=self.local.rows(index), length=self.length[index])

    def back_to(self, length: jax.Array) -> "SequenceCache":
        """The first `length [B]` tokens of each row alone, on all devices."""
        local = self.local.back_to(self._below(length))
        return dataclasses.replace(self, local=local, length=jnp.minimum(self.length, length))

    def commit_share(self, entries: Any, count: jax.Array, key_spans: jax.Array) -> "SequenceCache":
        """Fills an empty cache with the first tokens of each row, of which each device has those that it will hold.

        Args:
          entries: of this device's share of T tokens, `own_turns` of them in turns of `turn`.
          count: int32 `[B]`, tokens of each row, 0 to T.
          key_spans: int32 `[B, T / n, 2]`, likewise.
        """
        slots = jnp.arange(key_spans.shape[1], dtype=jnp.int32)
        stored = self._global(slots) < count[:, None]
        local = self.local.write(entries, jnp.where(stored, slots, -1), key_spans)
        return dataclasses.replace(self, local=local, length=jnp.asarray(count, jnp.int32))

    @property
    def _device(self) -> jax.Array:
        return jax.lax.axis_index(self.axis).astype(jnp.int32)

    def _below(self, length: jax.Array) -> jax.Array:
        """How many of the first `length [B]` slots lie on this device."""
        around = self.turn * self.devices
        rest = length % around - self._device * self.turn
        return length // around * self.turn + jnp.clip(rest, 0, self.turn)

    def _global(self, slots: jax.Array) -> jax.Array:
        """The slots of the whole cache that slots of this device are."""
        turns = slots // self.turn * self.devices + self._device
        return turns * self.turn + slots % self.turn


def _slot_axis(x: Any) -> int | None:
    return {2: 1, 3: 1, 4: 2}.get(x.ndim)
