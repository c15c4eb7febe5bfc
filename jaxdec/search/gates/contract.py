"""The contract of gates: whether a segment that a draft model wrote is kept.

Legend: B rows, W tokens of a segment at most.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxdec.decoding import Part, Rows, Settings
from jaxdec.model import Model, Params
from jaxdec.search.contract import Pool, Scorer
from jaxdec.search.writers import Candidate


@dataclasses.dataclass(frozen=True)
class Reader:
    """A model with its parameters, and its cache of all tokens of a segment but the last."""

    model: Model
    params: Params
    cache: Any


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a gate sees of segments that have ended.

    Attributes:
      rows: the text before them.
      drafted: the draft model's segments. Where the gate `reads`, the log-probabilities recorded in them are the
        target's own.
      written: those of the target, where the gate `compares`; else None.
      drafter: who wrote the first ones.
      writer: who wrote the others.
      settings: the request's.
      log_probs: float32 `[B]`, of the new tokens before the segments, under the laws that they were drawn from.
      own: what the gate keeps of each row.
      ready: bool `[B]`, rows whose segments are to be judged; what is decided of others is not looked at.
    """

    rows: Rows
    drafted: Candidate
    written: Candidate | None
    drafter: Reader
    writer: Reader
    settings: Settings
    log_probs: jax.Array
    own: Any
    ready: jax.Array

    def score(self, scorer: Scorer, params: Params, *, target: bool = False) -> jax.Array:
        """The scores of the drafted segments, or of the target's, float32 `[B]`.

        Args:
          scorer: scores pasts; a head reads states of the model that wrote the segment.
          params: the scorer's own.
          target: whose segments.
        """
        candidate, by = (self.written, self.writer) if target else (self.drafted, self.drafter)
        assert candidate is not None
        text = candidate.rows
        fresh = candidate.written.log_probs
        inside = jnp.arange(fresh.shape[1]) < candidate.count(self.rows)[:, None]
        new = jnp.sum(jnp.where(inside, fresh, 0.0), axis=1)
        pool = dataclasses.replace(
            Pool.of(text),
            start=self.rows.length,
            start_log_probs=self.log_probs,
            log_probs=self.log_probs + new,
        )
        return scorer.score(params, by.model, by.params, by.cache, text, pool)


class Gate(Part, abc.ABC):
    """Decides of each segment of a draft model whether it is kept.

    Attributes:
      reads: whether the target reads the segment first: one forward of W tokens; static.
      compares: whether the target writes a segment each time, and the gate chooses between the two; static.
      draft_forwards: of the draft model, that judging costs; static.
    """

    reads: bool = False
    compares: bool = False
    draft_forwards: int = 0

    def start(self, rows: Rows) -> Any:
        """What it keeps of each row, a pytree of arrays `[B, ...]`; nothing, unless a subclass says otherwise."""
        return None

    @abc.abstractmethod
    def keep(self, params: Params, judged: Judged) -> tuple[jax.Array, Any]:
        """Which drafted segments are kept, bool `[B]`, and what the gate keeps of each row from now on.

        Args:
          params: the part's own.
          judged: the segments.
        """
