"""Branches: the canvases that the next steps may lead to, guessed a step ahead and scored in one forward (FreeDave).

Legend: B rows, L positions of the canvas, W positions of the active group.
"""

import jax
import jax.numpy as jnp

from jaxdec.diffusion.candidates import Candidates, ranked
from jaxdec.diffusion.canvas import FAR, Canvas, GroupState, put, take
from jaxdec.diffusion.contract import Knobs, Unmask
from jaxdec.diffusion.group import ActiveGroup
from jaxdec.model import Params


def foreseen(
    canvas: Canvas, ahead: jax.Array, active: ActiveGroup, group: GroupState, branch: int
) -> jax.Array:
    """Whether a branch is the group as it stands now, position for position and token for token, bool `[B]`.

    Args:
      canvas: as it was scored.
      ahead: int32 `[B, L]`, the branch from which on a masked position is filled.
      active: the group.
      group: after the steps so far.
      branch: from 1 on.
    """
    known = take(canvas.committed, active.places) & active.there
    filled = known | (active.there & (take(ahead, active.places) <= branch))
    tokens = jnp.where(filled, take(canvas.tokens, active.places), 0)
    same = (filled == group.committed).all(1)
    same &= (tokens == jnp.where(group.committed, group.tokens, 0)).all(1)
    return same & (active.there & ~group.committed).any(1)


def guessed(
    unmask: Unmask,
    params: Params,
    seen: Candidates,
    active: ActiveGroup,
    ahead: jax.Array,
    knobs: Knobs,
) -> jax.Array:
    """The branch from which on each masked position is filled next time, int32 `[B, L]`.

    Args:
      unmask: the policy, whose next steps are guessed.
      params: by part.
      seen: the last forward, over the group as it stands now.
      active: the group.
      ahead: of this step, for its shape.
      knobs: traced settings.
    """
    score, count = unmask.ahead(unmask.own(params), seen, knobs)
    filled = ranked(score, seen.allowed) // jnp.maximum(count, 1)[:, None] + 1
    filled = jnp.where(seen.allowed, filled, FAR)
    return put(jnp.full_like(ahead, FAR), active.places, filled, active.there)
