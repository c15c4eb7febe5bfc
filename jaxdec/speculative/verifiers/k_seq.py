"""K-SEQ: siblings that were drawn independently, all by one rule.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, at_tokens, normalised


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
class KSeq(RatioVerifier):
    """K-SEQ on trees whose siblings were drawn independently from one law, such as chains; see `kseq_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    Source: 2310.15141.
    """

    needs_independence: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `kseq_law`."""
        return kseq_law(p, q, tree.tokens, tree.parents, tree.mask)
