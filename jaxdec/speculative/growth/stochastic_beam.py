"""The best perturbed paths of each level.

Legend: as in `jaxdec.speculative.growth.contract`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.model import Params
from jaxdec.speculative.contract import Context
from jaxdec.speculative.growth.contract import Children, Frontier, Growth, Laws
from jaxdec.speculative.growth.siblings import own_noise, without_earlier_siblings
from jaxdec.speculative.tree import check_sizes


@dataclasses.dataclass(frozen=True)
class StochasticBeam(Growth):
    """The W paths of the largest perturbed log-probability at each depth; see `stochastic_beam`."""

    width: int
    depth: int

    @property
    def frontier(self) -> int:
        """W."""
        return self.width

    def children(
        self, params: Params, depth: jax.Array, laws: Laws, frontier: Frontier, context: Context
    ) -> Children:
        """The W best continuations of all beams."""
        shared = context.shares_noise
        noise = laws.noise if shared else own_noise(context, depth, self.width)
        path = frontier.path[..., None] + jnp.where(laws.greedy, laws.raw, laws.law)
        perturbed = path + noise
        # Given that the largest of them is the parent's own value (2402.14160, after 1903.06059).
        top = perturbed.max(-1, keepdims=True)
        parent = frontier.value[..., None]
        below = parent - perturbed + jnp.log1p(-jnp.exp(jnp.minimum(perturbed - top, -1e-7)))
        value = parent - jnp.maximum(below, 0) - jnp.log1p(jnp.exp(-jnp.abs(below)))
        value = jnp.where(perturbed == top, parent, value)
        value = jnp.where(laws.greedy, path, value)
        legal = frontier.mask[..., None] & (path > -jnp.inf)
        value = jnp.where(legal, value, -jnp.inf)

        flat = value.reshape(value.shape[0], -1)
        value, places = jax.lax.top_k(flat, min(self.width, flat.shape[1]))
        fill = [(0, 0), (0, self.width - value.shape[1])]
        value, places = jnp.pad(value, fill, constant_values=-jnp.inf), jnp.pad(places, fill)
        parents, tokens = jnp.divmod(places, laws.law.shape[-1])
        mask = value > -jnp.inf
        path = jnp.take_along_axis(path.reshape(flat.shape), places, axis=1)
        tokens = tokens.astype(jnp.int32)
        q = without_earlier_siblings(laws.at(parents), tokens, parents, mask, laws.greedy)
        return Children(tokens, parents, mask, q, jnp.where(mask, value, 0.0), path)


@typed
def stochastic_beam(width: int, depth: int) -> StochasticBeam:
    """The `width` best of all paths at each depth, drawn without replacement: RSD-S.

    With phi the log-probability of a path and G its perturbed value (0 at the pending token), a child x has
    `phi_x = phi + log q(x)` and a Gumbel value of location phi_x, given that the largest among its siblings is G.
    A node has 0 to `width` children. Where the target's noise is shared, it serves for all paths. At temperature 0
    this is plain beam search.

    Args:
      width: W, at least 1.
      depth: D, at least 1.

    Raises:
      ValueError: for other sizes.

    Source: 2402.14160; the beam itself, 1903.06059.
    """
    check_sizes(width=width, depth=depth)
    return StochasticBeam(width, depth)
