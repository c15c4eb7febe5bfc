"""Blocks that end where a sentence does.

Legend: B rows, L positions of a canvas, W positions of a group, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Scored
from jaxdec.diffusion.schedules.blocks import Blocks
from jaxdec.model import Params
from jaxdec.sampling import as_array, shown


@dataclasses.dataclass(frozen=True)
class SemanticBlocks(Blocks):
    """See `semantic_blocks`; `size` is the most that a block may hold.

    Attributes:
      delimiters: tokens that end a block.
      default: positions of a block without a delimiter.
      threshold: of the probability of a delimiter.
    """

    delimiters: tuple[int, ...] = ()
    default: int = dataclasses.field(default=32, compare=False)
    threshold: float = dataclasses.field(default=0.3, compare=False)
    cuts = True

    @property
    def keeps_units(self) -> bool:
        """Within fixed blocks."""
        return self.unit is not None

    @property
    def knobs(self) -> dict[str, Knob]:
        """`default_block` and `delimiter_threshold`."""
        return {
            "default_block": Knob(self.default, 1, integer=True),
            "delimiter_threshold": Knob(self.threshold),
        }

    def cut(
        self,
        params: Params,
        scored: Scored,
        there: jax.Array,
        masked: jax.Array,
        knobs: Mapping[str, jax.Array],
    ) -> jax.Array:
        """Up to the likeliest delimiter, if it is likely enough."""
        logits = scored.logits
        delimits = jnp.asarray(np.isin(np.arange(logits.shape[-1]), self.delimiters))
        top = logits.max(-1)
        chance = jnp.exp(top - jax.nn.logsumexp(logits, axis=-1))
        ends = masked & delimits[jnp.argmax(logits, axis=-1)]
        chance = jnp.where(ends & ~jnp.isnan(chance), chance, -1)
        best = jnp.argmax(chance, axis=-1).astype(jnp.int32)
        first = jnp.argmax(masked, axis=-1).astype(jnp.int32)
        sure = (chance >= 0) & (chance >= knobs["delimiter_threshold"][:, None])
        size = jnp.where(sure.any(-1), best + 1, first + knobs["default_block"])
        return jnp.minimum(size, there.sum(-1, dtype=jnp.int32))

    def recut(self, places: jax.Array, prompt: jax.Array, end: jax.Array) -> jax.Array:
        """As many as fit, again; or up to the end of the block that holds them."""
        if self.unit is None:
            return 1 + (places - end) // self.size
        from_ = 0 if self.from_start else prompt
        return 1 + (places - from_) // self.unit - (end - from_) // self.unit


@typed
def semantic_blocks(
    delimiters: Sequence[int],
    size: int = 32,
    *,
    threshold: float = 0.3,
    most: int = 128,
    within: int | None = None,
    from_start: bool = False,
) -> SemanticBlocks:
    """AdaBlock: each block ends at the likeliest delimiter ahead, such as a newline, if it is likely enough.

        D = {i of the next `most` : argmax p_i is a delimiter};   j = argmax over D of max p_i
        the block is  [next, j]  if  max p_j >= threshold,  else the next `size` positions

    The first forward of a block decides, and takes a step of the policy in the block as well. p is the model's own law,
    untempered. Each row has its own blocks; caches go by them.

    Args:
      delimiters: tokens that end a block; at least one. One outside of the vocabulary never comes.
      size: positions of a block without such a delimiter (knob `default_block`).
      threshold: the least probability of a delimiter (knob `delimiter_threshold`); above 1 every block has `size`
        positions. The paper's is 0.3 for LLaDA, 0.5 for Dream.
      most: positions of a block at most, at least `size`; the paper's is a quarter of what is generated.
      within: the size of fixed blocks that no block reaches over, as attention and caches of block-causal models go by
        them; `most` is then this.
      from_start: where those are counted from, see `schedules.blocks`.

    Raises:
      ValueError: without a delimiter, for one below 0, for sizes below 1, or where `size` exceeds `most`.

    Exactness: that of the policy; which positions form a block looks at laws, never at draws.

    Source: AdaBlock-dLLM 2509.26432. Of its parts none is missing; within fixed blocks is ours.
    """
    table = as_array("delimiters", delimiters, "tokens")
    if table.ndim != 1 or not table.size or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"delimiters must be tokens, at least one, got {shown(delimiters)}")
    if table.min() < 0:
        raise ValueError(f"delimiters must be tokens from 0 on, got {int(table.min())}")
    if within is not None:
        most = within
    if size < 1 or size > most:
        raise ValueError(f"a block has 1 to {most} positions, got a size of {size}")
    unique = tuple(sorted({int(token) for token in table}))
    return SemanticBlocks(most, within, from_start, unique, size, threshold)
