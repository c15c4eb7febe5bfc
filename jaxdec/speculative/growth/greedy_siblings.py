"""One draw and the likeliest tokens.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Laws
from jaxdec.speculative.growth.fixed import Fixed
from jaxdec.speculative.tree import RankTree
from pallas_kernels import top_k


@dataclasses.dataclass(frozen=True)
class GreedySiblings(Fixed):
    """Trees of a fixed shape, one draw among the siblings of each node; see `greedy_siblings`."""

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """First a draw from the law without the likeliest tokens, then these."""
        drawn = super().children(params, depth, laws, frontier, context)
        slots, ranks, exists, _ = (jnp.asarray(table)[depth] for table in self.tables())
        family = exists & (slots[:, None] == slots)  # [C, C]
        chosen = jnp.where(exists, family.sum(-1) - 1, 0)  # siblings of each node that are chosen
        best = top_k(laws.law, self.branching)[1][:, slots]  # [B, C, R]
        law = laws.at(drawn.parents)
        likeliest = jax.nn.one_hot(best, law.shape[-1], dtype=bool)
        likeliest &= (jnp.arange(self.branching) < chosen[:, None])[..., None]
        rest = jnp.where(likeliest.any(2), -jnp.inf, law)
        draw = jnp.argmax(rest + laws.noise, axis=-1)
        choice = jnp.take_along_axis(best, jnp.maximum(ranks - 1, 0)[:, None][None], axis=-1)
        tokens = jnp.where(ranks == 0, draw, choice[..., 0])
        # Rows without a draw keep the order of the plain rule: all of their nodes are chosen.
        tokens = jnp.where(laws.greedy[..., 0], drawn.tokens, tokens).astype(jnp.int32)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        left = jnp.isfinite(rest).any(-1)
        sampled = jnp.where(ranks == 0, left, own > -jnp.inf)
        mask = exists & frontier.mask[:, slots] & (laws.greedy[..., 0] | sampled)
        sure = jnp.where(jax.nn.one_hot(tokens, law.shape[-1], dtype=bool), 0.0, -jnp.inf)
        certain = laws.greedy | (ranks > 0)[:, None] | ~left[..., None]
        q = jnp.where(certain, sure, jax.nn.log_softmax(rest))
        path = frontier.path[:, slots] + own
        return Children(tokens, drawn.parents, mask, q, path, path)


@typed
def greedy_siblings(shape: RankTree) -> GreedySiblings:
    """Trees of a fixed shape in which, of K siblings, K - 1 are the likeliest tokens and one is drawn from the others.

    The draw comes first, with the law q without the K - 1 likeliest tokens, renormalised; these follow as chosen
    nodes. Recursive rejection is the best verification of such siblings, and K = 2 gives the pairs of SpecHub.

    Args:
      shape: such as `RankTree.branching((4, 2, 1))`.

    Source: MDSD (2502.18779); SpecHub (2411.05289).
    """
    return GreedySiblings(shape)
