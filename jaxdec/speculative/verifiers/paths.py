"""Walks down a tree: which nodes are reached, the path to the last one, and the verdict of a walk.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth.
"""

import jax
import jax.numpy as jnp

from jaxdec.speculative.contract import Verdict
from jaxdec.speculative.tree import DraftTree
from pallas_kernels.verify import Walked


def taken(tree: DraftTree, passed: jax.Array) -> jax.Array:
    """Which nodes a walk goes to from their parents, bool `[B, N]`: of several siblings the first that passes.

    Siblings may carry the same token, as those of independent chains do. They are judged one by one, but what follows
    an accepted one hangs off the *first* sibling of that token, so the walk goes there.

    Args:
      tree: tokens, parents and mask.
      passed: bool `[B, N]`, the test of each node.
    """
    passed = passed & tree.mask
    earlier = jnp.tri(passed.shape[1], k=-1, dtype=bool)  # [n, m]: m < n
    siblings = tree.parents[:, :, None] == tree.parents[:, None, :]
    chosen = passed & ~(siblings & earlier & passed[:, None, :]).any(-1)
    alike = siblings & (tree.tokens[:, :, None] == tree.tokens[:, None, :]) & tree.mask[:, None, :]
    return (alike & chosen[:, None, :]).any(-1) & ~(alike & earlier).any(-1) & tree.mask


def furthest(lineage: jax.Array, kept: jax.Array, score: jax.Array | None = None) -> jax.Array:
    """The deepest scored token, int32 `[B]`, whose lineage is kept whole.

    Args:
      lineage: bool `[B, T, T]`.
      kept: bool `[B, N]`, nodes; the pending token always is.
      score: `[B, T]`, decides between tokens of the same depth, if given; then the lowest index.
    """
    kept = jnp.pad(kept, ((0, 0), (1, 0)), constant_values=True)
    reached = (lineage <= kept[:, None, :]).all(-1)
    depth = jnp.where(reached, lineage.sum(-1), 0)
    if score is not None:
        deepest = depth == depth.max(-1, keepdims=True)
        return jnp.argmax(jnp.where(deepest, score, -jnp.inf), axis=1)
    return jnp.argmax(depth, axis=1)


def lineage_path(lineage: jax.Array, last: jax.Array, deepest: int) -> tuple[jax.Array, jax.Array]:
    """The scored tokens from the root to `last` by depth, later entries repeat the root; and the nodes among them.

    Args:
      lineage: bool `[B, T, T]`.
      last: int32 `[B]`.
      deepest: D.

    Returns:
      int32 `[B, D + 1]` and int32 `[B]`.
    """
    depth = lineage.sum(-1) - 1
    own = jnp.take_along_axis(lineage, last[:, None, None], axis=1)[:, 0]  # [B, T]
    at_depth = own[:, None, :] & (depth[:, None, :] == jnp.arange(deepest + 1)[:, None])
    return jnp.argmax(at_depth, axis=-1).astype(jnp.int32), own.sum(-1).astype(jnp.int32) - 1


def walked_verdict(walked: Walked) -> Verdict:
    """What an operation of `pallas_kernels.verify` found, in the terms of the loop."""
    return Verdict(
        walked.path, walked.count, walked.next_token, walked.log_probs, walked.raw_log_probs
    )
