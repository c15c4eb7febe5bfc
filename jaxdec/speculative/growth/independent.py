"""Several chains, drawn independently.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Growth, Laws
from jaxdec.speculative.growth.siblings import own_noise
from jaxdec.speculative.tree import check_sizes


@dataclasses.dataclass(frozen=True)
class Independent(Growth):
    """Chains that are drawn independently; see `independent`."""

    chains: int
    depth: int

    @property
    def frontier(self) -> int:
        """One node a chain."""
        return self.chains

    @property
    def independent(self) -> bool:
        """They are."""
        return True

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """One draw a chain, from the law of the first chain with the same text so far."""
        batch, size = frontier.tokens.shape
        # A chain that agrees with an earlier one so far hangs off that one: `same` is [B, F, F].
        siblings = frontier.parents[:, :, None] == frontier.parents[:, None, :]
        same = siblings & (frontier.tokens[:, :, None] == frontier.tokens[:, None, :])
        parents = jnp.where(depth == 0, 0, jnp.argmax(same, axis=-1).astype(jnp.int32))
        law = laws.at(parents)
        noise = own_noise(context, depth, size)
        tokens = jnp.argmax(law + noise, axis=-1).astype(jnp.int32)
        own = jnp.take_along_axis(law, tokens[..., None], axis=-1)[..., 0]
        path = jnp.take_along_axis(frontier.path, parents, axis=1) + own
        return Children(tokens, parents, jnp.ones((batch, size), bool), law, path, path)


@typed
def independent(chains: int, length: int) -> Independent:
    """Chains that are drawn independently of one another, with replacement; equal beginnings are scored once.

        x_d^(c) ~ q(. | x_{<d}^(c)),   d = 1, ..., `length`,   c = 1, ..., k

    A node whose earlier sibling carries the same token has no children: they hang off that sibling.

    Args:
      chains: k, at least 1.
      length: of each, at least 1.

    Raises:
      ValueError: for other sizes.

    Source: SpecTr (2310.15141), SpecInfer (2305.09781).
    """
    check_sizes(chains=chains, length=length)
    return Independent(chains, length)
