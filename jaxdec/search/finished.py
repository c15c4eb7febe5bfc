"""What becomes of chosen continuations: which go on, which hypotheses have ended and are kept, when a group ends.

Everything here is numbers of a prompt's groups. A place is an index into three things side by side: the K choices of
the group, its W hypotheses on the shelf, and its W hypotheses as they were before the step.

Legend: P prompts, G groups of W hypotheses, K choices of a group.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdec.decoding import at_home


class Limits(NamedTuple):
    """When to stop, `[P, 1]` each: `length_penalty` float32, `early_stopping` int32, `budget` new tokens at most."""

    length_penalty: jax.Array
    early_stopping: jax.Array
    budget: jax.Array


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The choices of each group, best first, `[P, G, K]` each.

    Attributes:
      source: int32, the place within the group, 0 to W - 1, that each continues.
      score: float32.
      exists: bool; false for what is no continuation.
      ended: bool, whether it ended by its new token.
      new: int32, new tokens with that one.
    """

    source: jax.Array
    score: jax.Array
    exists: jax.Array
    ended: jax.Array
    new: jax.Array


@dataclasses.dataclass(frozen=True)
class Settled:
    """Where the hypotheses of each group come from, `[P, G, W]` each.

    Attributes:
      rows: int32, the place of each hypothesis after the step.
      scores: float32, of each; final ones, over their lengths, of those that ended in this step.
      shelf: int32, the place of each hypothesis on the shelf; as `rows` where there is no shelf.
      shelf_scores: float32; -inf for nothing.
      stuck: bool, hypotheses that end because there is no continuation.
    """

    rows: jax.Array
    scores: jax.Array
    shelf: jax.Array
    shelf_scores: jax.Array
    stuck: jax.Array


def settle(
    chosen: Chosen, scores: jax.Array, shelf_scores: jax.Array, active: jax.Array, limits: Limits
) -> Settled:
    """Beam search with a pool of finished hypotheses, as transformers defines it.

    The W best choices that do not end go on. Of the W best choices those that end are put on the shelf, with the score

        S / n^length_penalty,   n new tokens,

    where the W best stay. With b the best score of what goes on, over n^length_penalty, a group ends once its shelf is
    full and the worst score on it is not below b; with `early_stopping` 1 as soon as the shelf is full; with 2, b is
    over the largest possible n where the penalty is positive; and whenever nothing can go on. The shelf, best first,
    then takes the places of the hypotheses, and behind it stand those that had no continuation.

    Args:
      chosen: K >= W choices of each group.
      scores: float32 `[P, G, W]`, before the step.
      shelf_scores: float32 `[P, G, W]`, before it.
      active: bool `[P, G]`, groups that have not ended; of others nothing changes.
      limits: settings.
    """
    width, choices = scores.shape[-1], chosen.score.shape[-1]
    before = choices + width + jnp.arange(width, dtype=jnp.int32)
    on, goes = _going(chosen, width)
    penalty, early, budget = (x[..., None] for x in limits)  # [P, 1, 1]
    over = lambda score, length: score / length.astype(jnp.float32) ** penalty
    kept = chosen.exists & chosen.ended & (jnp.arange(choices) < width)
    ended = jnp.where(kept, over(chosen.score, chosen.new), -jnp.inf)
    best, at = jax.lax.top_k(jnp.concatenate([shelf_scores, ended], axis=-1), width)
    shelf = jnp.where(at < width, choices + at, at - width).astype(jnp.int32)
    filled = best > -jnp.inf

    going = jnp.where(goes, jnp.take_along_axis(chosen.score, on, axis=-1), -jnp.inf)
    reached = jnp.take_along_axis(chosen.new, on, axis=-1)
    longest = jnp.where((early == 2) & (penalty > 0), budget, reached)
    hope = jnp.where(goes, over(going, longest), -jnp.inf).max(-1)
    full = filled.all(-1)
    done = ~goes.any(-1) | (full & ((hope <= best[..., -1]) | (early[..., 0] == 1)))

    stays, done = ~active[..., None], done[..., None]
    rows = jnp.where(done, jnp.where(filled, shelf, before), jnp.where(goes, on, before))
    after = jnp.where(done, best, going)
    old = choices + jnp.arange(width, dtype=jnp.int32)
    return Settled(
        rows=jnp.where(stays, before, rows),
        scores=jnp.where(stays, scores, after),
        shelf=jnp.where(stays, old, shelf),
        shelf_scores=jnp.where(stays, shelf_scores, best),
        stuck=~stays & done & ~filled,
    )


def settle_in_place(chosen: Chosen, scores: jax.Array, active: jax.Array) -> Settled:
    """All choices in the places of the hypotheses, whether they have ended or not; sorted once all of them have.

    Arguments as for `settle`, of W choices.
    """
    width = scores.shape[-1]
    before = 2 * width + jnp.arange(width, dtype=jnp.int32)
    running = (chosen.exists & ~chosen.ended).any(-1, keepdims=True)
    arranged = jnp.where(running, at_home(chosen.source), jnp.arange(width, dtype=jnp.int32))
    exists = jnp.take_along_axis(chosen.exists, arranged, axis=-1)
    after = jnp.where(exists, jnp.take_along_axis(chosen.score, arranged, axis=-1), -jnp.inf)
    stays = ~active[..., None]
    rows = jnp.where(stays | ~exists, before, arranged)
    return Settled(
        rows=rows,
        scores=jnp.where(stays, scores, after),
        shelf=rows,
        shelf_scores=after,
        stuck=~stays & ~exists & ~running,
    )


def _going(chosen: Chosen, width: int) -> tuple[jax.Array, jax.Array]:
    """The best choices that go on `[P, G, W]`, each past in its own place once, and which places have one."""
    goes = chosen.exists & ~chosen.ended
    on = jnp.argsort(~goes, axis=-1, stable=True)[..., :width].astype(jnp.int32)
    arranged = at_home(jnp.take_along_axis(chosen.source, on, axis=-1))
    on = jnp.take_along_axis(on, arranged, axis=-1)
    return on, jnp.take_along_axis(goes, on, axis=-1)
