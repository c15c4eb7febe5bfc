"""What drafters for any-subset requests share.

Legend: B rows, V vocabulary.
"""

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.speculative import Context, Drafter


class AnySubsetDrafter(Drafter):
    """A drafter that needs an order of generation."""

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a causal request, or missing parameters."""
        super().check(request, params)
        if request.order is None:
            raise ValueError(
                f"{type(self).__name__} drafts for an any-subset request; use jaxdec.infill"
            )


def checked_width(width: int) -> int:
    """The width, if a draft of it can pay."""
    if width < 2:
        raise ValueError(
            f"width must be at least 2, got {width}: with less, a draft costs more than it gives"
        )
    return width


def upcoming(context: Context, count: int) -> tuple[jax.Array, jax.Array]:
    """Ranks `[B, count]` of the next tokens, and which of them the row still has to emit."""
    ahead = jnp.arange(count)
    return context.rows.length[:, None] + ahead, ahead < context.remaining[:, None]
