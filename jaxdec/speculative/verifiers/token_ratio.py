"""Speculative sampling: each draft of a chain by its own ratio.

Legend: B rows, N draft nodes, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, at_tokens, residual


def token_law(p: jax.Array, q: jax.Array, tokens: jax.Array, mask: jax.Array) -> TreeLaw:
    """The token rule: accept draft x_i iff `u_i q_i(x_i) < p_i(x_i)`, up to the first failure.

    After A accepted drafts the closing token has the law `[p_{A+1} - q_{A+1}]+`, normalised, and `p_{N+1}` after all.

    Args:
      p: `[B, N + 1, V]`, target laws after 0, ..., N drafts.
      q: `[B, N, V]`, the laws that the drafts were drawn from (one-hot for a chosen draft).
      tokens: int32 `[B, N]`, the drafts x.
      mask: bool `[B, N]`, a prefix of each row: the drafts that exist.

    Source: Leviathan et al., 2211.17192; Chen et al., 2302.01318.
    """
    p_x, q_x = at_tokens(p[:, :-1], tokens), at_tokens(q, tokens)
    # A draft that does not exist never passes, and takes nothing away from the law that closes there.
    q = jnp.where(mask[..., None], q, 0)
    closing = residual(p, jnp.pad(q, ((0, 0), (0, 1), (0, 0))))
    return TreeLaw(jnp.where(mask, p_x, 0), jnp.where(mask, q_x, 1), closing)


def first_failure(passed: jax.Array) -> jax.Array:
    """Accepted drafts `[...]` from tests bool `[..., N]`: the length of the leading run of successes."""
    return jnp.cumprod(passed.astype(jnp.int32), axis=-1).sum(-1)


@dataclasses.dataclass(frozen=True)
class TokenRatio(RatioVerifier):
    """Speculative sampling: accepts each draft with probability `min(1, p(x) / q(x))`; see `token_law`.

    Exactness: distribution-identical; at temperature 0 the same tokens as plain decoding.
    Source: 2211.17192, 2302.01318.
    """

    chains_only: bool = True

    def law(self, p: jax.Array, q: jax.Array, tree: DraftTree) -> TreeLaw:
        """See `token_law`."""
        return token_law(p, q, tree.tokens, tree.mask)

    def last(self, passed: jax.Array, tree: DraftTree) -> jax.Array:
        """The draft before the first failure."""
        return first_failure(passed)
