"""Sizes of the blocks that span attention on a TPU works on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.span_attention.parts import Keys

LANES = 128


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Sizes of a call.

    Attributes:
      heads: key-value heads in a block; divides K.
      queries: in a block.
      keys: in a block, for each part.
    """

    heads: int
    queries: int
    keys: tuple[int, ...]

    @classmethod
    def of(
        cls,
        queries: jax.Array,
        parts: tuple[Keys, ...],
        shared_queries: jax.Array | None = None,
    ) -> "Blocks":
        """Large enough to hide the cost of a step, small enough that scores fit in the fast memory.

        512 KiB of keys and as much of values take 1.3 us to fetch on a v5e, a few times what a step of the grid costs.
        They are those of several heads rather than of more keys, since a row's last block is half empty on average.
        512 rows of queries against 512 keys are 1 MiB of float32 scores, of which a few copies are alive.
        """
        length, kv_heads = queries.shape[2], parts[0].keys.shape[1]
        group, tile = queries.shape[1] // kv_heads, sublanes(queries.dtype)
        block = min(round_up(length, tile), max(tile, 512 // group // tile * tile))
        keys = tuple(min(512, round_up(part.keys.shape[2], LANES)) for part in parts)
        each = max(keys) * queries.shape[3] * parts[0].keys.dtype.itemsize
        if shared_queries is not None:
            each = max(each, 4 * group * block * shared_queries.shape[3])
        heads = max(
            n for n in range(1, kv_heads + 1) if kv_heads % n == 0 and (n * each <= 2**19 or n == 1)
        )
        return cls(heads, block, keys)


def sublanes(dtype: Any) -> int:
    """Rows of a tile."""
    return 8 * 4 // jnp.dtype(dtype).itemsize


def round_up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple
