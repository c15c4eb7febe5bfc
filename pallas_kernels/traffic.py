"""What a grid fetches, counted from its own index maps.

The compiler cannot look inside a kernel. But what a pipelined kernel moves is decided outside of its body: a block is
fetched (or written) when its index differs from that of the step before.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl


def moved_bytes(
    grid: Sequence[int],
    specs: Sequence[pl.BlockSpec],
    arrays: Sequence[Any],
    prefetched: Sequence[jax.Array] = (),
) -> list[int]:
    """Bytes that each operand (or output) moves in a whole call.

    Args:
      grid: its sizes; the last one runs fastest.
      specs: blocks and index maps.
      arrays: what they cut, arrays or their shapes, in the same order.
      prefetched: scalars that the index maps read.
    """
    steps = jnp.stack(jnp.meshgrid(*(jnp.arange(n) for n in grid), indexing="ij"), axis=-1)
    steps = steps.reshape(-1, len(grid))
    moved = []
    for spec, array in zip(specs, arrays, strict=True):
        index = lambda step, spec=spec: spec.index_map(*step, *prefetched)
        at = jax.jit(
            jax.vmap(lambda step, index=index: jnp.stack(jnp.broadcast_arrays(*index(step))))
        )
        blocks = np.asarray(at(steps))
        fresh = np.ones(len(blocks), bool)
        fresh[1:] = (blocks[1:] != blocks[:-1]).any(1)
        block = np.array(spec.block_shape)
        # A block that reaches past the end moves only what is there.
        held = np.minimum(block, np.array(array.shape) - blocks[fresh] * block)
        moved.append(int(held.prod(axis=1).sum()) * array.dtype.itemsize)
    return moved
