"""The loop that grows a tree level by level, from any source of laws by any rule.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Frontier, Growth, Laws
from jaxdec.speculative.tree import DraftTree


def grow(
    growth: Growth,
    params: Params | None,
    context: Context,
    source: Callable[[Any, jax.Array, Frontier], tuple[jax.Array, Any]],
    carry: Any,
) -> tuple[DraftTree, Any]:
    """Grows a tree.

    Args:
      growth: the rule.
      params: the rule's own, or None.
      context: of the step.
      source: `(carry, depth, frontier) -> (logits [B, F, V], carry)`, what may follow each node of the frontier of a
        level (traced, counted from 0; the first holds the pending token alone).
      carry: for its first call.

    Returns:
      The tree, and the carry after the last call.
    """
    rows, warp = context.rows, context.settings.warp
    batch, size = rows.length.shape[0], growth.frontier
    none = jnp.zeros((batch, size), jnp.int32)
    first = jnp.broadcast_to(jnp.arange(size) == 0, none.shape)
    zeros = jnp.zeros(none.shape, jnp.float32)
    pending = jnp.broadcast_to(rows.pending[:, None], none.shape)
    frontier = Frontier(pending, none, first, none - 1, zeros, zeros)
    temperature = jnp.ones((batch,), jnp.float32) if warp.temperature is None else warp.temperature
    temperature = jnp.broadcast_to(temperature, (batch,))[:, None, None]
    history = warp.read(rows.history).spread(size, growth.depth)

    def level(state, depth):
        carry, frontier, history = state
        logits, carry = source(carry, depth, frontier)
        logits = logits.astype(jnp.float32)
        noise = jax.lax.dynamic_slice_in_dim(context.noise, depth, 1, axis=1)
        law, raw = warp.staged(logits, history)
        if context.shares_noise:
            noise = warp.settled(law, noise)
        laws = Laws(law, jax.nn.log_softmax(raw), noise, temperature, context.shares_noise)
        children = growth.children(params, depth, laws, frontier, context)
        chosen = growth.expanded(params, depth, children)
        take = lambda x: jnp.take_along_axis(x, chosen, axis=1)
        after = Frontier(
            tokens=take(children.tokens),
            parents=take(children.parents),
            mask=take(children.mask),
            nodes=depth * growth.drawn + chosen,
            value=take(children.value),
            path=take(children.path),
        )
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, frontier)
        history = history.follow(after.parents, after.tokens)
        parents = jnp.take_along_axis(frontier.nodes, children.parents, axis=1)
        out = children.tokens, parents, children.mask, children.q, children.value
        return (carry, after, history), out

    state = carry, frontier, history
    (carry, _, _), levels = jax.lax.scan(level, state, jnp.arange(growth.depth, dtype=jnp.int32))
    flat = lambda x: x.swapaxes(0, 1).reshape(batch, -1, *x.shape[3:])
    tokens, parents, mask, q, value = jax.tree.map(flat, levels)
    # A node whose parent is no node is none either, and hangs off the pending token.
    parents = jnp.where(mask, parents, -1)
    tree = DraftTree(tokens, parents, mask, q, depth=growth.depth)
    return growth.finish(params, tree, value), carry
