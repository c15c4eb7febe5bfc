"""The shared-noise walk: speculative sampling that is token-identical to plain sampling."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative.parts import Context, Outcome
from jaxdec.speculative.tree import DraftTree


@dataclasses.dataclass(frozen=True)
class SharedNoiseWalk:
    """Walks to the child that carries the target's own token, as long as there is one.

    The token after scored token n at depth d is the one that plain decoding would draw there,

        t_n = argmax_v [ log p_n(v) + g_{length + d, v} ],

    with the Gumbel noise of the absolute position. The walk starts at the pending token, moves to the child whose
    token is t_n, and emits t_n where there is none. No q, no residual: it holds for any tree however chosen, and a
    drafter that draws with the same noise agrees more often.

    Exactness: token-identical at every temperature.
    """

    exactness: Exactness = Exactness.TOKEN_IDENTICAL
    shares_noise: bool = True
    chains_only: bool = False

    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """See `jaxdec.speculative.parts.Verifier`."""
        lineage = tree.lineage()
        depth = lineage.sum(-1) - 1  # [B, T], 0 for the pending token
        noise = jnp.take_along_axis(context.noise, depth[..., None], axis=1)
        drawn = perturbed_argmax(log_probs, noise)  # [B, T]
        wanted = jnp.take_along_axis(drawn, jnp.maximum(tree.parents + 1, 0), axis=1)
        agrees = (tree.tokens == wanted) | (jnp.arange(tree.tokens.shape[1]) < tree.settled)
        agrees = jnp.pad(tree.mask & agrees, ((0, 0), (1, 0)), constant_values=True)
        reached = (lineage <= agrees[:, None, :]).all(-1)  # every node of the lineage agrees
        last = jnp.argmax(jnp.where(reached, depth, -1), axis=1)  # lowest index among the deepest
        return Outcome(
            path=lineage_path(lineage, depth, last, tree.depth),
            count=_at(depth, last).astype(jnp.int32),
            next_token=_at(drawn, last),
        )


def lineage_path(lineage: jax.Array, depth: jax.Array, last: jax.Array, deepest: int) -> jax.Array:
    """The scored tokens from the root to `last`, by depth; later entries repeat the root.

    Args:
      lineage: bool `[B, T, T]`.
      depth: int32 `[B, T]`.
      last: int32 `[B]`.
      deepest: D.

    Returns:
      int32 `[B, D + 1]`.
    """
    own = jnp.take_along_axis(lineage, last[:, None, None], axis=1)[:, 0]  # [B, T]
    at_depth = own[:, None, :] & (depth[:, None, :] == jnp.arange(deepest + 1)[:, None])
    return jnp.argmax(at_depth, axis=-1).astype(jnp.int32)


def _at(values: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, index[:, None], axis=1)[:, 0]
