"""What a step scores beside and makes of a forward: asides of a verifier, and what it sees.

Legend: B rows, T scored tokens, M asides.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Rows, Scored
from jaxdec.model import Output
from jaxdec.sampling import History, Warp
from jaxdec.speculative.tree import DraftTree


def beside(tree: DraftTree, tokens: jax.Array, above: jax.Array) -> DraftTree:
    """The tree and the asides of its verifier behind it, to be scored alone."""
    join = lambda one, two: jnp.concatenate([one, two], axis=1)
    return dataclasses.replace(
        tree,
        tokens=join(tree.tokens, tokens.astype(jnp.int32)),
        parents=join(tree.parents, above.astype(jnp.int32) - 1),
        mask=join(tree.mask, jnp.ones(tokens.shape, bool)),
        q=None,
        depth=tree.depth + tokens.shape[1],
    )


def without_asides(output: Output, scored: int, count: int) -> tuple[Output, jax.Array | None]:
    """The output without the asides that follow the scored tokens, but for their entries; and their logits."""
    if not count:
        return output, None
    cut = lambda x: jnp.concatenate([x[:, :scored], x[:, scored + count :]], axis=1)
    asides = output.logits[:, scored : scored + count]
    layer_states = tuple(map(cut, output.layer_states))
    logits, hidden = cut(output.logits), cut(output.hidden)
    output = dataclasses.replace(output, logits=logits, hidden=hidden, layer_states=layer_states)
    return output, asides


def seen_of(output: Output, tree: DraftTree, scored: int, asides: jax.Array | None) -> Scored:
    """What the verifier sees: logits and states after all scored tokens, without the answers to further queries."""
    first = lambda states: states[:, :scored]
    logits, hidden = first(output.logits), first(output.hidden)
    layer_states = tuple(map(first, output.layer_states))
    if tree.target_logits is not None:
        fill = lambda states: jnp.pad(states, ((0, 0), (tree.target_drawn, 0), (0, 0)))
        logits = jnp.concatenate([tree.target_logits, logits], axis=1)
        hidden, layer_states = fill(hidden), tuple(map(fill, layer_states))
    return Scored(logits, hidden, layer_states, asides)


def history_of_tree(rows: Rows, warp: Warp, tree: DraftTree, tokens: jax.Array) -> History | None:
    """The past as each scored token sees it, as far as the warp reads it."""
    if not warp.needs_history:
        return None
    history = warp.read(rows.history)
    # The pending token is counted already, and is part of the text.
    return history.along(tokens, tree.lineage().at[:, :, 0].set(False), tree.depth)
