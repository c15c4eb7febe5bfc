"""Schedules: in which order the positions of a canvas are decoded, as an ordered partition into groups.

All positions of a group are decoded together, in as many steps as the policy takes; the next group begins when the last
position of a group is committed. One group is the whole canvas, groups of one are autoregressive decoding.

Legend: B rows, L positions of a canvas, N generated positions, G groups.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Schedule:
    """An ordered partition; made by `whole`, `blocks` or `partition`.

    Attributes:
      size: positions of a group, for equal groups; None for one group.
      unit: positions of a block that holds whole groups: what attention and caches go by.
      from_start: whether groups are counted from the start of the sequence rather than from the end of the prompt. The
        rest of a block that the prompt begins is then the first group.
      table: the group of each generated position, for partitions that are given.
    """

    size: int | None = None
    unit: int | None = None
    from_start: bool = False
    table: tuple[int, ...] | None = None

    def check(self, budget: int) -> None:
        """Raises `ValueError` if a partition has fewer positions than a row asks for."""
        if self.table is not None and budget > len(self.table):
            raise ValueError(
                f"the schedule has {len(self.table)} positions, a row asks for {budget}"
            )

    def assign(self, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """The group and the unit of every position.

        Args:
          prompt: int32 `[B]`, positions of the prompt.
          length: L.

        Returns:
          int32 `[B, L]` each, from 0 on; -1 for positions of the prompt that lie in no group.
        """
        places = jnp.broadcast_to(jnp.arange(length), (prompt.shape[0], length))
        if not self.from_start:
            places = places - prompt[:, None]
        inside = places >= 0
        if self.table is not None:
            table = jnp.asarray(self.table, jnp.int32)
            groups = table[jnp.clip(places, 0, len(self.table) - 1)]
            units = groups
        else:
            groups = jnp.zeros_like(places) if self.size is None else places // self.size
            units = groups if self.unit is None else places // self.unit
        return jnp.where(inside, groups, -1), jnp.where(inside, units, -1)

    def largest(self, room: int) -> tuple[int, int]:
        """The most positions that a group, and a unit, of a canvas with `room` generated ones has."""
        if self.table is not None:
            most = int(np.bincount(self.table).max())
            return most, most
        group = room if self.size is None else self.size
        return group, self.unit or group
