"""One forward over the fresh positions of a canvas, and over the canvases that the next steps may lead to.

Legend: B rows, L positions of the canvas, W positions of a group, D branches, T fresh positions, V vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import Rows, Scored, target_params
from jaxdec.diffusion.canvas import Canvas, compact, take
from jaxdec.diffusion.neighbours import neighbours
from jaxdec.diffusion.refresh import CanvasStatus
from jaxdec.diffusion.schedules import Schedule, SpanRule
from jaxdec.model import Inputs, Model, Output, Params, Queries
from jaxdec.visibility import Spans


class Computed(NamedTuple):
    """What a forward returns.

    Attributes:
      scored: the active group in all branches, `[B, D, W, ...]`.
      entries: what a cache would store, T a row.
      slots: int32 `[B, T]`, the position of each entry; -1 for none.
      key_spans: int32 `[B, T, 2]`, the span over which each entry is seen from now on.
    """

    scored: Scored
    entries: Any
    slots: jax.Array
    key_spans: jax.Array


class ForwardInputs(NamedTuple):
    """What a forward looks at.

    Attributes:
      rows: for the order and the prompt's length.
      canvas: as it is.
      ahead: int32 `[B, L]`, the branch from which on a masked position is filled with its token; None for no guesses.
      status: where each row stands.
      cache: of the model; None without one.
      guidance: float32 `[B]`, scale of classifier-free guidance with the prompt masked; None for none. The cache then
        holds every row twice.
    """

    rows: Rows
    canvas: Canvas
    ahead: jax.Array | None
    status: CanvasStatus
    cache: Any
    guidance: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Forward:
    """Scores the active group.

    Attributes:
      model: reads masks (`Model.canvas`), or reads committed tokens alone and answers queries for the others.
      schedule: says what a position is fed and which tokens may stand there.
      spans: which units see which.
      window: W.
      longest: a bound on the positions of every row; 0 for those of the canvas.
    """

    model: Model
    schedule: Schedule
    spans: SpanRule
    window: int
    longest: int = 0

    def __call__(
        self,
        params: Params,
        given: ForwardInputs,
        fresh: jax.Array,
        size: int,
        branches: int = 1,
    ) -> Computed:
        """One forward over the fresh positions of all branches.

        Args:
          params: by part.
          given: what is looked at.
          fresh: bool `[B, L]`, positions that are computed; all others are read from the cache.
          size: T, at least as many as are fresh in any row.
          branches: D; branch d is the canvas with the masks filled whose `ahead` is at most d.
        """
        status = given.status
        at, there, rank = compact(fresh, size)
        group_at, group_there, _ = compact(status.active, self.window)
        known = _known(given, branches)
        readable = jnp.broadcast_to(there[:, None], (len(at), branches, size))
        if self.model.any_subset:
            readable &= _take(known, at)
        spans = self._spans(status, at, branches).where(readable)
        inputs = self._inputs(params, given, known, at, spans)
        if self.model.any_subset:
            order = given.rows.order
            asked = group_at if order is None else order.at(group_at)
            asks = self._spans(status, group_at, branches).query_spans
            longest = self.longest or given.canvas.tokens.shape[1]
            asked = _flat(_each(asked, branches))
            queries = Queries(asked, _flat(asks), given.canvas.end, longest)
            twice = _tiling(given)
            inputs = dataclasses.replace(inputs, queries=jax.tree.map(twice, queries))
        if self.model.reads_before:
            before = neighbours(given.rows, -1)
            before = jnp.where(take(fresh, before), take(rank, before), -1)
            before = _each(take(before, at), branches)
            first = size * jnp.arange(branches, dtype=jnp.int32)[:, None]
            before = _tiling(given)(_flat(jnp.where(before < 0, -1, before + first)))
            inputs = dataclasses.replace(inputs, before=before)
        cache = given.cache
        if cache is not None:
            cache = cache.renumber(lambda spans: _apart(spans, branches))
            cache = cache.hide(_tiling(given)(fresh))
        if not self.model.any_subset:
            rows_at = jnp.where(group_there, jnp.maximum(take(rank, group_at), 0), 0)
            rows_at = _each(rows_at, branches)
            rows_at += size * jnp.arange(branches, dtype=jnp.int32)[:, None]
            inputs = dataclasses.replace(inputs, at=_tiling(given)(_flat(rows_at)))
        output = self.model(target_params(params), inputs, cache)
        scored = self._scored(params, given, output, branches)
        # Those of the first branch, the canvas as it is: without branches the same would be stored.
        stored = self._spans(status, at, 1).where(readable[:, :1]).key_spans[:, 0]
        return Computed(scored, output.entries.first(size), jnp.where(there, at, -1), stored)

    @property
    def _mask(self) -> int:
        assert self.model.mask_token is not None
        return self.model.mask_token

    def _inputs(
        self,
        params: Params,
        given: ForwardInputs,
        known: jax.Array,
        at: jax.Array,
        spans: Spans,
    ) -> Inputs:
        """The fresh positions of all branches as the model reads them; with guidance, again without the prompt."""
        order = given.rows.order
        positions = at if order is None else order.at(at)
        fed = self._fed(params, given, known, at)
        flat = Inputs(
            _flat(fed),
            _flat(_each(positions, known.shape[1])),
            _flat(spans.query_spans),
            _flat(spans.key_spans),
        )
        if given.guidance is None:
            return flat
        prompt = jnp.arange(known.shape[-1]) < given.rows.prompt_length[:, None, None]
        twice = jax.tree.map(_tiling(given), flat)
        if self.model.any_subset:
            hidden = _flat(_take(jnp.broadcast_to(prompt, known.shape), at))
            alone = jnp.where(hidden[..., None], visibility.EMPTY, flat.key_spans)
            return dataclasses.replace(twice, key_spans=jnp.concatenate([flat.key_spans, alone]))
        alone = _flat(self._fed(params, given, known & ~prompt, at))
        return dataclasses.replace(twice, tokens=jnp.concatenate([flat.tokens, alone]))

    def _fed(
        self, params: Params, given: ForwardInputs, known: jax.Array, at: jax.Array
    ) -> jax.Array:
        """What positions `at [B, T]` are fed in each branch, `[B, D, T]` or `[B, D, T, E]`; see `Schedule.inputs`."""
        canvas = given.canvas
        batch, branches, length = known.shape
        if self.model.any_subset:  # reads known positions alone
            return _take(_each(canvas.tokens, branches), at)
        flat = lambda x: _each(x, branches).reshape(batch * branches, length)
        places = jnp.arange(length, dtype=jnp.int32) - given.rows.prompt_length[:, None]
        fed = self.schedule.inputs(
            self.schedule.own(params),
            flat(canvas.tokens),
            known.reshape(-1, length),
            flat(places),
            flat(canvas.groups),
            self._mask,
        )
        return _take(fed.reshape(batch, branches, *fed.shape[1:]), at)

    def _scored(
        self,
        params: Params,
        given: ForwardInputs,
        output: Output,
        branches: int,
    ) -> Scored:
        """The active group out of an output: its logits, guided and without impossible tokens, and hidden states."""
        batch = len(given.canvas.tokens)
        scored = Scored(output.logits, output.hidden, output.layer_states)
        if not self.model.any_subset:
            real = jnp.arange(scored.logits.shape[-1]) != self._mask
            scored = dataclasses.replace(scored, logits=jnp.where(real, scored.logits, -jnp.inf))
        if given.guidance is not None:
            seen, alone = scored.logits[:batch], scored.logits[batch:]
            guided = alone + (given.guidance[:, None, None] + 1) * (seen - alone)
            scored = jax.tree.map(lambda x: x[:batch], scored)
            logits = jnp.where(jnp.isneginf(seen), seen, guided)
            scored = dataclasses.replace(scored, logits=logits)
        split = lambda x: x.reshape(batch, branches, self.window, x.shape[-1])
        scored = jax.tree.map(split, scored)
        allowed = self._allowed(params, given, scored.logits.shape[-1])
        if allowed is None:
            return scored
        logits = jnp.where(allowed[:, None], scored.logits, -jnp.inf)
        return dataclasses.replace(scored, logits=logits)

    def _allowed(self, params: Params, given: ForwardInputs, size: int) -> jax.Array | None:
        """The codebook of each position of the active group; see `Schedule.allowed`."""
        at, _, _ = compact(given.status.active, self.window)
        places = at - given.rows.prompt_length[:, None]
        groups = jnp.broadcast_to(given.status.group, at.shape)
        return self.schedule.allowed(self.schedule.own(params), places, groups, size)

    def _spans(self, status: CanvasStatus, at: jax.Array, branches: int) -> Spans:
        """Spans `[B, D, T, 2]` of positions `at [B, T]` in each branch.

        Numbers have room for branches in between: branch d of the active unit has the number nD + d and is seen by that
        number alone. What lies before the active unit is the same in all branches, and is seen in the first one.
        """
        number, last = (
            jnp.broadcast_to(take(x, at)[:, None], (len(at), branches, at.shape[1]))
            for x in self.spans.numbers(status.units)
        )
        span = lambda first, second: jnp.stack([first, second], axis=-1)
        if branches == 1:
            return Spans(span(number, number), span(number, last))
        branch = jnp.arange(branches, dtype=jnp.int32)[:, None]
        own = number * branches + branch
        own = span(own, own)
        shared = _apart(span(number, last), branches)
        shared = jnp.where((branch == 0)[..., None], shared, jnp.asarray(visibility.EMPTY))
        if not self.spans.one_way:
            return Spans(own, own)
        active = (take(status.units, at) == status.unit)[:, None, :, None]
        return Spans(own, jnp.where(active, own, shared))


def _known(given: ForwardInputs, branches: int) -> jax.Array:
    """What is committed, or filled by a branch: bool `[B, D, L]`."""
    known = _each(given.canvas.committed, branches)
    if given.ahead is None:
        return known
    return known | (_each(given.ahead, branches) <= jnp.arange(branches)[:, None])


def _each(x: jax.Array, branches: int) -> jax.Array:
    """`[B, ...]` for each branch: `[B, D, ...]`."""
    return jnp.broadcast_to(x[:, None], (len(x), branches, *x.shape[1:]))


def _flat(x: jax.Array) -> jax.Array:
    """`[B, D, T, ...]` branch after branch: `[B, D T, ...]`."""
    return x.reshape(len(x), -1, *x.shape[3:])


def _take(x: jax.Array, at: jax.Array) -> jax.Array:
    """`x [B, D, L, ...]` at `at [B, T]`."""
    at = at.reshape(len(at), 1, -1, *(1,) * (x.ndim - 3))
    return jnp.take_along_axis(x, at, axis=2, mode="clip")


def _tiling(given: ForwardInputs):
    """A function that repeats `[B, ...]` for guidance: `[2B, ...]`."""
    twice = 1 if given.guidance is None else 2
    return lambda x: jnp.tile(x, (twice, *(1,) * (x.ndim - 1)))


def _apart(spans: jax.Array, branches: int) -> jax.Array:
    """Spans whose numbers have room for branches in between: n to m become nD to mD + D - 1."""
    starts, stops = spans[..., 0], spans[..., 1]
    apart = lambda x, more: jnp.where(jnp.abs(x) < visibility.FOREVER, x * branches + more, x)
    return jnp.stack([apart(starts, 0), apart(stops, branches - 1)], axis=-1)
