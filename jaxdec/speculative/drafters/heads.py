"""Drafting with heads on the target's last hidden state: Medusa's and Hydra's.

Legend: B rows, K heads, F nodes of a frontier, D levels, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import Heads, Output
from jaxdec.speculative import growth
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.grown import Grown, GrownParams
from jaxdec.speculative.growth import Frontier, Growth, grow
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LastHidden:
    """The target's state whose logits gave the pending token.

    Attributes:
      hidden: `[B, width]`.
      known: bool `[B]`; false where nothing was scored yet, that is, before the first step of a prompt of one token.
    """

    hidden: jax.Array
    known: jax.Array


@dataclasses.dataclass(frozen=True)
class HeadDrafter(Grown, CausalDrafter):
    """See `heads`."""

    heads: Heads
    growth: Growth
    name: str = "draft"

    @property
    def vocab_size(self) -> int:
        """V, of the heads."""
        return self.heads.vocab_size

    def init(self, params: GrownParams, request: Request, output: Output) -> LastHidden:
        """The state after the last token of each prompt but one.

        Raises:
          ValueError: while it is traced, if the target's states are not of the heads' width.
        """
        width = output.hidden.shape[-1]
        if width != self.heads.width:
            raise ValueError(
                f"the heads read hidden states of width {self.heads.width}, the target's have {width}"
            )
        last = request.lengths - 2
        return LastHidden(hidden_at(output, jnp.maximum(last, 0)), last >= 0)

    def propose(
        self, params: GrownParams, state: LastHidden, context: Context
    ) -> tuple[DraftTree, jax.Array]:
        """Grows the tree; also returns the rows' lengths."""
        batch, width = state.hidden.shape[0], self.growth.frontier
        hidden = state.hidden[:, None]

        def law(depth: int):
            return lambda path: jnp.broadcast_to(
                self.heads.law(params.source, hidden, path[:, :, :depth]),
                (batch, width, self.heads.vocab_size),
            )

        laws = [law(depth + 1) for depth in range(self.depth)]

        def source(path: jax.Array, depth: jax.Array, frontier: Frontier):
            # The tokens from the pending one to each node, filled up to its depth.
            path = jnp.take_along_axis(path, frontier.parents[..., None], axis=1)
            here = jnp.arange(self.depth) == depth
            path = jnp.where(here, frontier.tokens[..., None], path)
            return jax.lax.switch(depth, laws, path), path

        path = jnp.zeros((batch, width, self.depth), jnp.int32)
        tree, _ = grow(self.growth, params.growth, context, source, path)
        known = dataclasses.replace(tree, mask=tree.mask & state.known[:, None])
        return known, context.rows.length

    def update(
        self, params: GrownParams, state: LastHidden, rows: Rows, result: StepResult
    ) -> LastHidden:
        """Takes the state after the token before the new pending one."""
        taken = rows.length - result.proposal
        place = jnp.maximum(taken - 1, 0)[:, None]
        last = jnp.take_along_axis(result.verdict.path, place, axis=1)[:, 0]
        some = taken > 0
        hidden = jnp.where(some[:, None], hidden_at(result.output, last), state.hidden)
        return LastHidden(hidden, state.known | some)

    def rest(
        self,
        params: GrownParams,
        state: LastHidden,
        before: Rows,
        rows: Rows,
        result: StepResult,
    ) -> LastHidden:
        """The state follows the target whether drafts were made or not."""
        return self.update(params, state, rows, dataclasses.replace(result, proposal=before.length))


def hidden_at(output: Output, place: jax.Array) -> jax.Array:
    """Hidden states `[B, width]` at `place [B]` of the scored tokens."""
    return jnp.take_along_axis(output.hidden, place[:, None, None], axis=1)[:, 0]


@typed
def heads(heads: Heads, *, growth: Growth | None = None, name: str = "draft") -> HeadDrafter:
    """Drafts with Medusa's or Hydra's heads: no forward of a draft model.

        p_d(x | h, x_1, ..., x_d),   d = 1, ..., K

    for the token after a path of d tokens, the pending one first, from the target's state h whose logits gave the
    pending token (Hydra; the law of Medusa's head d is the same for all paths). The first step has the state of the
    prompt; a prompt of one token has none and is decoded plainly for one step.

    Args:
      heads: from `jaxdec.model.heads_from_nnx`, or the checkpoint of `checkpoints.load_heads`.
      growth: from `jaxdec.growth`, of at most K levels; the tree of the 60 likeliest paths if not given, or fewer if
        there are no more.
      name: of their parameters in the `params` of `generate`.

    Raises:
      ValueError: if the growth rule has more levels than there are heads.

    Exactness: that of the verifier.
    Source: 2401.10774 (Medusa), with dynamic trees for its static one, which is `growth.ranked`; 2402.05109 (Hydra).
    """
    if growth is None:
        growth = likeliest(heads.heads, heads.vocab_size)
    if growth.depth > heads.heads:
        raise ValueError(
            f"{heads.heads} heads draft at most {heads.heads} levels, got {growth.depth}"
        )
    return HeadDrafter(heads, growth, name)


def likeliest(depth: int, vocab_size: int) -> Growth:
    """The 60 likeliest paths of `depth` levels, or as many as a small vocabulary has."""
    siblings = min(8, vocab_size)
    return growth.best_first(min(60, 8 * siblings * depth), depth, siblings=siblings)
