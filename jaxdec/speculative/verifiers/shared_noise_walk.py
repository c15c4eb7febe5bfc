"""The shared-noise walk: speculative sampling that is token-identical to plain sampling.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness
from jaxdec.sampling import History, Purpose, key_at, perturbed_argmax
from jaxdec.speculative.contract import Context, Outcome, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.paths import furthest, lineage_path
from pallas_kernels.verify import Walked, walk


@dataclasses.dataclass(frozen=True)
class SharedNoiseWalk(Verifier):
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
    needs_independence: bool = False

    def verify(self, tree: DraftTree, log_probs: jax.Array, context: Context) -> Outcome:
        """See `jaxdec.speculative.contract.Verifier`."""
        lineage = tree.lineage()
        depth = lineage.sum(-1) - 1  # [B, T], 0 for the pending token
        noise = jnp.take_along_axis(context.noise, depth[..., None], axis=1)
        drawn = perturbed_argmax(log_probs, noise)  # [B, T]
        wanted = jnp.take_along_axis(drawn, jnp.maximum(tree.parents + 1, 0), axis=1)
        agrees = (tree.tokens == wanted) | (jnp.arange(tree.tokens.shape[1]) < tree.settled)
        last = furthest(lineage, tree.mask & agrees)
        path, count = lineage_path(lineage, last, tree.depth)
        return Outcome(path, count, jnp.take_along_axis(drawn, last[:, None], axis=1)[:, 0])

    def judge(
        self, tree: DraftTree, logits: jax.Array, history: History | None, context: Context
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`; one operation, on the path alone, for a plain warp."""
        warp = context.settings.warp
        if tree.settled or not warp.plain:
            return super().judge(tree, logits, history, context)
        places = context.rows.length[:, None] + jnp.arange(tree.depth + 1)
        walked = walk(
            logits,
            tree.tokens,
            tree.parents,
            tree.mask,
            key_at(context.keys, Purpose.TOKEN, places),
            *warp.plain_knobs(len(logits)),
            context.noise,
            depth=tree.depth,
        )
        return verdict(walked)


def verdict(walked: Walked) -> Verdict:
    """What an operation found, in the terms of the loop."""
    outcome = Outcome(walked.path, walked.count, walked.next_token)
    return Verdict(outcome, walked.log_probs, walked.raw_log_probs)
