"""Block verification: prefixes of a chain as wholes.

Legend: B rows, N draft nodes, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, at_tokens, residual


def block_law(p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array) -> TreeLaw:
    """Block verification: judge prefixes as wholes; the *last* success counts.

    With `w_0 = 1, w_i = min(1, w_{i-1} p_i(x_i) / q_i(x_i))` and, for i before the last draft,
    `S_i = sum_v [w_i p_{i+1}(v) - q_{i+1}(v)]+`, prefix i passes with probability

        h_i = S_i / (S_i + 1 - w_i),   h_N = w_N,

    and the closing token after A drafts has the law `[w_A p_{A+1} - q_{A+1}]+`, normalised (`p_{N+1}` after all).

    Args:
      p: `[B, N + 1, V]`.
      q: `[B, N, V]`.
      tokens: int32 `[B, N]`.
      mask: bool `[B, N]`, a prefix of each row.

    Source: Sun et al., 2403.10444; at least as many accepted drafts as the token rule in expectation.
    """
    p_x, q_x = at_tokens(p[:, :-1], tokens), at_tokens(q, tokens)
    ratio = jnp.where(q_x > 0, p_x / jnp.where(q_x > 0, q_x, 1), 0)

    def grow(weight, ratio):
        weight = jnp.minimum(1, weight * ratio)
        return weight, weight

    _, weights = jax.lax.scan(grow, jnp.ones_like(ratio[:, 0]), jnp.where(mask, ratio, 1).T)
    weights = weights.T  # w_1..w_N, [B, N]
    before = jnp.pad(weights, ((0, 0), (1, 0)), constant_values=1)  # w_0..w_N
    q = jnp.pad(jnp.where(mask[..., None], q, 0), ((0, 0), (0, 1), (0, 0)))
    surplus = jnp.maximum(before[..., None] * p - q, 0).sum(-1)[:, 1:]  # S_1..S_N
    last = mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
    numerator = jnp.where(last, weights, surplus)
    denominator = jnp.where(last, 1, surplus + 1 - weights)
    closing = residual(p, q, before[..., None])
    return TreeLaw(jnp.where(mask, numerator, 0), jnp.where(mask, denominator, 1), closing)


def last_success(passed: jax.Array) -> jax.Array:
    """Accepted drafts `[...]` from tests bool `[..., N]`: the place of the last success, 0 if there is none."""
    return (passed * jnp.arange(1, passed.shape[-1] + 1)).max(-1, initial=0)


@dataclasses.dataclass(frozen=True)
class BlockVerification(RatioVerifier):
    """Block verification: accepts the longest prefix that passes as a whole; see `block_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    Source: 2403.10444.
    """

    chains_only: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `block_law`."""
        return block_law(p, q, tree.tokens, tree.mask)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The last success."""
        return last_success(passed)
