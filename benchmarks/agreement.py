"""Decodes step by step, and agreement with plain decoding token for token."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks.columns import Row
from benchmarks.workload import LONGEST, Variant, Workload
from jaxdec.decoding import Record, init, run, target_params
from jaxdec.generation import Result, result
from jaxdec.model import Inputs
from jaxdec.sampling import Purpose, gumbel, key_at


def ratio(part: Any, whole: Any) -> float | None:
    """A share, or None of nothing."""
    return float(part) / float(whole) if whole else None


def trace(variant: Variant, workload: Workload) -> tuple[Result, np.ndarray, np.ndarray]:
    """Decodes one group step by step.

    Returns:
      What was decoded, and the drafts that each step proposed and accepted, int `[steps, B]` each.
    """
    (request,), (keys,) = workload.requests(variant), workload.keys()
    state = init(variant.decoder, variant.params, request)
    record, totals = Record.start(state.rows), []
    while state.rows.running.any():
        state, record = run(variant.decoder, variant.params, state, keys, 1, record)
        totals.append((np.array(record.stats.proposed), np.array(record.stats.accepted)))
    proposed, accepted = np.diff(np.array(totals), axis=0, prepend=0).swapaxes(0, 1)
    return result(state, record), proposed, accepted


def first_differences(
    base: Variant, workload: Workload, found: list[np.ndarray], expected: list[np.ndarray]
) -> list[Row]:
    """Where rows leave the baseline, and how near the two best tokens were there.

    The gap is that of the scores whose argmax is the token: logits at temperature 0, else tempered logits plus noise.
    A gap of rounding size says that two orders of summation disagreed; a larger one says that the decoder is wrong.
    """
    model, params = base.decoder.model, target_params(base.params)
    (keys,) = workload.keys()
    differences = []
    for row, (a, b) in enumerate(zip(found, expected, strict=True)):
        if np.array_equal(a, b):
            continue
        shared = min(len(a), len(b))
        place = int(np.argmax(np.append(a[:shared] != b[:shared], True)))
        length = int(workload.prompts.lengths[row])
        before = np.concatenate([workload.prompts.tokens[row, :length], b[:place]])
        padded = np.pad(before, (0, LONGEST + workload.new_tokens - len(before)))[None]
        scores = _last_logits(model, params, jnp.asarray(padded), jnp.int32(len(before)))
        if workload.temperature:
            key = key_at(keys[row : row + 1], Purpose.TOKEN, jnp.int32([len(before)]))
            noise = gumbel(key, model.vocab_size)[0]
            scores = scores / workload.temperature + noise
        second, first = np.sort(np.asarray(scores))[-2:]
        differences.append({"row": row, "place": place, "gap": float(first - second)})
    return differences


@functools.partial(jax.jit, static_argnums=0)
def _last_logits(model: jaxdec.Model, params: Any, tokens: jax.Array, length: jax.Array):
    """The logits after the first `length` tokens of `[1, P]`."""
    return model(params, Inputs.causal(tokens), None).logits[0, length - 1]
