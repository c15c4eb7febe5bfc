"""What steps cost, by load and draft length.

Legend: R numbers of rows, L draft lengths.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.sampling import is_traced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoadCosts:
    """Seconds of a step by rows and draft lengths; the seconds are traced, so that other ones compile nothing.

    Attributes:
      seconds: float32 `[R, L]`, in any unit.
      rows: R numbers of rows, ascending; static.
      lengths: L draft lengths, ascending; 0 is a step of plain decoding. Static.
      slots: rows of the batch of which `rows` were running; None if the batches had `rows` rows, all of them running.
        A step computes all rows of its batch, so that the two differ. Static.
    """

    seconds: jax.Array
    rows: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    lengths: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    slots: int | None = dataclasses.field(default=None, metadata={"static": True})

    @classmethod
    def of(
        cls,
        seconds: Any,
        rows: Sequence[int],
        lengths: Sequence[int],
        slots: int | None = None,
    ) -> "LoadCosts":
        """Checked costs.

        Args:
          seconds: `[R, L]`, positive.
          rows: R numbers of rows.
          lengths: L draft lengths.
          slots: see above.

        Raises:
          ValueError: for numbers that do not ascend, another shape, costs that are not positive and finite, or more
            rows than slots.
        """
        for name, values, least in (("rows", rows, 1), ("lengths", lengths, 0)):
            whole = all(isinstance(x, int | np.integer) for x in values)
            ascending = all(a < b for a, b in itertools.pairwise(values))
            if not (len(values) and whole and values[0] >= least and ascending):
                raise ValueError(
                    f"{name} must be ascending integers of at least {least}, got {list(values)}"
                )
        if slots is not None and slots < rows[-1]:
            raise ValueError(f"{rows[-1]} rows cannot run in {slots} slots")
        shape = len(rows), len(lengths)
        if is_traced(seconds):
            held = jnp.asarray(seconds, jnp.float32)
        else:
            known = np.asarray(seconds, np.float32)
            wrong = ~(np.isfinite(known) & (known > 0))
            if known.shape == shape and wrong.any():
                raise ValueError(f"seconds must be positive and finite, got {known[wrong][0]}")
            held = jnp.asarray(known)
        if held.shape != shape:
            raise ValueError(f"seconds must have shape {list(shape)}, got {list(held.shape)}")
        whole_numbers = lambda values: tuple(int(x) for x in values)
        return cls(
            held,
            whole_numbers(rows),
            whole_numbers(lengths),
            None if slots is None else int(slots),
        )

    def at(self, rows: jax.Array | int, lengths: Sequence[int]) -> jax.Array:
        """Costs float32 `[K]` of a step of `rows` rows (a scalar) for K of the lengths.

        Linear between the numbers of rows that were measured and beyond the largest; below the smallest the cost is
        that of the smallest.
        """
        columns = np.array([self.lengths.index(length) for length in lengths])
        seconds = self.seconds[:, columns]
        if len(self.rows) == 1:
            return seconds[0]
        known = jnp.asarray(self.rows, jnp.float32)
        load = jnp.maximum(jnp.asarray(rows, jnp.float32), known[0])
        above = jnp.clip(jnp.searchsorted(known, load), 1, len(self.rows) - 1)
        low, high = known[above - 1], known[above]
        share = (load - low) / (high - low)
        # Beyond the largest a noisy measurement may fall: never below what was measured there.
        share = jnp.where((seconds[above] >= seconds[above - 1]), share, jnp.minimum(share, 1))
        return seconds[above - 1] + share * (seconds[above] - seconds[above - 1])
