"""What a step hands on: the finished prefix of the canvas goes into the rows.

Legend: B rows, L positions of the canvas.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdec.decoding import Info, Rows, Settings, Status
from jaxdec.diffusion.canvas import Canvas, take


def emit(
    rows: Rows, canvas: Canvas, settings: Settings, *, final: jax.Array, stuck: jax.Array
) -> tuple[Rows, Info]:
    """Moves the finished prefix of the canvas into the rows.

    Args:
      rows: before the step.
      canvas: after it.
      settings: the request's settings.
      final: int32 `[B]`, tokens of the groups before this one are final; others may be taken back.
      stuck: bool `[B]`, rows whose group has no position that could be committed: they end.

    Returns:
      The rows, and an info without counts of forwards.
    """
    places = jnp.arange(canvas.tokens.shape[1], dtype=jnp.int32)
    open_ = canvas.exists & ~(canvas.committed & (canvas.groups < final[:, None]))
    prefix = jnp.min(jnp.where(open_, places, canvas.end[:, None]), axis=1)
    chunk = rows.length[:, None] + places
    tokens, log_probs = take(canvas.tokens, chunk), take(canvas.log_probs, chunk)
    before = rows.length
    rows, count = rows.advance(settings, tokens, prefix - before, jnp.isfinite(log_probs))
    # A full canvas that is smaller than what was asked for has no next step.
    full = rows.running & (prefix == canvas.end)
    status = jnp.where(full, int(Status.CACHE_FULL), rows.status)
    status = jnp.where(rows.running & ~full & stuck, int(Status.STALLED), status)
    rows = dataclasses.replace(rows, status=status)
    none = jnp.zeros_like(count)
    info = Info.undrafted(
        tokens=tokens,
        start=before,
        count=count,
        log_probs=log_probs,
        raw_log_probs=take(canvas.raw_log_probs, chunk),
        target_forwards=none,
        target_rows=none,
        status=rows.status,
        steps=take(canvas.steps, chunk),
        top=jax.tree.map(lambda x: take(x, chunk), canvas.top),
    )
    return rows, info
