"""Decoders on the same prompts: the loops as something to time, and what is said of the results."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import Decoder, Record, Request, init, run
from jaxdec.generation import Result, result
from jaxdec.measuring.timing import Method
from jaxdec.model import Params


def decoding(
    name: str,
    decoder: Decoder,
    params: Params,
    requests: Sequence[Request],
    keys: Sequence[jax.Array],
) -> Method:
    """Decoding as a timed method: the prompts are read in the set-up, the loops are the work.

    Args:
      name: of the method.
      decoder: the algorithm.
      params: parameters by part name, `{"target": ...}`.
      requests: groups of prompts that are decoded one after another.
      keys: row keys of each.

    Returns:
      A method whose output is a list of `Result`, one a request.
    """

    def setup():
        states = [init(decoder, params, request) for request in requests]
        return [
            (state, Record.start(state.rows, getattr(state, "shelf", None))) for state in states
        ]

    def work(held):
        return [
            result(*run(decoder, params, state, key, record=record))
            for (state, record), key in zip(held, keys, strict=True)
        ]

    return Method(name, work, setup)


def new_tokens(results: Sequence[Result]) -> list[np.ndarray]:
    """The tokens that each row added to its prompt."""
    rows = []
    for part in results:
        spans = zip(np.asarray(part.prompt_lengths), np.asarray(part.lengths), strict=True)
        rows += [row[a:b] for row, (a, b) in zip(np.asarray(part.tokens), spans, strict=True)]
    return rows


def counts(results: Sequence[Result]) -> dict[str, Any]:
    """Forwards and drafts over all rows, and the trips of the loops (the slowest row of each group)."""
    stats = [result.stats for result in results]
    total = lambda name: sum(int(getattr(s, name).sum()) for s in stats)
    proposed = total("proposed")
    tokens = sum(int((r.lengths - r.prompt_lengths).sum()) for r in results)
    return {
        "tokens": tokens,
        "target_forwards": total("target_forwards"),
        "target_rows": total("target_rows"),
        "tokens_per_forward": tokens / total("target_forwards"),
        "draft_forwards": total("draft_forwards"),
        "proposed": proposed,
        "acceptance": total("accepted") / proposed if proposed else None,
        "loop_steps": sum(int(s.target_forwards.max()) for s in stats),
    }


def identical(rows: Sequence[np.ndarray], baseline: Sequence[np.ndarray]) -> float:
    """The share of places at which rows hold the baseline's token; a missing token differs."""
    places = sum(max(len(a), len(b)) for a, b in zip(rows, baseline, strict=True))
    equal = 0
    for a, b in zip(rows, baseline, strict=True):
        shared = min(len(a), len(b))
        equal += int((a[:shared] == b[:shared]).sum())
    return equal / places
