"""Drafting with a block of masks that is filled in one forward, from features of the target: DFlash.

Legend: B rows, D drafts, N rows of a block, F nodes of a frontier, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import Request, Rows, by_prompt, spread
from jaxdec.model import Inputs, Model, Output
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.features import (
    FeatureDrafter,
    features_at,
    features_of,
    reads_states,
)
from jaxdec.speculative.drafters.grown import GrownParams
from jaxdec.speculative.growth import Frontier, Growth, chain, grow
from jaxdec.speculative.tree import DraftTree


@dataclasses.dataclass(frozen=True)
class DFlashDrafter(FeatureDrafter):
    """See `dflash`. Its state is the cache of the context: the token at position p lies in slot p."""

    model: Model
    block: int
    growth: Growth
    name: str = "draft"

    @property
    def forwards(self) -> int:
        """One, whatever the number of drafts."""
        return 1

    def init(self, params: GrownParams, request: Request, output: Output) -> Any:
        """A cache of the context of the prompts but for their last tokens; a prompt is read once.

        Raises:
          ValueError: while it is traced, if the network does not read states of the target's width.
        """
        hypotheses = request.hypotheses
        request = by_prompt(request, hypotheses)
        features = features_of(self.model, params.source, output, hypotheses)
        cache, count = request.new_cache(self.model), request.lengths - 1
        with reads_states(output):
            cache = self._store(params, cache, request.prompt, features, count)
        return spread(cache, hypotheses)

    def _store(
        self,
        params: GrownParams,
        cache: Any,
        tokens: jax.Array,
        features: jax.Array,
        count: jax.Array,
    ) -> Any:
        """The cache and the first `count [B]` of the next tokens `[B, T]`, which have features `[B, T, width]`."""
        index = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        positions = (cache.length[:, None] + index).astype(jnp.int32)
        spans = visibility.causal(positions)
        inputs = Inputs(tokens, positions, *spans, features=features)
        entries = self.model(params.source, inputs, None).entries
        return cache.commit(entries, index, count, spans.key_spans)

    def propose(
        self, params: GrownParams, state: Any, context: Context
    ) -> tuple[DraftTree, jax.Array]:
        """Fills the block and grows the tree from its laws, the same for all paths; also returns the rows' lengths."""
        rows, mask_token = context.rows, self.model.mask_token
        assert mask_token is not None
        batch, size = rows.length.shape[0], self.growth.frontier
        index = jnp.arange(self.block, dtype=jnp.int32)
        start = (rows.length - 1)[:, None]
        tokens = jnp.where(index == 0, rows.pending[:, None], mask_token).astype(jnp.int32)
        number = jnp.broadcast_to(start, tokens.shape)  # one for all: the block sees itself whole
        inputs = Inputs(tokens, (start + index).astype(jnp.int32), *visibility.causal(number))
        logits = self.model(params.source, inputs, state).logits[:, 1 : self.depth + 1]
        real = jnp.arange(logits.shape[-1]) != mask_token
        logits = jnp.where(real, logits, -jnp.inf)

        def source(carry: None, depth: jax.Array, frontier: Frontier):
            law = jax.lax.dynamic_slice_in_dim(logits, depth, 1, axis=1)
            return jnp.broadcast_to(law, (batch, size, logits.shape[-1])), carry

        tree, _ = grow(self.growth, params.growth, context, source, None)
        return tree, rows.length

    def update(self, params: GrownParams, state: Any, rows: Rows, result: StepResult) -> Any:
        """Stores the context of the tokens that were pending or accepted, all that the target has scored."""
        path = result.verdict.path
        tokens = rows.window(state.length, path.shape[1])
        features = features_at(self.model, params.source, result.output, path)
        return self._store(params, state, tokens, features, rows.length - result.proposal)

    def rest(
        self, params: GrownParams, state: Any, before: Rows, rows: Rows, result: StepResult
    ) -> Any:
        """The context is stored whether drafts were made or not."""
        return self.update(params, state, rows, dataclasses.replace(result, proposal=before.length))


def dflash(
    model: Model, *, block: int = 16, growth: Growth | None = None, name: str = "draft"
) -> DFlashDrafter:
    """Drafts with a network that fills a block of masks after the pending token in one forward.

        q_d(x) = network(c_1, ..., c_{n-1}; x_n, mask, ..., mask)_d,   d = 1, ..., N - 1

    for the d-th token after the pending one, x_n, from features c of the target's states after all tokens before it
    (`Model.features`). The drafter caches keys and values of c, which no later token changes; those of the block are
    dropped. The laws of a block do not depend on the drafts before: a chain draws from them, and a growth rule of trees
    takes them alike for all paths.

    Args:
      model: such as `jaxdec.models.DFlash`: has a mask token, and makes entries of `Inputs.features`.
      block: N, at least 2; that which the network was trained with is best.
      growth: from `jaxdec.growth`, of at most N - 1 levels; a chain of as many if not given.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: if the model has no mask token, the block is too small, or the growth rule has more levels; where the
        request is, for a network of another vocabulary or width, or one that cannot read as far as the request goes; in
        `speculative`, for a target without the layers that it taps.

    Exactness: that of the verifier. A chain is drawn, so that ratio rules know its law (the published code takes the
    likeliest tokens).
    Source: 2602.06036.
    """
    if model.mask_token is None:
        raise ValueError("DFlash fills masks, but the model has no mask token")
    if block < 2:
        raise ValueError(f"block must be at least 2, got {block}")
    growth = chain(block - 1) if growth is None else growth
    if growth.depth >= block:
        raise ValueError(
            f"a block of {block} drafts at most {block - 1} levels, got {growth.depth}"
        )
    return DFlashDrafter(model, block, growth, name)
