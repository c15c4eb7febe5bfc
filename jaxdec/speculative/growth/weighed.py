"""What rules share that weigh many nodes and keep the best within a budget.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.model import Params
from jaxdec.speculative.growth.contract import Children, Growth
from jaxdec.speculative.tree import DraftTree, check_sizes


@dataclasses.dataclass(frozen=True)
class Weighed(Growth):
    """Trees of a budget of nodes, the `width` likeliest of each level expanded.

    Attributes:
      budget: N.
      depth: D.
      width: F.
      siblings: children of a node at most.
    """

    budget: int
    depth: int
    width: int
    siblings: int

    @property
    def frontier(self) -> int:
        """F."""
        return self.width

    @property
    def drawn(self) -> int:
        """Nodes of a level that are weighed."""
        return self.width * self.siblings

    @property
    def nodes(self) -> int:
        """N."""
        return self.budget

    @property
    def branching(self) -> int:
        """Siblings at most."""
        return self.siblings

    def expanded(self, params: Params, depth: jax.Array, children: Children) -> jax.Array:
        """The likeliest; nobody has yet looked at what comes below them."""
        return largest(children.value, self.width)


def largest(value: jax.Array, count: int) -> jax.Array:
    """The places int32 `[B, count]` of the largest values, lower places first among equals."""
    return jax.lax.top_k(value, count)[1].astype(jnp.int32)


def selected(tree: DraftTree, index: jax.Array) -> DraftTree:
    """The nodes `index [B, N]`, parents before children, with their parents among them."""
    take = lambda x: jnp.take_along_axis(x, index, axis=1)
    above = take(tree.parents)
    parents = jnp.argmax(above[:, :, None] == index[:, None, :], axis=-1).astype(jnp.int32)
    mask = take(tree.mask)
    parents = jnp.where(mask & (above >= 0), parents, -1)
    q = None if tree.q is None else jnp.take_along_axis(tree.q, index[..., None], axis=1)
    return DraftTree(take(tree.tokens), parents, mask, q, depth=tree.depth)


def budgeted(nodes: int, depth: int, width: int, siblings: int) -> tuple[int, int, int, int]:
    """Nodes, depth, width and siblings, if they are legal."""
    check_sizes(nodes=nodes, depth=depth, width=width, siblings=siblings)
    most = width * siblings * depth
    if nodes > most:
        raise ValueError(
            f"{depth} levels of {width} x {siblings} nodes are {most}, fewer than {nodes}"
        )
    return nodes, depth, width, siblings
