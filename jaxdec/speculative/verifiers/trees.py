"""Verification of trees by probability ratios: recursive rejection and K-SEQ.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.sampling import History
from jaxdec.speculative.parts import Context, Verdict
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.ratio import (
    RatioVerifier,
    TreeLaw,
    at_tokens,
    normalised,
    randomness,
    residual,
)
from jaxdec.speculative.verifiers.walk import verdict
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


def kseq_law(
    p: jax.Array, q: jax.Array, tokens: jax.Array, parents: jax.Array, mask: jax.Array
) -> TreeLaw:
    """K-SEQ: every one of k children that were drawn independently from one law q is judged by the same rule.

    With `beta(rho) = sum_v min(q(v), p(v) / rho)`, let rho be the smallest number in [1, k] such that
    `1 - (1 - beta)^k <= rho beta`. A child x is accepted iff `u rho q(x) < p(x)`, and the closing token has the law

        p(v) - min(q(v), p(v) / rho) (1 - (1 - beta)^k) / beta,   normalised by (1 - beta)^k.

    Args:
      p: `[B, T, V]`, target laws after each scored token.
      q: `[B, N, V]`, equal for the children of one scored token.
      tokens: int32 `[B, N]`.
      parents: int32 `[B, N]`.
      mask: bool `[B, N]`.

    Source: Sun et al., 2310.15141; at least 1 - 1/e of the best possible acceptance.
    """
    scored = p.shape[1]
    hangs = mask[:, None] & (parents[:, None] + 1 == jnp.arange(scored)[:, None])  # [B, T, N]
    children = hangs.sum(-1)
    below = jnp.take_along_axis(q, jnp.argmax(hangs, axis=-1)[..., None], axis=1)  # [B, T, V]
    below = jnp.where(children[..., None] > 0, below, 0)

    def overlap(rho):
        shared = jnp.minimum(below, p / rho[..., None])
        beta = jnp.minimum(shared.sum(-1), 1)
        return shared, beta, -jnp.expm1(children * jnp.log1p(-beta))  # 1 - (1 - beta)^k

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        _, beta, accepted = overlap(middle)
        valid = accepted <= middle * beta
        return jnp.where(valid, low, middle), jnp.where(valid, middle, high)

    one = jnp.ones(children.shape, p.dtype)
    # The upper end: any rho that is large enough gives an exact rule, a smaller one a closing law below zero.
    _, rho = jax.lax.fori_loop(0, 32, halve, (one, jnp.maximum(children, one)))
    shared, beta, accepted = overlap(rho)
    share = accepted / jnp.where(beta > 0, beta, 1)
    closing = normalised(jnp.maximum(p - shared * share[..., None], 0), p)

    at_parent = lambda values: jnp.take_along_axis(values, parents + 1, axis=1)
    rows = jnp.arange(len(tokens))[:, None]
    numerator = jnp.where(mask, p[rows, parents + 1, tokens], 0)
    denominator = jnp.where(mask, at_parent(rho) * at_tokens(q, tokens), 1)
    return TreeLaw(numerator, denominator, closing)


@dataclasses.dataclass(frozen=True)
class RecursiveRejection(RatioVerifier):
    """Recursive rejection sampling on any tree; see `recursive_law`.

    It reads from q how siblings were drawn: with or without replacement, from one law or several, chosen (one-hot), or
    the *greedy* siblings of 2502.18779. Those are one draw from q without its k - 1 most likely tokens, first, and then
    these tokens as chosen nodes, which is the best verification of such a set, and for k = 2 that of SpecHub's pairs.
    A chain is judged as by `TokenRatio`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    """

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `recursive_law`."""
        return recursive_law(p, q, tree.tokens, tree.parents, tree.mask)

    def judge(
        self, tree: DraftTree, logits: jax.Array, history: History | None, context: Context
    ) -> Verdict:
        """See `jaxdec.speculative.parts.Verifier`; with a plain warp in one operation, which needs the path alone."""
        warp = context.settings.warp
        if tree.settled or not warp.plain:
            return super().judge(tree, logits, history, context)
        walked = ratio_walk(
            logits,
            tree.q,
            tree.tokens,
            tree.parents,
            tree.mask,
            *randomness(tree, context),
            *warp.plain_knobs(len(logits)),
            depth=tree.depth,
        )
        return verdict(walked)


@dataclasses.dataclass(frozen=True)
class KSeq(RatioVerifier):
    """K-SEQ on trees whose siblings were drawn independently from one law, such as chains; see `kseq_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    """

    needs_independence: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `kseq_law`."""
        return kseq_law(p, q, tree.tokens, tree.parents, tree.mask)
