"""The shared-noise walk: speculative sampling that is token-identical to plain sampling.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Scored
from jaxdec.model import Params
from jaxdec.sampling import Purpose, key_at
from jaxdec.speculative.contract import Context, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.paths import furthest, lineage_path, walked_verdict
from pallas_kernels.verify import walk


@dataclasses.dataclass(frozen=True)
class SharedNoiseWalk(Verifier):
    """Walks to the child that carries the target's own token, as long as there is one.

    The token after scored token n at depth d is the one that plain decoding would draw there,

        t_n = argmax_v [ log p_n(v) + g_{length + d, v} ],

    with the Gumbel noise of the absolute position. The walk starts at the pending token, moves to the child whose
    token is t_n, and emits t_n where there is none. No q, no residual: it holds for any tree however chosen, and a
    drafter that draws with the same noise agrees more often.

    Exactness: token-identical at every temperature.
    Source: Gumbel noise shared with the drafter, 2408.07978 (drafter-invariant speculative decoding); trees are ours.
    """

    exactness: Exactness = Exactness.TOKEN_IDENTICAL
    shares_noise: bool = True
    chains_only: bool = False
    needs_independence: bool = False

    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`; one operation, on the path alone, for a plain warp."""
        if context.settings.warp.plain and tree.depth and not tree.target_drawn:
            return self._walk(tree, scored.logits, context)
        lineage = tree.lineage()
        depth = lineage.sum(-1) - 1  # [B, T], 0 for the pending token
        noise = jnp.take_along_axis(context.noise, depth[..., None], axis=1)
        drawn = context.settings.warp.draw(log_probs, noise)  # [B, T]
        wanted = jnp.take_along_axis(drawn, jnp.maximum(tree.parents + 1, 0), axis=1)
        agrees = (tree.tokens == wanted) | (jnp.arange(tree.tokens.shape[1]) < tree.target_drawn)
        last = furthest(lineage, tree.mask & agrees)
        path, count = lineage_path(lineage, last, tree.depth)
        next_token = jnp.take_along_axis(drawn, last[:, None], axis=1)[:, 0]
        return Verdict.of(tree, path, count, next_token, logits=scored.logits, log_probs=log_probs)

    def _walk(self, tree: DraftTree, logits: jax.Array, context: Context) -> Verdict:
        """The same in one operation."""
        places = context.rows.length[:, None] + jnp.arange(tree.depth + 1)
        walked = walk(
            logits,
            tree.tokens,
            tree.parents,
            tree.mask,
            key_at(context.keys, Purpose.TOKEN, places),
            *context.settings.warp.plain_knobs(len(logits)),
            context.noise,
            depth=tree.depth,
        )
        return walked_verdict(walked)
