"""A canvas that grows: masks put in place of one, and behind the end.

Legend: B rows, L positions of the canvas, W positions of the active group.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.diffusion.canvas import Canvas, GroupState, take
from jaxdec.diffusion.group import ActiveGroup, written
from jaxdec.diffusion.grow.contract import Grow, Growth
from jaxdec.diffusion.state import DenoiseState
from jaxdec.diffusion.static_step import StepsTaken, pick
from jaxdec.model import Params
from jaxdec.sampling import TopTokens


def grown(
    rule: Grow,
    params: Params,
    state: DenoiseState,
    active: ActiveGroup,
    before: GroupState,
    taken: StepsTaken,
) -> tuple[Canvas, Any, jax.Array]:
    """The canvas after a step and what grows, the rule's next state, and which rows were held, bool `[B]`.

    Args:
      rule: says where it grows.
      params: by part.
      state: before the step.
      active: the group, which is the whole canvas.
      before: it, before the step.
      taken: what the step led to.
    """
    settings, canvas, running = state.settings, state.canvas, state.rows.running
    limit = state.rows.prompt_length + jnp.minimum(settings.max_new_tokens, state.room)
    seen = active.see(taken.scored, before, taken.step - 1, taken.steps - 1)
    reveal = taken.group.committed & ~before.committed
    may_end, room = _may_end(state, canvas), limit - canvas.end
    growth, own = rule.grow(
        rule.own(params), seen, reveal, room, may_end, state.grow, settings.knobs
    )
    growth = Growth(
        hold=growth.hold & running,
        at=jnp.where(running, growth.at, -1),
        masks=growth.masks,
        more=jnp.where(running, growth.more, 0),
        ends=jnp.where(running & may_end, growth.ends, 0),
    )
    canvas = written(canvas, active, pick(growth.hold, before, taken.group))
    canvas = lengthened(
        canvas, growth, active.places, limit, settings.stops.eos, state.counters.steps
    )
    return canvas, pick(running, own, state.grow), growth.hold


def _may_end(state: DenoiseState, canvas: Canvas) -> jax.Array:
    """Rows in which an end token may be written behind the canvas, bool `[B]`: there is one, and it is not banned."""
    warp, eos = state.settings.warp, state.settings.stops.eos
    may = jnp.full(canvas.end.shape, len(eos) > 0)
    if not len(eos):
        return may
    _, banned = warp.plain_knobs(len(may))
    if banned is not None:
        may &= ~jnp.take(banned, eos[0], axis=-1)
    if warp.min_new_tokens is not None:
        may &= canvas.end - state.rows.prompt_length >= jnp.asarray(warp.min_new_tokens)
    return may


def lengthened(
    canvas: Canvas, growth: Growth, places: jax.Array, limit: jax.Array, eos: Any, step: jax.Array
) -> Canvas:
    """The canvas after a rule to grow it.

        new_j = old_j  for j < e;   a mask  for e <= j < e + masks;   old_(j - masks + 1)  behind

    Args:
      canvas: after the step.
      growth: says where.
      places: int32 `[B, W]`, positions of the group.
      limit: int32 `[B]`, the most positions of each row.
      eos: int32 `[E]`, end tokens; the first is written.
      step: int32 `[B]`, of the row.
    """
    index = jnp.arange(canvas.tokens.shape[1], dtype=jnp.int32)
    opens = (growth.at >= 0)[:, None]
    at = jnp.take_along_axis(places, jnp.maximum(growth.at, 0)[:, None], axis=1)
    masks = jnp.where(opens, growth.masks[:, None], 1)
    fresh = opens & (index >= at) & (index < at + masks)
    source = jnp.where(opens & (index >= at + masks), index - masks + 1, index)
    stop = jnp.minimum(canvas.end[:, None] + masks - 1 + growth.more[:, None], limit[:, None])
    end = eos[0] if len(eos) else 0
    last = jnp.minimum(stop + growth.ends[:, None], limit[:, None])
    filled = (index >= stop) & (index < last)
    open_ = fresh | ((index >= canvas.end[:, None] + masks - 1) & ~filled) | (index >= last)

    def moved(values: jax.Array, mask: Any, new: Any) -> jax.Array:
        return jnp.where(open_, mask, jnp.where(filled, new, take(values, source)))

    return dataclasses.replace(
        canvas,
        tokens=moved(canvas.tokens, 0, end).astype(jnp.int32),
        committed=moved(canvas.committed, False, True),
        steps=moved(canvas.steps, -1, step[:, None]),
        log_probs=moved(canvas.log_probs, 0.0, 0.0),
        raw_log_probs=moved(canvas.raw_log_probs, 0.0, 0.0),
        end=last[:, 0],
        top=_moved(canvas.top, source, filled, end),
    )


def _moved(top: TopTokens | None, source: jax.Array, written: jax.Array, end: Any) -> Any:
    """The most probable tokens where they are now; where an end token is written, it is the only one."""
    if top is None:
        return None
    number = jnp.arange(top.tokens.shape[-1], dtype=jnp.int32)
    others = jnp.where(number == end, 0, number)  # the token that the end took the place of
    tokens = jnp.where(number == 0, end, others).astype(jnp.int32)
    chances = jnp.where(number == 0, 0.0, -jnp.inf)
    fill = lambda new, old: jnp.where(written[..., None], new, take(old, source))
    return TopTokens(fill(tokens, top.tokens), fill(chances, top.log_probs))
