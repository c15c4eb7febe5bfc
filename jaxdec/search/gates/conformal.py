"""Keeps a segment unless it is among the worst ones, by a conformal p-value of its perplexity: the gate of ATTS.

Legend: B rows, n scores of a calibration, M scores of its own that a row remembers at most.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.arguments import typed
from jaxdec.decoding import Knob, Request, Rows
from jaxdec.model import Params
from jaxdec.sampling import is_traced
from jaxdec.search.gates.contract import Gate, Judged


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SegmentScores:
    """The last scores of a row's own segments.

    Attributes:
      values: float32 `[B, M]`, a ring.
      count: int32 `[B]`, how many there ever were.
    """

    values: jax.Array
    count: jax.Array

    def add(self, score: jax.Array) -> "SegmentScores":
        """With one more of each row, float32 `[B]`, in place of the oldest."""
        size = self.values.shape[1]
        here = jnp.arange(size) == (self.count % size)[:, None]
        values = jnp.where(here, score[:, None], self.values)
        return SegmentScores(values, self.count + 1)


def p_value(score: jax.Array, values: jax.Array, known: jax.Array) -> jax.Array:
    """The conformal p-value of scores, of which large ones are bad.

        p = (1 + #{j: a_j >= s}) / (n + 1)

    If s and the a_j are exchangeable, P(p <= alpha) is at most alpha, and without ties
    `floor(alpha (n + 1)) / (n + 1)`.

    Args:
      score: s, float32 `[B]`.
      values: a, float32 `[B, N]` or `[1, N]`.
      known: bool, of the same shape: which of them count.

    Returns:
      float32 `[B]`.
    """
    above = jnp.sum(known & (values >= score[:, None]), axis=1)
    size = jnp.broadcast_to(jnp.sum(known, axis=1), above.shape)
    return (1 + above).astype(jnp.float32) / (size + 1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Conformal(Gate):
    """See `conformal`."""

    name: str = ""
    memory: int = 64
    reads: bool = True

    @property
    def knobs(self) -> dict[str, Knob]:
        """`alpha`, the share of segments that are not kept."""
        return {"alpha": Knob(0.4, low=0.0, high=1.0)}

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for a calibration that is no array of scores."""
        super().check(request, params)
        if not self.name:
            return
        scores: Any = self.own(params)
        shape = np.shape(scores)
        if len(shape) != 1 or not shape[0]:
            raise ValueError(f"{self.name} must be scores [n], at least one, got {list(shape)}")
        if not is_traced(scores) and np.isnan(np.asarray(scores, np.float64)).any():
            raise ValueError(f"{self.name} holds scores that are not numbers")

    def start(self, rows: Rows) -> SegmentScores:
        """Nothing is remembered."""
        batch = len(rows.length)
        return SegmentScores(
            jnp.zeros((batch, self.memory), jnp.float32), jnp.zeros((batch,), jnp.int32)
        )

    def keep(self, params: Params, judged: Judged) -> tuple[jax.Array, Any]:
        """Where the p-value is above alpha."""
        score = jnp.exp(-judged.drafted.mean_log_prob(judged.rows))
        score = jnp.where(jnp.isnan(score), jnp.inf, score)
        scores: SegmentScores = judged.own
        known = jnp.arange(self.memory) < scores.count[:, None]
        values = scores.values
        if self.name:
            given = jnp.asarray(params, jnp.float32)[None]
            given = jnp.broadcast_to(given, (len(score), given.shape[1]))
            values = jnp.concatenate([given, values], axis=1)
            known = jnp.concatenate([jnp.ones(given.shape, bool), known], axis=1)
        kept = p_value(score, values, known) > judged.settings.knobs["alpha"]
        return kept, scores.add(score) if self.memory else scores


@typed
def conformal(calibration: str | None = None, memory: int = 64) -> Conformal:
    """Keeps a drafted segment unless it is among the worst ones, by its perplexity under the target.

        s = exp(-mean_t log p(x_t | x_{<t})),   keep iff (1 + #{j: a_j >= s}) / (n + 1) > alpha

    with p the target's unwarped law, read in one forward of the segment, and a_j the scores that s is compared with: a
    calibration, and what the row has seen of its own. Only ranks matter. Every row compares with its own scores, never
    with its neighbours'. The knob `alpha` is 0.4 unless the request says otherwise; at 0 all are kept, at 1 none.

    `Result.pool` holds what rows remember (`SegmentScores`): that of a run at alpha 0 makes a calibration.

    Args:
      calibration: the name in `params` of scores [n] of other segments, in any order; None for none.
      memory: M, of its own segments' scores that a row remembers; the oldest are forgotten.

    Raises:
      ValueError: for a negative memory, or neither a calibration nor a memory.

    Exactness: if scores are exchangeable, the share that is not kept is at most alpha, and at least alpha - 1 / (n + 1)
    without ties. It bounds how often the target writes, and says nothing of laws.
    Source: 2509.15148; its p-value form, as the percentile of its code may reject more often than alpha.
    """
    if memory < 0 or calibration == "" or (calibration is None and not memory):
        raise ValueError(
            f"a calibration has a name, or memory is at least 1; got {calibration!r} and {memory}"
        )
    return Conformal(calibration or "", memory)
