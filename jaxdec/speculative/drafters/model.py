"""Drafting with a small model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.arguments import typed
from jaxdec.decoding import Request, Rows, check_serves, prefill, read_on
from jaxdec.model import Inputs, Model, Output, Params, score
from jaxdec.speculative.contract import Context, StepResult
from jaxdec.speculative.drafters.grown import Grown, GrownParams
from jaxdec.speculative.growth import Frontier, Growth, Slots, chain, grow
from jaxdec.speculative.tree import DraftTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenWindow:
    """The tokens that follow the drafter's cache: two slots of committed ones, then the expanded nodes by level.

    Attributes:
      tokens: int32 `[B, M]`.
      parents: int32 `[B, M]`, slots.
      scored: bool `[B, M]`, which slots hold tokens that the last forward scored.
      entries: of that forward.
    """

    tokens: jax.Array
    parents: jax.Array
    scored: jax.Array
    entries: Any = None


_UNSEEN = 2
"""Committed tokens that the cache lacks at most: the pending one, and the last draft if all were accepted."""


@dataclasses.dataclass(frozen=True)
class ModelDrafter(Grown):
    """Grows a tree from the laws of a small causal model, with the target's warp.

    The drafter keeps a cache of its own, which holds committed tokens only. A proposal feeds the committed tokens that
    the cache lacks together with the nodes so far, once a level: nothing provisional is ever written, and `update`
    commits the path that was kept.

    Attributes:
      model: the draft model; the target's vocabulary.
      growth: the growth rule.
      name: of its parameters in `params`.
    """

    model: Model
    growth: Growth
    name: str = "draft"

    @property
    def vocab_size(self) -> int:
        """V, of the draft model."""
        return self.model.vocab_size

    @property
    def forwards(self) -> int:
        """One forward a level."""
        return self.depth

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for missing parameters, or a model that cannot read the request or predict its tokens."""
        super().check(request, params)
        check_serves("draft model", self.model, self.own(params).source, request)

    def init(self, params: GrownParams, request: Request, output: Output) -> Any:
        """A cache that holds the prompts but for their last tokens."""
        return prefill(self.model, params.source, request)

    def propose(
        self, params: GrownParams, state: Any, context: Context
    ) -> tuple[DraftTree, TokenWindow]:
        """Grows the tree; also returns the window that it was grown in."""
        rows, cache = context.rows, state
        batch, width = rows.length.shape[0], self.growth.frontier
        unseen = rows.length - cache.length
        slots = Slots(_UNSEEN, width, (unseen - 1)[:, None])
        size = slots.size(self.depth)
        places = jnp.broadcast_to(jnp.arange(size), (batch, size))
        window = TokenWindow(
            tokens=jnp.pad(rows.window(cache.length, _UNSEEN), ((0, 0), (0, size - _UNSEEN))),
            parents=jnp.where(places < _UNSEEN, places - 1, -1),
            scored=places < unseen[:, None],
        )

        def feed(window: TokenWindow, at: jax.Array):
            spans = visibility.tree(window.parents, cache.length, window.scored)
            depth = visibility.ancestors(window.parents).sum(-1) - 1
            ranks = (cache.length[:, None] + depth).astype(jnp.int32)
            inputs = Inputs(window.tokens, ranks, spans.query_spans, spans.key_spans)
            return score(self.model, params.source, inputs, cache, rows.order, at=at)

        def source(window: TokenWindow, depth: jax.Array, frontier: Frontier):
            window = dataclasses.replace(
                window,
                tokens=slots.put(window.tokens, frontier.tokens, depth),
                parents=slots.put(window.parents, slots.parents(frontier, depth), depth),
                scored=slots.put(window.scored, frontier.mask, depth),
            )
            output = feed(window, slots.at(depth))
            return output.logits, dataclasses.replace(window, entries=output.entries)

        # Only the entries of the last forward are wanted: they cover the whole window.
        at = jnp.zeros((batch, width), jnp.int32)
        entries = jax.eval_shape(lambda: feed(window, at).entries)
        entries = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), entries)
        window = dataclasses.replace(window, entries=entries)
        return grow(self.growth, params.growth, context, source, window)

    def update(self, params: GrownParams, state: Any, rows: Rows, result: StepResult) -> Any:
        """Commits the scored tokens of the window that were kept, short of the pending one."""
        fed, size = result.proposal, self.depth + 1
        text = rows.window(state.length, size)
        # Walks down the window for as long as it holds the committed text.
        known = rows.length - 1 - state.length

        def walk(above, place):
            here = fed.scored & (fed.parents == above[:, None]) & (above >= -1)[:, None]
            here &= fed.tokens == jax.lax.dynamic_slice_in_dim(text, place, 1, axis=1)
            here &= (place < known)[:, None]
            slot = jnp.where(here.any(-1), jnp.argmax(here, axis=-1), -2).astype(jnp.int32)
            return slot, slot

        _, path = jax.lax.scan(walk, jnp.full_like(known, -1), jnp.arange(size))
        path = path.T
        count = (path >= 0).sum(1).astype(jnp.int32)
        positions = state.length[:, None] + jnp.arange(size)
        key_spans = visibility.causal(positions).key_spans
        return state.commit(fed.entries, jnp.maximum(path, 0), count, key_spans)

    def rest(
        self, params: GrownParams, state: Any, before: Rows, rows: Rows, result: StepResult
    ) -> Any:
        """The cache stays as it is."""
        return state

    def catch_up(self, params: GrownParams, state: Any, rows: Rows) -> Any:
        """Reads what the cache lacks of running rows, in chunks, but for what a proposal feeds anyway."""
        # As wide as the commits of a step, for which every running row has room.
        width, nobody = self.depth + 1, jnp.zeros((rows.length.shape[0], 1), jnp.int32)

        def behind(cache):
            return rows.running & (rows.length - cache.length > _UNSEEN)

        def more(carry):
            step, cache = carry
            return behind(cache).any() & (step < rows.tokens.shape[1])

        def read(carry):
            step, cache = carry
            count = jnp.where(behind(cache), rows.length - 1 - cache.length, 0)
            tokens = rows.window(cache.length, width)
            count = jnp.minimum(count, width)
            given = self.model, params.source, cache, tokens, count
            return step + 1, read_on(*given, order=rows.order, at=nobody)[0]

        return jax.lax.while_loop(more, read, (jnp.int32(0), state))[1]


