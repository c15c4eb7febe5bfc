"""Drafting with a network that extrapolates the target's features: EAGLE.

Legend: B rows, U pairs that the last step committed at most, F nodes of a frontier, D levels, V vocabulary.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
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
from jaxdec.speculative.drafters.heads import likeliest
from jaxdec.speculative.growth import Frontier, Growth, Slots, grow
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pairs:
    """Committed pairs: a feature of the target (`Model.features`), and the token that followed it.

    Attributes:
      cache: the drafter's, of pairs with true features; the pair of the token at position p lies in slot p - 1.
      features: `[B, U, width]`, of the pairs that the cache lacks, the last of which holds the pending token. A row
        has none only before the first step of a prompt of one token.
    """

    cache: Any
    features: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairWindow:
    """The pairs after the drafter's cache, `[B, M]` each: those that it lacks, then one frontier after the other.

    Attributes:
      tokens: int32.
      features: `[B, M, width]`, the target's for committed pairs, predicted ones for drafts.
      parents: int32, places in the window; -1 for the first pair.
      scored: bool, which exist.
      predicted: `[B, F, width]`, the features after the nodes of the last frontier.
      entries: of the last forward; they cover the whole window.
    """

    tokens: jax.Array
    features: jax.Array
    parents: jax.Array
    scored: jax.Array
    predicted: jax.Array
    entries: Any


@dataclasses.dataclass(frozen=True)
class EagleDrafter(FeatureDrafter):
    """See `eagle`."""

    model: Model
    growth: Growth
    name: str = "draft"

    @property
    def forwards(self) -> int:
        """One forward a level."""
        return self.depth

    def init(self, params: GrownParams, request: Request, output: Output) -> Pairs:
        """A cache of the prompts' pairs but for the last, which holds the pending token; a prompt is read once.

        Raises:
          ValueError: while it is traced, if the network does not read states of the target's width.
        """
        hypotheses = request.hypotheses
        request = by_prompt(request, hypotheses)
        batch, width = request.prompt.shape
        pairs = request.lengths - 1
        stored = jnp.maximum(pairs - 1, 0)
        places = jnp.broadcast_to(jnp.arange(width), (batch, width))
        features = features_of(self.model, params.source, output, hypotheses)
        inputs = Inputs.causal(
            jnp.roll(request.prompt, -1, axis=1),
            start=1,
            valid=places < stored[:, None],
            features=features,
        )
        with reads_states(output):
            entries = self.model(params.source, inputs, None).entries
        cache = request.new_cache(self.model)
        key_spans = visibility.causal(inputs.positions).key_spans
        last = jnp.take_along_axis(features, stored[:, None, None], axis=1)
        features = jnp.pad(last, ((0, 0), (0, self.depth), (0, 0)))
        cache = cache.commit(entries, places, stored, key_spans)
        return Pairs(*spread((cache, features), hypotheses))

    def propose(
        self, params: GrownParams, state: Pairs, context: Context
    ) -> tuple[DraftTree, PairWindow]:
        """Grows the tree from the features after the pending token; also returns the window."""
        rows, cache = context.rows, state.cache
        batch, width = len(rows.length), self.growth.frontier
        # More than a step of this depth commits, where lengths adapt.
        lacking = state.features.shape[1]
        unseen = rows.length - 1 - cache.length
        slots = Slots(lacking, width, jnp.maximum(unseen - 1, 0)[:, None])
        size = slots.size(self.depth)
        places = jnp.broadcast_to(jnp.arange(size), (batch, size))

        def feed(window: PairWindow, at: jax.Array):
            spans = visibility.tree(window.parents, cache.length + 1, window.scored)
            depth = visibility.ancestors(window.parents).sum(-1)
            positions = (cache.length[:, None] + depth).astype(jnp.int32)
            inputs = Inputs(window.tokens, positions, *spans, features=window.features, at=at)
            return self.model(params.source, inputs, cache)

        def source(window: PairWindow, depth: jax.Array, frontier: Frontier):
            features = jnp.take_along_axis(window.predicted, frontier.parents[..., None], axis=1)
            window = dataclasses.replace(
                window,
                tokens=slots.put(window.tokens, frontier.tokens, depth),
                features=slots.put(window.features, features, depth),
                parents=slots.put(window.parents, slots.parents(frontier, depth), depth),
                scored=slots.put(window.scored, frontier.mask, depth),
            )
            output = feed(window, slots.at(depth))
            entries = output.entries
            window = dataclasses.replace(window, predicted=output.hidden, entries=entries)
            return output.logits, window

        fill = lambda x: jnp.pad(x, ((0, 0), (0, size - lacking), *((0, 0),) * (x.ndim - 2)))
        window = PairWindow(
            tokens=fill(rows.window(cache.length + 1, lacking)),
            features=fill(state.features),
            parents=jnp.where(places < lacking, places - 1, -1),
            scored=places < unseen[:, None],
            predicted=jnp.zeros((batch, width, state.features.shape[-1]), state.features.dtype),
            entries=None,
        )
        at = jnp.zeros((batch, width), jnp.int32)
        entries = jax.eval_shape(lambda: feed(window, at).entries)
        entries = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), entries)
        window = dataclasses.replace(window, entries=entries)
        tree, window = grow(self.growth, params.growth, context, source, window)
        mask = tree.mask & (unseen > 0)[:, None]
        return dataclasses.replace(tree, mask=mask), window

    def update(self, params: GrownParams, state: Pairs, rows: Rows, result: StepResult) -> Pairs:
        """Stores the pairs that the cache lacked; those of the kept path, with the target's features, come next."""
        size, path, fed = self.depth + 1, result.verdict.path, result.proposal
        places = jnp.broadcast_to(jnp.arange(size), path.shape)
        count = fed.scored[:, :size].sum(1).astype(jnp.int32)
        key_spans = visibility.causal(state.cache.length[:, None] + 1 + places).key_spans
        features = features_at(self.model, params.source, result.output, path)
        return Pairs(state.cache.commit(fed.entries, places, count, key_spans), features)


@typed
def eagle(model: Model, *, growth: Growth | None = None, name: str = "draft") -> EagleDrafter:
    """Drafts with a network that predicts the target's next feature from pairs of a feature and the token after it.

        f'_{i+1}, q(x_{i+2} | x_{<=i+1}) = network((f_1, x_2), ..., (f_i, x_{i+1})),   f the target's, f' predicted

    The drafter keeps a cache of its own, of committed pairs with the target's true features. A proposal feeds the pairs
    that the cache lacks together with the nodes so far, whose features are predicted ones, once a level: nothing
    provisional is ever written. A prompt of one token has no pair and is decoded plainly for one step.

    Args:
      model: such as `jaxdec.models.Eagle` or `Eagle3`: reads `Inputs.features`, and its hidden states are the predicted
        features. What its features are made of is its own matter (`Model.taps`, `Model.fuse`): the last hidden states
        for EAGLE, the states of three layers for EAGLE-3. Tokens to which it gives nothing are never drafted.
      growth: from `jaxdec.growth`; the tree of the 60 likeliest paths of 8 levels if not given, or fewer if there are
        no more.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: where the request is, for a network of another vocabulary or width, or one that cannot read as far as
        the request goes; in `speculative`, for a target without the layers that it taps.

    Exactness: that of the verifier.
    Source: 2401.15077, and 2406.16858 (EAGLE-2) with `growth.best_first`; 2503.01840 (EAGLE-3).
    """
    growth = likeliest(8, model.vocab_size) if growth is None else growth
    return EagleDrafter(model, growth, name)
