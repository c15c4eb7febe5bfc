"""Bigrams of the row's own known tokens.

Legend: B rows, L positions, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.any_subset.drafters.any_subset_drafter import AnySubsetDrafter, checked_width, upcoming
from jaxdec.arguments import typed
from jaxdec.model import Model, Params
from jaxdec.sampling import Warp, perturbed_argmax
from jaxdec.speculative import Context, DraftTree


@dataclasses.dataclass(frozen=True)
class ContextNgram(AnySubsetDrafter):
    """Draws from the bigrams of the known tokens; see `context_ngram`."""

    vocab_size: int
    depth: int

    def propose(self, params: Params, state: Any, context: Context) -> tuple[DraftTree, None]:
        """Draws K tokens, each given its left neighbour, by counts over committed tokens."""
        rows, order = context.rows, context.rows.order
        assert order is not None
        size = order.places.shape[1]
        ranks, mask = upcoming(context, self.depth)
        at = order.places[:, : rows.tokens.shape[1]]
        committed = jnp.arange(at.shape[1]) < rows.length[:, None]
        at = jnp.where(committed, at, size)  # past the end: dropped
        by_place = jax.vmap(
            lambda at, values: jnp.zeros((size,), values.dtype).at[at].set(values, mode="drop")
        )
        tokens, known = by_place(at, rows.tokens[:, : at.shape[1]]), by_place(at, committed)
        count = lambda where, values: (
            jnp.zeros((self.vocab_size,)).at[values].add(where.astype(jnp.float32))
        )
        unigrams = jax.vmap(count)(known, tokens)
        pairs = known[:, :-1] & known[:, 1:]
        # Temperature alone: a filter or a ban could leave the few counted tokens without a law.
        warp = Warp(temperature=context.settings.warp.temperature)

        def draw(carry, inputs):
            canvas, filled = carry  # with the drafts so far
            rank, noise = inputs
            position = order.at(rank)
            left = jnp.maximum(position - 1, 0)[:, None]
            has_left = (position > 0) & jnp.take_along_axis(filled, left, axis=1)[:, 0]
            before = jnp.take_along_axis(canvas, left, axis=1)
            after = pairs & (tokens[:, :-1] == before) & has_left[:, None]
            bigrams = jax.vmap(count)(after, tokens[:, 1:])
            counts = jnp.where(bigrams.sum(-1, keepdims=True) > 0, bigrams, unigrams)
            law = warp.log_probs(jnp.log(counts))
            token = perturbed_argmax(law, noise)
            here = jnp.arange(size) == position[:, None]
            canvas = jnp.where(here, token[:, None], canvas)
            return (canvas, filled | here), (token, law)

        noise = context.noise[:, : self.depth].swapaxes(0, 1)
        _, (drafts, laws) = jax.lax.scan(draw, (tokens, known), (ranks.T, noise))
        return DraftTree.chain(drafts.T, mask, laws.swapaxes(0, 1)), None


@typed
def context_ngram(model: Model, *, width: int = 6) -> ContextNgram:
    """Drafts from the bigrams that the row itself shows, in-graph, with no model and no table of V x V.

        q(v | left neighbour a) = #(a v) / #(a .),   by unigrams where a was never followed by a known token

    Counts are those of the committed tokens; the left neighbour may be a draft of the same step. O(C + V) a draft.

    Args:
      model: the target, for its vocabulary.
      width: K, at least 2.

    Raises:
      ValueError: if `width < 2`.

    Exactness: that of the verifier.
    Source: 2504.20456. Where a position has no known left neighbour (the first one, or an order of the caller's own)
    unigrams serve, instead of a draft of the model.
    """
    return ContextNgram(model.vocab_size, checked_width(width))
