"""Drafts by blocks of masks that the verification before them filled: TiDAR.

Legend: B rows, D drafts, T scored tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows
from jaxdec.model import MaskBlocks, Model, Output, Params
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Filled:
    """What the last forward says of the tokens after the pending one.

    Attributes:
      logits: float32 `[B, D, V]`, each apart.
      known: bool `[B]`; false before the first forward.
    """

    logits: jax.Array
    known: jax.Array


@dataclasses.dataclass(frozen=True)
class MaskBlock(CausalDrafter):
    """See `mask_block`."""

    depth: int

    def check_target(self, target: Model) -> None:
        """Raises `ValueError` for a target that fills no blocks, or blocks of another size."""
        super().check_target(target)
        size = target.forward.size if isinstance(target.forward, MaskBlocks) else None
        if size != self.depth + 1:
            got = "none" if size is None else f"blocks of {size}"
            raise ValueError(
                f"{self.depth} drafts need a target of model.mask_blocks(size={self.depth + 1}), got {got}"
            )

    def target_rows(self, size: jax.Array | None) -> int:
        """The masks."""
        return (self.depth + 1) ** 2

    def init(self, params: Params, request: Request, output: Output) -> Filled:
        """Nothing is known before the first forward."""
        rows, size = request.lengths.shape[0], output.layer_states[-1].shape[-1] // self.depth
        return Filled(jnp.zeros((rows, self.depth, size), jnp.float32), jnp.zeros((rows,), bool))

    def propose(self, params: Params, state: Filled, context: Context) -> tuple[DraftTree, None]:
        """Draws independently from the laws at hand."""
        rows, warp = context.rows, context.settings.warp
        ranks = rows.length[:, None] + jnp.arange(self.depth)
        law = warp.log_probs(state.logits, rows.history.at(ranks))
        noise = warp.settled(law, context.noise[:, : self.depth])
        tokens = jnp.argmax(law + noise, axis=-1).astype(jnp.int32)
        # Where a law holds no numbers there is no draft, whatever was drawn.
        mask = ~jnp.isnan(law).any(-1) & (jnp.arange(self.depth) < context.remaining[:, None])
        mask &= state.known[:, None]
        return DraftTree.chain(tokens, mask=mask, q=law), None

    def update(self, params: Params, state: Filled, rows: Rows, result: StepResult) -> Filled:
        """The block that hangs off the last token that stood."""
        blocks = result.output.layer_states[-1]
        count = result.verdict.count
        last = jnp.take_along_axis(result.verdict.path, count[:, None], axis=1)
        logits = jnp.take_along_axis(blocks, last[..., None], axis=1)
        return Filled(logits.reshape(state.logits.shape), jnp.ones_like(state.known))


@typed
def mask_block(*, length: int = 7) -> MaskBlock:
    """Drafts that cost no forward: masks after each scored token are filled in the forward that scores it.

        d_j ~ q_j(. | x_{<n}, d'_{<=a}),   j = 2 .. K,   from the block that hung off draft a, the last that stood

    The target's own token at the first place of the block is the pending one, which is exact. The first step has no
    draft. A step scores K tokens and K K masks.

    Args:
      length: D = K - 1, drafts a step.

    Raises:
      ValueError: for a length below 1.

    Exactness: that of the verifier, relative to the target's own causal decoding.

    Source: TiDAR 2511.08923. Each position is drawn from its own law, as q says; the published option of mixing both
    laws for a token, which keeps neither, is missing.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    return MaskBlock(length)
