"""Writes to a table at keys that may repeat.

Legend: T entries to be written.
"""

import jax
import jax.numpy as jnp


def last_of_each(keys: jax.Array, mask: jax.Array) -> jax.Array:
    """Which entries are the last of their key, bool `[T]`, so that each key is written once, by an entry that is named.

    Args:
      keys: int32 `[T]`.
      mask: bool `[T]`, the entries that count.
    """
    later = jnp.triu(keys[:, None] == keys, k=1) & mask
    return mask & ~later.any(1)
