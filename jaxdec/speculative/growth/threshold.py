"""Siblings while their slot is likely enough.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Laws
from jaxdec.speculative.growth.siblings import own_noise, without_earlier_siblings
from jaxdec.speculative.growth.weighed import Weighed, budgeted, selected
from jaxdec.speculative.tree import DraftTree
from pallas_kernels import top_k


@dataclasses.dataclass(frozen=True)
class ThresholdGrowth(Weighed):
    """Nodes for as long as they are likely enough to be reached; see `threshold`."""

    least: float

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """Siblings without replacement, the next one only if its slot is likely enough before it is drawn."""
        batch = frontier.tokens.shape[0]
        if not context.shares_noise:
            # Whether a node fits the budget depends on its neighbours' draws, which must tell nothing of its own.
            laws = dataclasses.replace(laws, noise=own_noise(context, depth, self.width))
        chance = laws.estimate
        _, tokens = top_k(laws.perturbed, self.siblings)  # [B, F, K]
        own = jnp.take_along_axis(chance, tokens, axis=-1)
        mass = jnp.exp(own)
        left = 1 - (jnp.cumsum(mass, axis=-1) - mass)
        slot = jnp.exp(frontier.value)[..., None] * left
        mask = frontier.mask[..., None] & (slot >= self.least) & (own > -jnp.inf)
        mask = jnp.cumprod(mask, axis=-1).astype(bool)
        flat = lambda x: x.reshape(batch, -1)
        parents = jnp.repeat(jnp.arange(self.width, dtype=jnp.int32), self.siblings)
        parents = jnp.broadcast_to(parents, (batch, self.drawn))
        tokens, mask = flat(tokens).astype(jnp.int32), flat(mask)
        value = jnp.where(mask, flat(frontier.value[..., None] + own), -jnp.inf)
        law = laws.at(parents)
        q = without_earlier_siblings(law, tokens, parents, mask, laws.greedy)
        return Children(tokens, parents, mask, q, value, value)

    def finish(self, params: Params, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The first N nodes in the order in which they were drawn."""
        order = jnp.argsort(~tree.mask, axis=1, stable=True)[:, : self.nodes]
        return selected(tree, order)


@typed
def threshold(
    nodes: int,
    depth: int,
    *,
    width: int = 8,
    siblings: int = 4,
    least: float | None = None,
) -> ThresholdGrowth:
    """A tree that grows where the drafter is sure: DySpec, level by level.

    A node has the value v of its path (the product of draft probabilities). Its next sibling is drawn as long as
    `v_parent (1 - sum of the siblings' probabilities) >= least`, before anybody knows its token, and the `width`
    likeliest nodes of a level are expanded.

    Args:
      nodes: N, at least 1; nodes past it, in the order of drawing, are left out.
      depth: D, at least 1.
      width: F, nodes of a level that are expanded.
      siblings: children of a node at most.
      least: in (0, 1]; 1 / N if not given.

    Raises:
      ValueError: for other sizes, or a tree of that width and depth that cannot have so many nodes.

    Source: 2410.11744, its threshold form; the paper's greedy form runs the drafter once a node.
    """
    least = 1 / nodes if least is None and nodes > 0 else least
    if least is None or not 0 < least <= 1:
        raise ValueError(f"least must lie in (0, 1], got {least} for {nodes} nodes")
    sizes = budgeted(nodes, depth, width, siblings)
    return ThresholdGrowth(*sizes, float(least))
