"""The walk down a tree, and the shared-noise walk: speculative sampling that is token-identical to plain sampling.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, D depth, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness
from jaxdec.sampling import History, Purpose, key_at, perturbed_argmax
from jaxdec.speculative.parts import Context, Outcome, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
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
        """See `jaxdec.speculative.parts.Verifier`."""
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
        """See `jaxdec.speculative.parts.Verifier`; with a plain warp in one operation, which needs the path alone."""
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
