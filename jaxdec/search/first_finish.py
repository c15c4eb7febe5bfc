"""First finishers: the shortest of several traces are kept, and the others stop at once.

Legend: B rows, P prompts, H hypotheses of a prompt.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdec.decoding import Decoder, Request, Rows, Status
from jaxdec.model import Params
from jaxdec.search.contract import Boundary, Decision, Ending, Pool, Rule
from jaxdec.search.population import Population, population
from jaxdec.search.segments import until, whole
from jaxdec.search.selection import first_to_finish


def ended_by_itself(rows: Rows) -> jax.Array:
    """Rows that came to an end of their own, bool `[B]`: not cut by a limit, not given up."""
    return (rows.status == Status.EOS) | (rows.status == Status.STOP_SEQUENCE)


@dataclasses.dataclass(frozen=True)
class FirstFinishers(Ending):
    """Gives a row up once it cannot be among the m shortest: m have finished with no more tokens than it has."""

    m: int = 1

    def check(self, request: Request, params: Params) -> None:
        """Raises `ValueError` for fewer hypotheses than are to finish."""
        if self.m > request.hypotheses:
            raise ValueError(f"m is {self.m}; there are {request.hypotheses} hypotheses a prompt")

    def over(self, params: Params, rows: Rows, pool: Pool) -> jax.Array:
        """See `Ending`. Rows in their first segment alone compete: after it the finishers complete their answers."""
        each = lambda x: x.reshape(-1, rows.hypotheses)
        first = pool.segments == 0
        done = each(ended_by_itself(rows) | (rows.running & pool.waiting & first))
        lengths = each(rows.length - rows.prompt_length)
        kept = first_to_finish(jnp.where(done, lengths, -1), self.m)
        last = jnp.max(jnp.where(kept, lengths, 0), axis=1, keepdims=True)
        enough = jnp.sum(kept, axis=1, keepdims=True) == self.m
        late = jnp.where(done, ~kept, lengths >= last)
        return (enough & late).reshape(-1) & first


@dataclasses.dataclass(frozen=True)
class Finished(Rule):
    """Everybody goes on; the m that finished first have weight 1, the others none."""

    m: int = 1

    def decide(self, params: Params, boundary: Boundary) -> Decision:
        """See `Rule`. Who finished first is known at the first boundary."""
        rows, each = boundary.rows, boundary.by_prompt
        done = each(boundary.live | ended_by_itself(rows))
        lengths = each(rows.length - rows.prompt_length)
        kept = first_to_finish(jnp.where(done, lengths, -1), self.m)
        stay = Decision.stay(boundary)
        weights = jnp.where(kept, 0.0, -jnp.inf).astype(jnp.float32)
        later = each(boundary.pool.boundaries) > 0
        return dataclasses.replace(stay, log_weights=jnp.where(later, stay.log_weights, weights))


def first_finish(decoder: Decoder) -> Population:
    """First Finish Search: of H traces that run together the first that ends is the answer, and the others stop.

        answer = argmin_h (tokens of trace h)

    A trace stops as soon as it has as many tokens as the shortest finished one, so the answer is the shortest whatever
    number of tokens a step commits. A trace that runs into `max_new_tokens` has not finished.

    Args:
      decoder: draws the traces.

    The answer is the row with weight 1 (`Result.pool.log_weights` is 0); there is none where no trace finished.

    Exactness: heuristic: the law of the shortest of H traces. One trace is the decoder.
    Source: 2505.18149.
    """
    return population(decoder, segment=whole(), rule=Finished(), ending=FirstFinishers())


def short_m_at_k(
    decoder: Decoder, m: int, *, end_of_thinking: Sequence[int | Sequence[int]] = ()
) -> Population:
    """short-m@k: of k traces the m that first end their thinking go on to their answers, and the others stop.

    Args:
      decoder: draws the traces; k is the number of hypotheses.
      m: traces that are kept, the shortest, then the first.
      end_of_thinking: tokens, or sequences of tokens, that end the thinking; none for traces that are thinking to their
        end.

    The m answers are the rows with weight 1 (`Result.pool.log_weights` is 0); the published vote over them is
    `selection`'s majority, ties to the shortest.

    Raises:
      ValueError: for m below 1, or above the number of hypotheses.

    Exactness: heuristic. m = k keeps all traces.
    Source: 2505.17813.
    """
    if m < 1:
        raise ValueError(f"m must be at least 1, got {m}")
    segment = until(end_of_thinking) if len(end_of_thinking) else whole()
    return population(decoder, segment=segment, rule=Finished(m), ending=FirstFinishers(m))
