"""Blocks that run for some tokens alone, while the states of others pass them by.

Legend: B rows, T new tokens, D width, L layers.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.model import Inputs
from pallas_kernels.span_attention import Keys


def passed(
    block: Any, x: jax.Array, inputs: Inputs, earlier: tuple[Keys, ...], runs: jax.Array
) -> tuple[jax.Array, Any]:
    """States after a block that runs for some tokens, and the block's keys and values of all tokens.

        y = block(x) where it runs, else x;   keys and values of the states x, whether it runs or not

    Where it runs for no token of the batch, attention and feed-forward unit are not computed. For shares in place of
    choices y is `x + runs (block(x) - x)`, which is what routers learn by.

    Args:
      block: of a `Transformer`.
      x: `[B, T, D]`.
      inputs: the new tokens.
      earlier: committed keys.
      runs: bool `[B, T]`, or shares float32 `[B, T]`.

    Returns:
      `(y [B, T, D], entries)`.
    """
    if not jnp.issubdtype(runs.dtype, jnp.bool_):
        y, entries = block(x, inputs, *earlier)
        return x + (runs[..., None] * (y - x)).astype(x.dtype), entries

    def run():
        y, entries = block(x, inputs, *earlier)
        return jnp.where(runs[..., None], y, x), entries

    return jax.lax.cond(runs.any(), run, lambda: (x, block.entries(x, inputs)))
