"""What a decoded batch is to its caller.

Legend: B rows, L buffer width.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import DecoderState, Record, Stats, Status
from jaxdec.sampling import TopTokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Result:
    """What `generate` returns: a pytree of arrays on the device, so that `jax.block_until_ready` waits for it.

    Attributes:
      tokens: int32 `[B, L]`, each prompt followed by its new tokens; zeros after `lengths`.
      lengths: int32 `[B]`, tokens in each row, the prompt's included.
      prompt_lengths: int32 `[B]`.
      log_probs: float32 `[B, L]` of each new token under the law that it was drawn from; zero for the prompt. At
        temperature 0 that law is certain of its token, so these are all 0: read `raw_log_probs` there.
      raw_log_probs: float32 `[B, L]` under the target's unwarped law.
      drafted: bool `[B, L]`, whether a drafter proposed the token.
      stats: counts a row.
      steps: int32 `[B, L]`, the step of the row in which each new token was chosen, from 0 on; -1 for the prompt.
      codes: int32 `[B]`, a `Status` a row.
      top: the K most probable tokens of the target's unwarped law of each new token, `tokens` int32 and `log_probs`
        float32 `[B, L, K]`, zeros for the prompt; None where none were asked for (`top_log_probs`).
      pool: weights and scores of the hypotheses, a `jaxdec.search.Pool`; None where the decoder keeps none.
    """

    tokens: jax.Array
    lengths: jax.Array
    prompt_lengths: jax.Array
    log_probs: jax.Array
    raw_log_probs: jax.Array
    drafted: jax.Array
    steps: jax.Array
    stats: Stats
    codes: jax.Array
    top: TopTokens | None = None
    pool: Any = None

    @property
    def status(self) -> list[Status]:
        """Why each row ended."""
        return [Status(int(code)) for code in np.asarray(self.codes)]


def result(state: DecoderState, record: Record) -> Result:
    """Joins the rows of a state with the record of the run that led to it."""
    rows = state.rows
    log_probs, raw_log_probs, drafted, steps, top = split(record)
    return Result(
        tokens=rows.tokens,
        lengths=rows.length,
        prompt_lengths=rows.prompt_length,
        log_probs=log_probs,
        raw_log_probs=raw_log_probs,
        drafted=drafted,
        steps=steps,
        stats=record.stats,
        codes=rows.status,
        top=top,
        pool=getattr(state, "pool", None),
    )


@jax.jit  # one dispatch, not one an operation
def split(
    record: Record,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, TopTokens | None]:
    """The columns of a record, `[B, L]` each: log-probabilities, raw ones, drafted, steps; the most probable tokens."""
    return record.log_probs, record.raw_log_probs, record.drafted, record.steps, record.top


def acceptance_by_depth(result: Result, depth: int | None = None) -> np.ndarray:
    """How many steps of each row kept at least d drafted tokens, for d = 0, ..., D; at d = 0, all its steps.

    The ratio of neighbours is the acceptance at that depth, given that all before it was accepted. Tokens that a stop
    or the end of a row cut off do not count.

    Args:
      result: of `generate`.
      depth: D; the longest path that any row accepted if not given.

    Returns:
      int `[B, D + 1]`.
    """
    steps, drafted = np.asarray(result.steps), np.asarray(result.drafted)
    rounds = steps.max(1) + 1  # every step commits a token
    accepted = np.zeros((len(steps), rounds.max()), int)
    row, place = np.nonzero(drafted)
    np.add.at(accepted, (row, steps[row, place]), 1)
    deepest = accepted.max(initial=0) if depth is None else depth
    taken = np.arange(rounds.max()) < rounds[:, None]
    return ((accepted[..., None] >= np.arange(deepest + 1)) & taken[..., None]).sum(1)
