"""Trees from laws of positions that do not depend on one another.

Legend: B rows, K positions, N nodes, R ranks, V vocabulary.
"""

import jax
import jax.numpy as jnp

from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative import DraftTree, RankTree
from pallas_kernels import top_k

RATES = (0.6, 0.16, 0.06, 0.03)
"""How often a position drafted alone turns out to hold its best, second best, ... token, about, on held-out Python."""


def rank_tree_drafts(
    shape: RankTree,
    logits: jax.Array,
    law: jax.Array,
    noise: jax.Array,
    available: jax.Array,
    *,
    target_logits: jax.Array | None = None,
) -> DraftTree:
    """Trees of a fixed shape from laws of K positions that do not depend on one another.

    Args:
      shape: of the trees; N nodes.
      logits: float32 `[B, K, V]`.
      law: float32 `[B, K, V]`, warped.
      noise: float32 `[B, K, V]`.
      available: int32 `[B]`, how many of the K positions are drafted.
      target_logits: of the tree.
    """
    batch, depth = law.shape[:2]
    depths = jnp.asarray(shape.depths)
    mask = depths <= available[:, None]
    if len(shape.parents) == depth:  # a chain states the laws it was drawn from
        return DraftTree.chain(perturbed_argmax(law, noise), mask, law, target_logits)
    # Tokens without mass come last, by the model's own preference: at temperature 0 that decides.
    scores = jnp.where(law > -jnp.inf, law + noise, logits - 1e4)
    _, best = top_k(scores, max(shape.ranks) + 1)  # [B, K, R]
    parents = jnp.broadcast_to(jnp.asarray(shape.parents), (batch, len(shape.parents)))
    tokens = best[:, depths - 1, jnp.asarray(shape.ranks)].astype(jnp.int32)
    return DraftTree(tokens, parents, mask, None, target_logits, depth)
