"""Proposals for a whole group, and the step's tokens from the one that a rule picks.

Legend: B rows, L positions of the canvas, W positions of the active group, K proposals.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Scored
from jaxdec.diffusion.candidates import Candidates
from jaxdec.diffusion.canvas import Canvas, GroupState, at_token, put
from jaxdec.diffusion.contract import Unmask
from jaxdec.diffusion.group import ActiveGroup
from jaxdec.diffusion.resample import Proposals, Resample
from jaxdec.diffusion.state import DenoiseState
from jaxdec.diffusion.static_step import StepsTaken
from jaxdec.model import Params
from jaxdec.sampling import Purpose, key_at
from jaxdec.sampling.noise import gumbel


def further_forwards(
    rule: Resample | None, policy: Unmask, state: DenoiseState, active: ActiveGroup
) -> jax.Array:
    """Forwards of the rule's and the policy's own models in a step, int32 `[B]`."""
    own = jnp.where(state.rows.running, policy.forwards, 0).astype(jnp.int32)
    if rule is None:
        return own
    due = _due(rule, state.canvas.masked.sum(1), active.canvas_progress.size, state)
    return own + jnp.where(due, rule.number, 0).astype(jnp.int32)


def _due(rule: Resample, left: jax.Array, size: jax.Array, state: DenoiseState) -> jax.Array:
    """Rows that are decoded and that the rule resamples, bool `[B]`."""
    masked = left.astype(jnp.float32) / jnp.maximum(size, 1)
    return state.rows.running & rule.due(masked, state.settings.knobs)


def looked(
    rule: Resample | None,
    params: Params,
    state: DenoiseState,
    active: ActiveGroup,
    taken: StepsTaken,
    scored: Scored,
    group: GroupState,
) -> Candidates:
    """What the parts look at: tokens by the noise of every step, or of the proposal that a rule picks.

    Args:
      rule: picks; None to take the first.
      params: by part.
      state: before the step.
      active: its group.
      taken: the steps so far.
      scored: the forward over the group, `[B, W, ...]`.
      group: its positions.
    """
    seen = active.see(scored, group, taken.step, taken.steps)
    if rule is None:
        return seen
    progress = seen.canvas_progress
    due = _due(rule, progress.left, progress.size, state)
    tokens, log_probs = _proposed(rule, active, scored, group, seen)
    proposals = _spread(rule, state.canvas, active, seen, tokens, log_probs)
    chosen = rule.pick(rule.own(params), proposals, due, state.settings.knobs)
    chosen = jnp.where(due, chosen, 0)
    take = lambda x: jnp.take_along_axis(x, chosen[None, :, None], axis=0)[0]
    token = take(tokens)
    own = at_token(jax.nn.log_softmax(scored.logits), token)
    return dataclasses.replace(
        seen,
        tokens=token,
        drawn=token,
        own=seen.own._replace(log_prob=jnp.where(due[:, None], own, seen.own.log_prob)),
        warped=seen.warped._replace(log_prob=take(log_probs)),
    )


def _proposed(
    rule: Resample, active: ActiveGroup, scored: Scored, group: GroupState, seen: Candidates
) -> tuple[jax.Array, jax.Array]:
    """Tokens and their log-probabilities under the law that they are drawn from, `[K, B, W]` each."""
    step = jnp.broadcast_to(seen.steps[:, None], active.places.shape)

    def again(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = jnp.full_like(step, number)
        keys = lambda: key_at(active.keys, Purpose.PROPOSAL, active.places, step, at)
        drawn = active.drawn(scored, group, keys)
        return drawn.tokens, drawn.warped.log_prob

    first = seen.tokens[None], seen.warped.log_prob[None]
    more = jax.lax.map(again, jnp.arange(1, rule.number, dtype=jnp.int32))
    tokens, log_probs = map(lambda a, b: jnp.concatenate([a, b]), first, more)
    return jnp.where(group.committed, group.tokens, tokens), log_probs


def _spread(
    rule: Resample,
    canvas: Canvas,
    active: ActiveGroup,
    seen: Candidates,
    tokens: jax.Array,
    log_probs: jax.Array,
) -> Proposals:
    """What the rule picks from: whole canvases."""
    everywhere = jax.vmap(lambda new: put(canvas.tokens, active.places, new, active.there))
    nothing = jnp.zeros(canvas.tokens.shape, jnp.float32)
    spread = jax.vmap(lambda new: put(nothing, active.places, new, seen.allowed))
    known = put(canvas.committed, active.places, active.there, active.there)
    begin = seen.canvas_progress.begin
    keys = key_at(active.keys, Purpose.PROPOSAL, jnp.zeros_like(begin), seen.steps)
    return Proposals(
        tokens=everywhere(tokens),
        known=known & canvas.exists,
        begin=begin,
        log_probs=spread(log_probs),
        noise=gumbel(keys, rule.number),
    )
