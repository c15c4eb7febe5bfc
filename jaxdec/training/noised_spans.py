"""Who sees whom in a masked window: one canvas, or several one after another, each of which sees itself alone.

Legend: B rows, L positions of a window.
"""

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.training.noising import Noised
from jaxdec.visibility import Spans


def places(batch: Noised) -> jax.Array:
    """Positions `[B, L]`, of each token in its canvas."""
    if batch.positions is not None:
        return jnp.asarray(batch.positions)
    return jnp.broadcast_to(jnp.arange(batch.tokens.shape[1]), batch.tokens.shape)


def whole(batch: Noised) -> Spans:
    """Every token sees its whole canvas: each canvas has a number, with which it sees and is seen."""
    if batch.canvases is None:
        return visibility.full(places(batch))
    own = jnp.stack([batch.canvases, batch.canvases], axis=-1)
    return Spans(own, own)


def clean_blocks(batch: Noised) -> tuple[jax.Array, Spans]:
    """The numbers of clean blocks `[B, L]`, and spans with which each sees itself and those before it.

    Block b has the number 3b, so that its noised copies can stand at 3b - 1 and 3b - 2, behind all clean blocks before
    it. The numbers of a canvas are an interval of their own, at whose end its blocks are no longer seen.
    """
    blocks = 3 * (places(batch) // batch.blocks)
    if batch.canvases is None:
        return blocks, visibility.block_causal(blocks)
    length = batch.tokens.shape[1]
    blocks += 3 * length * batch.canvases
    last = 3 * length * (batch.canvases + 1) - 3
    own = jnp.stack([blocks, blocks], axis=-1)
    return blocks, Spans(own, jnp.stack([blocks, last], axis=-1))
