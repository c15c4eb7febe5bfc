"""Any ordered partition."""

from collections.abc import Sequence

import numpy as np

from jaxdec.diffusion.schedules.schedule import Schedule


def partition(groups: Sequence[int] | np.ndarray) -> Schedule:
    """Any ordered partition of the generated positions.

    Args:
      groups: int `[N]`, the group of each position: 0 to G - 1, all of them used.

    Raises:
      ValueError: if a group is missing.
    """
    table = np.asarray(groups)
    if table.ndim != 1 or not table.size or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"groups must be integers [N], got {table.dtype} {list(table.shape)}")
    used = np.unique(table)
    if not np.array_equal(used, np.arange(len(used))):
        missing = sorted(set(range(int(table.max()) + 1)) - set(used.tolist()))
        raise ValueError(f"groups must be 0, ..., G - 1, all used; found {used[0]}, no {missing}")
    return Schedule(table=tuple(table.tolist()))
