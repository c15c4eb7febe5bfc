"""One forward over the fresh positions of a canvas, and over the canvases that the next steps may lead to.

Legend: B rows, L positions of the canvas, W positions of a group, D branches, T fresh positions, V vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdec import visibility
from jaxdec.decoding import Rows
from jaxdec.diffusion.canvas import Canvas, compact, take
from jaxdec.diffusion.refresh import CanvasStatus
from jaxdec.model import Inputs, Model, Params, Queries
from jaxdec.visibility import Spans


class Scored(NamedTuple):
    """What a forward returns: logits `[B, D, W, V]` of all branches, and what a cache would store, T entries a row."""

    logits: jax.Array
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
    """

    rows: Rows
    canvas: Canvas
    ahead: jax.Array | None
    status: CanvasStatus
    cache: Any


@dataclasses.dataclass(frozen=True)
class Forward:
    """Scores the active group.

    Attributes:
      model: reads masks (`Model.canvas`), or reads committed tokens alone and answers queries for the others.
      window: W.
      causal: whether a unit sees the units before it and itself alone.
    """

    model: Model
    window: int
    causal: bool

    def __call__(
        self,
        params: Params,
        view: ForwardInputs,
        fresh: jax.Array,
        size: int,
        branches: int = 1,
        guidance: jax.Array | None = None,
    ) -> Scored:
        """One forward over the fresh positions of all branches.

        Args:
          params: of the model.
          view: what is looked at.
          fresh: bool `[B, L]`, positions that are computed; all others are read from the cache.
          size: T, at least as many as are fresh in any row.
          branches: D; branch d is the canvas with the masks filled whose `view.ahead` is at most d.
          guidance: float32 `[B]`, scale of classifier-free guidance with the prompt masked; None for none. The cache
            then holds every row twice.
        """
        canvas, status, order = view.canvas, view.status, view.rows.order
        batch = len(canvas.tokens)
        at, there, rank = compact(fresh, size)
        group_at, group_there, _ = compact(
            status.exists & (status.groups == status.group), self.window
        )
        each = lambda x: jnp.broadcast_to(x[:, None], (batch, branches, *x.shape[1:]))
        flat = lambda x: x.reshape(batch, -1, *x.shape[3:])  # branch after branch
        known = each(take(canvas.committed, at))
        if view.ahead is not None:
            known |= each(take(view.ahead, at)) <= jnp.arange(branches)[:, None]
        readable = each(there) & (known | (not self.model.any_subset))
        spans = self._spans(status, at, branches).where(readable)
        tokens = each(take(canvas.tokens, at))
        if not self.model.any_subset:
            tokens = jnp.where(known, tokens, self._mask)
        place = (lambda x: x) if order is None else order.at
        queries = None
        if self.model.any_subset:
            asks = self._spans(status, group_at, branches).query_spans
            queries = Queries(flat(each(place(group_at))), flat(asks), canvas.end)
        positions = flat(each(place(at)))
        inputs = Inputs(
            flat(tokens), positions, flat(spans.query_spans), flat(spans.key_spans), queries
        )
        twice = 1 if guidance is None else 2
        if guidance is not None:
            prompt = flat(each(at < view.rows.prompt_length[:, None]))
            inputs = self._without_prompt(inputs, prompt)
        cache = view.cache
        if cache is not None:
            cache = _hiding(cache, jnp.tile(fresh, (twice, 1)), branches)
        output = self.model(params, inputs, cache)
        logits = output.logits
        if not self.model.any_subset:
            rows_at = each(jnp.where(group_there, take(rank, group_at), 0))
            rows_at = jnp.tile(flat(rows_at + size * jnp.arange(branches)[:, None]), (twice, 1))
            logits = jnp.take_along_axis(logits, rows_at[..., None], axis=1, mode="clip")
            real = jnp.arange(logits.shape[-1]) != self._mask
            logits = jnp.where(real, logits, -jnp.inf)
        if guidance is not None:
            given, alone = logits[:batch], logits[batch:]
            guided = alone + (guidance[:, None, None] + 1) * (given - alone)
            logits = jnp.where(jnp.isneginf(given), given, guided)
        logits = logits.reshape(batch, branches, self.window, -1)
        # Those of the first branch, the canvas as it is: without branches the same would be stored.
        stored = self._spans(status, at, 1).where(readable[:, :1]).key_spans[:, 0]
        return Scored(logits, output.entries.first(size), jnp.where(there, at, -1), stored)

    @property
    def _mask(self) -> int:
        assert self.model.mask_token is not None
        return self.model.mask_token

    def _spans(self, status: CanvasStatus, at: jax.Array, branches: int) -> Spans:
        """Spans `[B, D, T, 2]` of positions `at [B, T]` in each branch.

        Branches stand side by side as in `visibility.fork_join`: (x, -y), with y counted from the other end. Units are
        numbered with room for them in between; what lies before the active unit is the same in all branches, and is
        seen in the first one.
        """
        unit = jnp.where(status.units < 0, 0, status.units + 1) if self.causal else 0 * status.units
        branch = jnp.arange(branches)[:, None]
        number = jnp.broadcast_to(
            take(unit, at)[:, None] * branches, (len(at), branches, at.shape[1])
        )
        span = lambda first, second: jnp.stack([first, second], axis=-1)
        forever = span(number, jnp.full_like(number, visibility.FOREVER))
        if branches == 1:
            return Spans(span(number, number), forever)
        own = span(number + branch, jnp.broadcast_to(branch - branches, number.shape))
        if not self.causal:
            return Spans(own, own)
        active = (take(status.units, at) == status.unit)[:, None]
        shared = jnp.where((branch == 0)[..., None], forever, jnp.asarray(visibility.EMPTY))
        return Spans(own, jnp.where(active[..., None], own, shared))

    def _without_prompt(self, inputs: Inputs, prompt: jax.Array) -> Inputs:
        """The rows, and again with the prompt masked."""
        twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), inputs)
        masked = jnp.concatenate([jnp.zeros_like(prompt), prompt])
        if self.model.any_subset:
            key_spans = jnp.where(masked[..., None], visibility.EMPTY, twice.key_spans)
            return dataclasses.replace(twice, key_spans=key_spans)
        return dataclasses.replace(twice, tokens=jnp.where(masked, self._mask, twice.tokens))


def _hiding(cache: Any, fresh: jax.Array, branches: int) -> Any:
    """The cache without what is computed again, and with room for branches between numbers; entries are not touched."""

    def apart(spans: jax.Array) -> jax.Array:
        starts, stops = spans[..., 0], spans[..., 1]
        starts = jnp.where(starts < visibility.FOREVER, starts * branches, starts)
        return jnp.stack([starts, stops], axis=-1)

    return cache.renumber(apart).hide(fresh)
