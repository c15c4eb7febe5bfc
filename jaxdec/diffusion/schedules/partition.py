"""Any ordered partition.

Legend: N generated positions, G groups.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Request
from jaxdec.diffusion.schedules.contract import Schedule
from jaxdec.diffusion.schedules.grid import MOST_CELLS
from jaxdec.model import Params
from jaxdec.sampling import as_array, is_traced, shown


@dataclasses.dataclass(frozen=True)
class Partition(Schedule):
    """See `partition`.

    Attributes:
      table: the group of each generated position; each group is a unit.
    """

    table: tuple[int, ...]

    @property
    def in_order(self) -> bool:
        """Whether the table only rises."""
        return bool((np.diff(self.table) >= 0).all())

    def edges(self, room: int) -> int:
        """Of the group that is in most pieces."""
        before = np.concatenate([[-1], self.table[:-1]])
        return int(np.bincount(np.asarray(self.table)[before != self.table]).max())

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` if there are fewer positions than a row asks for."""
        super().check(request, params)
        asked = request.settings.max_new_tokens
        if is_traced(asked):
            return
        if (budget := int(np.max(asked))) > len(self.table):
            raise ValueError(
                f"the schedule has {len(self.table)} positions, a row asks for {budget}"
            )

    def assign(self, params: Params, prompt: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        """As the table says, from the end of the prompt on."""
        places = (
            jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (prompt.shape[0], length))
            - prompt[:, None]
        )
        table = jnp.asarray(self.table, jnp.int32)
        groups = jnp.where(places >= 0, table[jnp.clip(places, 0, len(self.table) - 1)], -1)
        return groups, groups

    def largest(self, room: int) -> tuple[int, int]:
        """The largest group of the table."""
        most = int(np.bincount(self.table).max())
        return most, most


def checked_table(groups: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    """The table of an ordered partition; see `partition`."""
    table = as_array("groups", groups, "integers [N]")
    if table.ndim != 1 or not table.size or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"groups must be integers [N], got {table.dtype} {list(table.shape)}")
    if table.size > MOST_CELLS:
        raise ValueError(f"a schedule has at most {MOST_CELLS} positions, got {table.size}")
    used = np.unique(table)
    if not np.array_equal(used, np.arange(len(used))):
        missing = sorted(set(range(min(int(table.max()), table.size) + 1)) - set(used.tolist()))
        raise ValueError(
            f"groups must be 0, ..., G - 1, all used; found {used[0]}, no {shown(missing)}"
        )
    return tuple(table.tolist())


def partition(groups: Sequence[int] | np.ndarray) -> Partition:
    """Any ordered partition of the generated positions, into groups of any sizes.

    Args:
      groups: int `[N]`, the group of each position: 0 to G - 1, all of them used.

    Raises:
      ValueError: if a group is missing.
    """
    return Partition(checked_table(groups))
