"""Shapes of `unmask` that tests, ahead-of-time compilation and benchmarks share.

Legend: N rows, V vocabulary, B groups of rows, D width of hidden states.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.unmask.types import Readout


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of `unmask`.

    Attributes:
      name: what it stands for.
      rows: N.
      size: V.
      groups: B, of banned tokens; None without bans.
      dtype: of logits, or of hidden states and matrix.
      width: D of the fused form; None for logits.
      vocab_axis: of the matrix.
    """

    name: str
    rows: int
    size: int
    groups: int | None = None
    dtype: str = "float32"
    width: int | None = None
    vocab_axis: int = 0

    def shapes(self) -> tuple[Any, ...]:
        """`ShapeDtypeStruct`s of scores, keys (as words), temperature and banned."""
        array: Any = jax.ShapeDtypeStruct
        scores: Any = array((self.rows, self.size), self.dtype)
        if self.width is not None:
            shape = (self.size, self.width) if self.vocab_axis == 0 else (self.width, self.size)
            hidden = array((self.rows, self.width), self.dtype)
            scores = Readout(hidden, array(shape, self.dtype), self.vocab_axis)
        words, heat = array((self.rows, 2), jnp.uint32), array((self.rows,), jnp.float32)
        banned = None if self.groups is None else array((self.groups, self.size), jnp.bool_)
        return scores, words, heat, banned

    def arrays(self, seed: int = 0) -> tuple[Any, ...]:
        """Random arrays of these shapes; half of the rows are greedy, and 3 tokens of 10 are banned."""
        rng = np.random.default_rng(seed)

        def fill(array):
            if array.dtype == jnp.uint32:
                return jnp.asarray(rng.integers(0, 2**32, array.shape, np.uint32))
            if array.dtype == jnp.bool_:
                return jnp.asarray(rng.random(array.shape) < 0.3)
            if array.ndim == 1:
                return jnp.asarray(rng.choice([0, 0.5, 0, 1.3], array.shape), jnp.float32)
            scale = 3.0 if self.width is None else (3.0 / self.width**0.5) ** 0.5
            return jnp.asarray(rng.normal(size=array.shape) * scale, array.dtype)

        return jax.tree.map(fill, self.shapes())


SMALL = (
    Case("ragged", 13, 700),
    Case("one_row", 1, 130),
    Case("odd_groups", 12, 512, groups=4, dtype="bfloat16"),
    Case("bans_by_group_embedding", 32, 600, groups=2, width=70),
    Case("linear_layer", 20, 300, dtype="bfloat16", width=70, vocab_axis=1),
)
"""For interpret mode, with `blocks` of a few hundred columns."""

REAL = (
    Case("block_64_128k", 64, 128256),
    Case("block_64_128k_bfloat16", 64, 128256, dtype="bfloat16"),
    Case("canvas_512_152k_bans", 512, 151936, groups=8),
    Case("canvas_256_32k_bans_by_row", 256, 32000, groups=256, dtype="bfloat16"),
    Case("hidden_64_128k", 64, 128256, dtype="bfloat16", width=4096),
    Case("hidden_512_152k_linear", 512, 151936, 16, "bfloat16", 4096, vocab_axis=1),
    Case("hidden_64_32k_float32", 64, 32000, dtype="float32", width=4096),
)
"""Blocks and canvases of 8B-class models."""
