"""Trees of one fixed shape.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Growth, Laws
from jaxdec.speculative.growth.siblings import without_earlier_siblings
from jaxdec.speculative.tree import DraftTree, RankTree
from pallas_kernels import top_k


@dataclasses.dataclass(frozen=True)
class Fixed(Growth):
    """Trees of one fixed shape; see `fixed`."""

    shape: RankTree

    @property
    def depth(self) -> int:  # type: ignore[override]
        """D."""
        return max(self.shape.depths)

    @property
    def frontier(self) -> int:
        """The most nodes of a level that have children."""
        return self.tables()[3].shape[1]

    @property
    def drawn(self) -> int:
        """The most nodes of a level."""
        return self.tables()[0].shape[1]

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.shape.parents)

    @property
    def branching(self) -> int:
        """The most siblings."""
        return max(self.shape.ranks) + 1

    def tables(self) -> tuple[np.ndarray, ...]:
        """By level: the frontier slot of each node's parent, its rank, whether it exists; and who is expanded."""
        parents, depths = np.array(self.shape.parents), np.array(self.shape.depths)
        levels = [np.flatnonzero(depths == depth + 1) for depth in range(self.depth)]
        inner = [np.array([n for n in level if n in parents]) for level in levels]
        width = max(map(len, levels))
        slots, ranks = np.zeros((2, self.depth, width), np.int32)
        exists = np.zeros((self.depth, width), bool)
        expanded = np.zeros((self.depth, max(1, *map(len, inner))), np.int32)
        for depth, level in enumerate(levels):
            size = len(level)
            exists[depth, :size] = True
            ranks[depth, :size] = np.array(self.shape.ranks)[level]
            if depth:
                slots[depth, :size] = np.searchsorted(inner[depth - 1], parents[level])
            expanded[depth, : len(inner[depth])] = np.searchsorted(level, inner[depth])
        return slots, ranks, exists, expanded

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The best tokens of each parent, as many as the shape has."""
        slots, ranks, exists, _ = (jnp.asarray(table)[depth] for table in self.tables())
        if self.branching == 1:  # no sort for chains
            best = jnp.argmax(laws.perturbed, axis=-1)[..., None]
        else:
            best = top_k(laws.perturbed, self.branching)[1]
        tokens = best[:, slots, ranks].astype(jnp.int32)
        parents = jnp.broadcast_to(slots, tokens.shape)
        law = laws.at(parents)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        # Where fewer tokens have mass than the shape has siblings, the others do not exist.
        mask = exists & frontier.mask[:, slots] & (laws.greedy[..., 0] | (own > -jnp.inf))
        q = without_earlier_siblings(law, tokens, parents, mask, laws.greedy)
        path = frontier.path[:, slots] + own
        return Children(tokens, parents, mask, q, path, path)

    def expanded(self, params: Params, depth: jax.Array, children: Children) -> jax.Array:
        """The nodes that have children."""
        chosen = jnp.asarray(self.tables()[3])[depth]
        return jnp.broadcast_to(chosen, (children.tokens.shape[0], len(chosen)))

    def finish(self, params: Params, tree: DraftTree, value: jax.Array) -> DraftTree:
        """The nodes in the order of the shape."""
        levels = np.array(self.shape.depths) - 1
        places = np.zeros(self.nodes, np.int32)
        for level in range(self.depth):
            places[levels == level] = level * self.drawn + np.arange((levels == level).sum())
        parents = jnp.broadcast_to(jnp.asarray(self.shape.parents), (len(value), self.nodes))
        q = None if tree.q is None else tree.q[:, places]
        mask = tree.mask[:, places]
        return DraftTree(tree.tokens[:, places], parents, mask, q, depth=self.depth)


@typed
def fixed(shape: RankTree) -> Fixed:
    """Trees of a fixed shape, whose siblings are drawn without replacement (Gumbel-top-k) from their parent's law.

    The k-th sibling has the law `q_k = q` without the k - 1 before it, renormalised. At temperature 0 they are the
    likeliest tokens in order.

    Args:
      shape: such as `RankTree.branching((4, 2, 1))` (RSD-C) or `RankTree.best(depth, nodes, rates)`, the tree of most
        expected tokens for measured acceptance by rank (Sequoia).

    Source: RSD-C (2402.14160); Sequoia (2402.12374). Sequoia finds its tree by dynamic programming; as its acceptance
    depends on the rank alone, taking the likeliest node again and again gives the same optimum.
    """
    return Fixed(shape)
