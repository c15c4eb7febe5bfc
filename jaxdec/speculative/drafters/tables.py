"""What drafters without a model share.

Legend: T entries to be written.
"""

import jax
import jax.numpy as jnp

from jaxdec.decoding import Request
from jaxdec.model import Params
from jaxdec.speculative.contract import Drafter


class LeftToRight(Drafter):
    """A drafter that goes by what is adjacent in the text; one whose state depends on it has a `vocab_size`."""

    def check(self, request: Request, params: Params, vocab_size: int) -> None:
        """Raises `ValueError` for a request with an order, or a target of another vocabulary."""
        name, own = type(self).__name__, getattr(self, "vocab_size", vocab_size)
        if request.order is not None:
            raise ValueError(f"{name} drafts left to right, not in an order of the request")
        if own != vocab_size:
            raise ValueError(
                f"{name} was made for a vocabulary of {own}, the target has one of {vocab_size}"
            )


def last_of_each(keys: jax.Array, mask: jax.Array) -> jax.Array:
    """Which entries are the last of their key, bool `[T]`, so that each key is written once, by an entry that is named.

    Args:
      keys: int32 `[T]`.
      mask: bool `[T]`, the entries that count.
    """
    later = jnp.triu(keys[:, None] == keys, k=1) & mask
    return mask & ~later.any(1)
