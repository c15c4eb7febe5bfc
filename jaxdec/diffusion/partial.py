"""Steps that compute a part of the active group.

Legend: B rows, L positions of the canvas, W positions of the active group, D branches.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.diffusion.canvas import FAR, compact, take
from jaxdec.diffusion.forward import Computed
from jaxdec.diffusion.refresh import CanvasStatus, Refresh
from jaxdec.diffusion.state import DenoiseState
from jaxdec.model import Params


def renumbered(
    rule: Refresh, params: Params, state: DenoiseState, status: CanvasStatus, wide: jax.Array
) -> tuple[DenoiseState, CanvasStatus]:
    """The state with the units that a partial rule gives rows that take a wide step, bool `[B]`."""
    if not rule.partial:
        return state, status
    own = rule.units(rule.own(params), status, state.settings.knobs)
    units = jnp.where(wide[:, None], own, state.canvas.units)
    canvas = dataclasses.replace(state.canvas, units=units)
    masked = jnp.where(canvas.masked, units, FAR)
    status = status._replace(units=units, unit=jnp.min(masked, axis=1, keepdims=True))
    return dataclasses.replace(state, canvas=canvas), status


def uncomputed(
    rule: Refresh, computed: Computed, status: CanvasStatus, fresh: jax.Array, window: int
) -> Computed:
    """A forward; by a partial rule, laws are NaN where the group was not computed, `fresh` bool `[B, L]`."""
    if not rule.partial:
        return computed
    places, there, _ = compact(status.active, window)
    here = (take(fresh, places) & there)[:, None, :, None]
    scored = computed.scored
    logits = jnp.where(here, scored.logits, jnp.nan)
    return computed._replace(scored=dataclasses.replace(scored, logits=logits))
