"""Drafting with a network that extrapolates the target's features: EAGLE.

Legend: B rows, k drafts of a block (1 for EAGLE), U pairs that the cache lacks at most, M slots of a window, F nodes of
a frontier, D levels, V vocabulary.
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
      features: `[B, U, width]`, of the pairs that the cache lacks, the last of which holds the pending token: the last
        k in any case. A row has fewer only in the first steps of a prompt of k tokens or fewer.
    """

    cache: Any
    features: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairWindow:
    """The pairs after the drafter's cache: U that it lacks, then one frontier of blocks after the other.

    Units are what a tree is made of: a committed pair, or a block of k drafts.

    Attributes:
      tokens: int32 `[B, M]`.
      features: `[B, M, width]`, the target's for committed pairs, predicted ones for drafts.
      parents: int32 `[B, units]`, of each unit; -1 for the first pair.
      scored: bool `[B, units]`, which exist.
      entries: of the last forward; they cover the whole window.
    """

    tokens: jax.Array
    features: jax.Array
    parents: jax.Array
    scored: jax.Array
    entries: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
    """What the last forward says of the block of k drafts after each node of a frontier.

    Attributes:
      tokens: int32 `[B, F, k]`, the drafts themselves, as far as they are made.
      features: `[B, F, k, width]`, predicted.
      logits: float32 `[B, F, k, V]`.
      origin: int32 `[B, F]`, which unit of the last frontier that was fed each node descends from.
    """

    tokens: jax.Array
    features: jax.Array
    logits: jax.Array
    origin: jax.Array

    def follow(self, frontier: Frontier, place: jax.Array) -> "Blocks":
        """Those of the nodes of the next frontier, whose tokens go to `place` of their blocks."""
        at = lambda x: frontier.parents.reshape(*frontier.parents.shape, *(1,) * (x.ndim - 2))
        found = jax.tree.map(lambda x: jnp.take_along_axis(x, at(x), axis=1), self)
        here = jnp.arange(self.tokens.shape[-1]) == place
        return dataclasses.replace(
            found, tokens=jnp.where(here, frontier.tokens[..., None], found.tokens)
        )