@typed
def model(
    model: Model,
    *,
    length: int | None = None,
    growth: Growth | None = None,
    name: str = "draft",
) -> ModelDrafter:
    """Drafts with a small causal model: a chain of `length` tokens a step, or whatever tree a growth rule makes.

        x_d ~ q(. | committed text, x_{<d}),   d = 1, ..., D,   q the small model's law under the target's warp

    The model has a cache of its own. With a model that answers queries it drafts in the order of an any-subset request.

    Args:
      model: a model with the target's vocabulary.
      length: drafts of a chain, at least 1; 6 if nothing else is given.
      growth: from `jaxdec.growth`, instead of a length.
      name: of its parameters in the `params` of `generate`.

    Raises:
      ValueError: if `length < 1`, both a length and a growth rule are given, or the model is none. A model of another
        vocabulary, one that cannot read as far as the request goes, and one that predicts no next token for a causal
        request, or answers no queries for one with an order, are refused where the request is.

    Exactness: that of the verifier.
    Source: Leviathan et al., 2211.17192; Chen et al., 2302.01318; that of the growth rule for trees.
    """
    if not isinstance(model, Model):
        raise ValueError(f"model must be a jaxdec.Model, got {type(model).__name__}")
    if growth is not None and length is not None:
        raise ValueError(f"give a length or a growth rule, got length {length} and {growth}")
    if growth is None:
        growth = chain(6 if length is None else length)
    return ModelDrafter(model, growth, name)
