"""Draft lengths that the caller gives.

Legend: B rows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Rows
from jaxdec.model import Params
from jaxdec.sampling import is_traced
from jaxdec.speculative.lengths.contract import Acceptance, Ladder, LengthRule


@dataclasses.dataclass(frozen=True)
class Given(LengthRule):
    """See `given`."""

    name: str = "length"

    def check_params(self, params: Params | None, ladder: Ladder) -> None:
        """Raises `ValueError` for what is no place in the ladder."""
        if is_traced(params):
            return
        place, last = np.asarray(params), len(ladder.drafts) - 1
        whole = place.shape == () and np.issubdtype(place.dtype, np.integer)
        if not whole or not 0 <= place <= last:
            raise ValueError(
                f"params[{self.name!r}] must be one integer in [0, {last}], a place in the lengths {ladder.drafts}, "
                f"got {params!r}"
            )

    def choose(
        self, params: Params | None, acceptance: Acceptance, rows: Rows, ladder: Ladder
    ) -> jax.Array:
        """The place that the parameters hold, for all rows."""
        return jnp.broadcast_to(jnp.asarray(params, jnp.int32), rows.length.shape)


def given(name: str = "length") -> Given:
    """All rows draft what the caller says; another length compiles nothing.

    Args:
      name: of the length in `params`: an integer, its place among the lengths in ascending order.

    Raises:
      ValueError: where the request is, for what is no such place.

    Exactness: a row's length depends on the caller alone.
    """
    return Given(name)
