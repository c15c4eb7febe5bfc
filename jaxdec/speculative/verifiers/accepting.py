"""Verifiers that keep what a rule of their own lets pass, whatever law it came from.

Legend: B rows, N draft nodes, T = N + 1 scored tokens, V vocabulary.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Exactness, Scored
from jaxdec.model import Params
from jaxdec.sampling import Purpose, key_at, perturbed_argmax
from jaxdec.speculative.contract import Context, Verdict, Verifier
from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers.paths import furthest, lineage_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class AcceptingVerifier(Verifier):
    """Judges a tree by a rule for each node; subclasses state the rule.

    The longest path of accepted nodes is kept, of several the one of the highest total worth, and followed by a draw
    from the target's warped law with the noise of its position.
    """

    exactness: Exactness = Exactness.HEURISTIC
    shares_noise: bool = False
    chains_only: bool = False
    needs_independence: bool = False

    @abc.abstractmethod
    def accepted(
        self, tree: DraftTree, scored: Scored, log_probs: jax.Array, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """Which nodes pass, bool `[B, N]`, and what each is worth, `[B, N]`: a log-probability up to a constant.

        Args:
          tree: tokens, parents and mask; of nodes that are none the answer is not looked at.
          scored: what the target says after each scored token.
          log_probs: `[B, T, V]`, its warped laws.
          context: of the step.
        """

    def verify(
        self,
        params: Params,
        tree: DraftTree,
        scored: Scored,
        log_probs: jax.Array,
        context: Context,
    ) -> Verdict:
        """See `jaxdec.speculative.contract.Verifier`."""
        passed, worth = self.accepted(tree, scored, log_probs, context)
        passed |= jnp.arange(tree.tokens.shape[1]) < tree.target_drawn
        lineage = tree.lineage()
        along = jnp.where(lineage[:, :, 1:] & passed[:, None], worth[:, None], 0).sum(-1)
        last = furthest(lineage, tree.mask & passed, along)
        path, count = lineage_path(lineage, last, tree.depth)
        closing = jnp.take_along_axis(log_probs, last[:, None, None], axis=1)[:, 0]
        keys = lambda: key_at(context.keys, Purpose.TOKEN, context.rows.length + count)
        next_token = perturbed_argmax(closing, context.settings.warp.noise(keys, closing.shape))
        return Verdict.of(tree, path, count, next_token, logits=scored.logits, log_probs=log_probs)
