"""Recursive rejection: siblings one after the other, on any tree.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored
from jaxdec.model import Params
from jaxdec.speculative.contract import Context, Verdict
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, randomness, residual
from jaxdec.speculative.verifiers.paths import walked_verdict
from pallas_kernels.verify import ratio_walk


def recursive_law(
    p: jax.Array, q: jax.Array, tokens: jax.Array, parents: jax.Array, mask: jax.Array
) -> TreeLaw:
    """Recursive rejection: each child is judged against what its rejected siblings have left of the target's law.

    After a scored token with children X_1, ..., X_K, drawn from q_1, ..., q_K, start from `p_1 = p`. Child k is
    accepted iff `u_k q_k(X_k) < p_k(X_k)`; if not, `p_{k+1} = [p_k - q_k]+`, normalised. The closing token has the law
    p_{K+1}, at a leaf p itself.

    Args:
      p: `[B, T, V]`, target laws after each scored token.
      q: `[B, N, V]`, the law of each node given its earlier siblings (one-hot for a chosen one).
      tokens: int32 `[B, N]`.
      parents: int32 `[B, N]`.
      mask: bool `[B, N]`.

    Source: Miao et al., 2305.09781 (with replacement); Jeon et al., 2402.14160 (without).
    """
    rows = jnp.arange(len(tokens))

    def judge(left, node):
        q, token, parent, exists = node
        before = left[rows, parent]
        numerator = jnp.where(exists, before[rows, token], 0)
        denominator = jnp.where(exists, q[rows, token], 1)
        after = jnp.where(exists[:, None], residual(before, q), before)
        return left.at[rows, parent].set(after), (numerator, denominator)

    nodes = (q.swapaxes(0, 1), tokens.T, parents.T + 1, mask.T)
    closing, (numerator, denominator) = jax.lax.scan(judge, p, nodes)
    return TreeLaw(numerator.T, denominator.T, closing)


@dataclasses.dataclass(frozen=True)
class RecursiveRejection(RatioVerifier):
    """Recursive rejection sampling on any tree; see `recursive_law`.

    It reads from q how siblings were drawn: with or without replacement, from one law or several, chosen (one-hot), or
    the *greedy* siblings of 2502.18779. Those are one draw from q without its k - 1 most likely tokens, first, and then
    these tokens as chosen nodes, which is the best verification of such a set, and for k = 2 that of SpecHub's pairs.
    A chain is judged as by `TokenRatio`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    Source: 2305.09781, 2402.14160; 2502.18779 and 2411.05289 for greedy siblings.
    """

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `recursive_law`."""
        return recursive_law(p, q, tree.tokens, tree.parents, tree.mask)

    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`; one operation, on the path alone, for a plain warp."""
        warp = context.settings.warp
        if tree.target_drawn or not warp.plain:
            return super().verify(params, tree, scored, log_probs, context)
        walked = ratio_walk(
            scored.logits,
            tree.q,
            tree.tokens,
            tree.parents,
            tree.mask,
            *randomness(tree, context),
            *warp.plain_knobs(len(scored.logits)),
            depth=tree.depth,
        )
        return walked_verdict(walked)