@dataclasses.dataclass(frozen=True)
class EagleDrafter(FeatureDrafter):
    """See `eagle`, and `falcon` for blocks of more than one draft."""

    model: Model
    growth: Growth
    name: str = "draft"
    block: int = 1

    @property
    def forwards(self) -> int:
        """One forward a level of blocks."""
        return -(-self.depth // self.block)

    def init(self, params: GrownParams, request: Request, output: Output) -> Pairs:
        """A cache of the prompts' pairs but for the last k; a prompt is read once.

        Raises:
          ValueError: while it is traced, if the network does not read states of the target's width.
        """
        hypotheses = request.hypotheses
        request = by_prompt(request, hypotheses)
        batch, width = request.prompt.shape
        stored = jnp.maximum(request.lengths - 1 - self.block, 0)
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
        waiting = jnp.minimum(stored[:, None] + jnp.arange(self.block), width - 1)
        last = jnp.take_along_axis(features, waiting[..., None], axis=1)
        features = jnp.pad(last, ((0, 0), (0, self.depth), (0, 0)))
        cache = cache.commit(entries, places, stored, key_spans)
        return Pairs(*spread((cache, features), hypotheses))

    def propose(
        self, params: GrownParams, state: Pairs, context: Context
    ) -> tuple[DraftTree, PairWindow]:
        """Grows the tree from the features after the pending token; also returns the window."""
        rows, cache, block = context.rows, state.cache, self.block
        batch, width = len(rows.length), self.growth.frontier
        # More than a step of this depth commits, where lengths adapt.
        lacking = state.features.shape[1]
        unseen = rows.length - 1 - cache.length
        pending = jnp.maximum(unseen - 1, 0)[:, None]
        units = Slots(lacking, width, pending)
        # The first block follows the last k committed pairs, for all nodes alike.
        last = jnp.maximum(pending + jnp.arange(1 - block, 1), 0)
        slots = Slots(lacking, width * block, jnp.tile(last, (1, width)))
        feed = lambda window, at: self.model(
            params.source, self._inputs(window, cache.length, unseen, lacking, at), cache
        )

        def ask(window: PairWindow, known: Blocks, level: jax.Array, frontier: Frontier):
            above = dataclasses.replace(frontier, parents=known.origin)
            flat = lambda x: x.reshape(batch, width * block, *x.shape[3:])
            window = dataclasses.replace(
                window,
                tokens=slots.put(window.tokens, flat(known.tokens), level),
                features=slots.put(window.features, flat(known.features), level),
                parents=units.put(window.parents, units.parents(above, level), level),
                scored=units.put(window.scored, frontier.mask, level),
            )
            output = feed(window, slots.at(level))
            apart = lambda x: x.reshape(batch, width, block, *x.shape[2:])
            origin = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), known.origin.shape)
            known = Blocks(known.tokens, apart(output.hidden), apart(output.logits), origin)
            return dataclasses.replace(window, entries=output.entries), known

        def source(carry: tuple[PairWindow, Blocks], depth: jax.Array, frontier: Frontier):
            window, known = carry
            known = known.follow(frontier, (depth - 1) % block)
            place, level = depth % block, depth // block
            if block == 1:
                window, known = ask(window, known, level, frontier)
            else:
                asked = lambda: ask(window, known, level, frontier)
                window, known = jax.lax.cond(place == 0, asked, lambda: (window, known))
            law = jax.lax.dynamic_index_in_dim(known.logits, place, axis=2, keepdims=False)
            return law, (window, known)

        window = self._window(rows, state, units, slots, unseen)
        start = jax.eval_shape(lambda: feed(window, jnp.zeros((batch, width * block), jnp.int32)))
        zeros = lambda x, *shape: jnp.zeros(shape or x.shape, x.dtype)
        known = Blocks(
            jnp.zeros((batch, width, block), jnp.int32),
            zeros(start.hidden, batch, width, block, start.hidden.shape[-1]),
            zeros(start.logits, batch, width, block, start.logits.shape[-1]),
            jnp.zeros((batch, width), jnp.int32),
        )
        window = dataclasses.replace(window, entries=jax.tree.map(zeros, start.entries))
        tree, (window, _) = grow(self.growth, params.growth, context, source, (window, known))
        mask = tree.mask & (unseen >= block)[:, None]
        return dataclasses.replace(tree, mask=mask), window

    def _window(
        self, rows: Rows, state: Pairs, units: Slots, slots: Slots, unseen: jax.Array
    ) -> PairWindow:
        """The pairs that the cache lacks, and room for blocks."""
        lacking, levels = units.ahead, self.forwards
        fill = lambda x: jnp.pad(
            x, ((0, 0), (0, slots.size(levels) - lacking), *((0, 0),) * (x.ndim - 2))
        )
        shape = len(unseen), units.size(levels)
        places = jnp.broadcast_to(jnp.arange(shape[1]), shape)
        return PairWindow(
            tokens=fill(rows.window(state.cache.length + 1, lacking)),
            features=fill(state.features),
            parents=jnp.where(places < lacking, places - 1, -1),
            scored=places < unseen[:, None],
            entries=None,
        )

    def _inputs(
        self,
        window: PairWindow,
        stored: jax.Array,
        unseen: jax.Array,
        lacking: int,
        at: jax.Array,
    ) -> Inputs:
        """A window as inputs: pairs of a block see one another, and so do the last k committed ones."""
        block, parents = self.block, window.parents

        def each(values: jax.Array) -> jax.Array:  # of units, for their slots
            return jnp.concatenate(
                [values[:, :lacking], jnp.repeat(values[:, lacking:], block, axis=1)], axis=1
            )

        def place(length: int) -> jax.Array:  # within the block
            drafts = jnp.arange(length - lacking, dtype=jnp.int32) % block
            return jnp.concatenate([jnp.zeros(lacking, jnp.int32), drafts])

        query_spans, key_spans = map(each, visibility.tree(parents, stored + 1, window.scored))
        depth = each(visibility.ancestors(parents).sum(-1))
        slot, inner = jnp.arange(depth.shape[1]), place(depth.shape[1])
        count = unseen[:, None]
        if block > 1:
            depth = jnp.where(
                slot < lacking, depth, count + (depth - count - 1) * block + 1 + inner
            )
            last = (slot >= count - block) & (slot < count)
            number = jnp.broadcast_to((stored + unseen)[:, None, None], query_spans.shape)
            query_spans = jnp.where(last[..., None], number, query_spans)
        ends = jnp.where(parents < lacking, parents, lacking + (parents - lacking + 1) * block - 1)
        before = jnp.where(inner > 0, slot - 1, each(ends))
        return Inputs(
            window.tokens,
            (stored[:, None] + depth).astype(jnp.int32),
            query_spans,
            key_spans,
            features=window.features,
            before=before.astype(jnp.int32),
            at=at,
        )

    def update(self, params: GrownParams, state: Pairs, rows: Rows, result: StepResult) -> Pairs:
        """Stores the pairs that the cache lacked but for the last k - 1, which are read again with what comes next."""
        size, path, fed = state.features.shape[1], result.verdict.path, result.proposal
        places = jnp.broadcast_to(jnp.arange(size), (len(path), size))
        unseen = fed.scored[:, :size].sum(1).astype(jnp.int32)
        again = jnp.minimum(unseen, self.block - 1)
        key_spans = visibility.causal(state.cache.length[:, None] + 1 + places).key_spans
        features = features_at(self.model, params.source, result.output, path)
        held = jnp.concatenate([state.features, features.astype(state.features.dtype)], axis=1)
        old = places < again[:, None]
        from_old, from_new = places + (unseen - again)[:, None], size + places - again[:, None]
        index = jnp.minimum(jnp.where(old, from_old, from_new), held.shape[1] - 1)
        features = jnp.take_along_axis(held, index[..., None], axis=1)
        cache = state.cache.commit(fed.entries, places, unseen - again, key_spans)
        return Pairs(cache, features)


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
