"""Trees of one fixed shape whose nodes are chosen.

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


@dataclasses.dataclass(frozen=True)
class Ranked(Fixed):
    """Trees of a fixed shape with the likeliest tokens; see `ranked`."""

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The likeliest tokens of each parent, as a greedy row chooses them; no noise is read."""
        certain = dataclasses.replace(laws, temperature=jnp.zeros_like(laws.temperature))
        chosen = super().children(params, depth, certain, frontier, context)
        own = jnp.take_along_axis(laws.at(chosen.parents), chosen.tokens[..., None], axis=-1)
        # Of sampled rows, what the warp bans is none.
        mask = chosen.mask & (laws.greedy[..., 0] | (own[..., 0] > -jnp.inf))
        return dataclasses.replace(chosen, mask=mask, q=None)


@typed
def ranked(shape: RankTree) -> Ranked:
    """Trees of a fixed shape whose node of rank r holds the r-th likeliest token, at every temperature.

        x_1, x_2, ... = the tokens of a node's law q, likeliest first

    Nodes are chosen, not drawn, so that their law is one-hot: what `fixed` does at temperature 0 alone.

    Args:
      shape: such as `RankTree.best(depth, nodes, rates)` for measured rates by rank.

    Source: Medusa (2401.10774), the static tree of its heads' likeliest tokens. Its shape is found from rates by head
    and rank; `RankTree.best` takes rates by rank.
    """
    return Ranked(shape)
