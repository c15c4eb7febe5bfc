"""The likeliest paths, chosen rather than drawn.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Laws
from jaxdec.speculative.growth.weighed import Weighed, budgeted, largest, selected
from jaxdec.speculative.tree import DraftTree
from pallas_kernels import top_k


@dataclasses.dataclass(frozen=True)
class BestFirst(Weighed):
    """The N nodes of the highest path probability; see `best_first`."""

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The likeliest tokens of each node; they are chosen, not drawn."""
        batch = frontier.tokens.shape[0]
        own, tokens = top_k(laws.estimate, self.siblings)
        flat = lambda x: x.reshape(batch, -1)
        value = flat(frontier.value[..., None] + own)
        parents = jnp.repeat(jnp.arange(self.width, dtype=jnp.int32), self.siblings)
        parents = jnp.broadcast_to(parents, value.shape)
        mask = frontier.mask[:, parents[0]] & (value > -jnp.inf)
        value = jnp.where(mask, value, -jnp.inf)
        return Children(flat(tokens).astype(jnp.int32), parents, mask, None, value, value)

    def finish(self, params: Params, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The N likeliest of all that were weighed: a path never gets likelier, so that these form a tree."""
        return selected(tree, jnp.sort(largest(value, self.nodes), axis=1))


@typed
def best_first(nodes: int, depth: int, *, width: int = 8, siblings: int = 8) -> BestFirst:
    """The `nodes` likeliest paths among those that a beam search met: the dynamic tree of EAGLE-2.

        v(x_1 ... x_d) = q(x_1) q(x_2 | x_1) ... q(x_d | x_{<d}),   the N nodes of the largest v

    At each depth the `width` likeliest nodes are expanded, `siblings` children each; at the end the best of all are
    kept. Nodes are chosen, not drawn, so their law is one-hot. With a verifier that shares its noise, likely means
    likely given that noise (`Laws.estimate`).

    Args:
      nodes: N, at least 1.
      depth: D, at least 1.
      width: F.
      siblings: children of a node at most.

    Raises:
      ValueError: for other sizes, or a tree of that width and depth that cannot have so many nodes.

    Source: EAGLE-2 (2406.16858).
    """
    return BestFirst(*budgeted(nodes, depth, width, siblings))
