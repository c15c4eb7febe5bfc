"""Broken models and full caches end a row with a status."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import decoding, generation
from jaxdec.decoding import Exactness, Status
from jaxdec.testing.battery.requests import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    Factory,
    generate,
    pair,
    prepare,
    texts,
)


def check_broken_model(make: Factory) -> None:
    """A row whose model turns non-finite ends with `NONFINITE`, keeps what it had, and harms no other row."""
    model, params = pair()
    decoder = make(model, model)
    healthy = generate(decoder, params, temperature=0.8)
    table = np.asarray(params["target"]).copy()
    table[::23] = np.nan
    broken = generate(decoder, {**params, "target": jnp.asarray(table)}, temperature=0.8)
    hit = [status is Status.NONFINITE for status in broken.status]
    assert any(hit), "no row met a broken law"
    for row, tokens in enumerate(texts(broken)):
        assert tokens[: LENGTHS[row]] == PROMPTS[row, : LENGTHS[row]].tolist()
        assert np.isfinite(np.asarray(broken.log_probs)[row, : len(tokens)]).all(), f"row {row}"
        if decoder.exactness is Exactness.TOKEN_IDENTICAL:
            assert texts(healthy)[row][: len(tokens)] == tokens, f"row {row}"


def check_full_cache(make: Factory) -> None:
    """A row that runs out of room ends with `CACHE_FULL` and keeps a prefix of the unbounded output."""
    model, params = pair()
    decoder = make(model, model)
    options: dict[str, Any] = dict(lengths=LENGTHS, max_new_tokens=BUDGET, eos=(), temperature=0.0)
    request = prepare(decoder, params, prompt=PROMPTS, **options)
    whole = texts(generate(decoder, params, temperature=0.0))
    small = dataclasses.replace(request, capacity=request.prompt.shape[1] + 2)
    state = decoding.init(decoder, params, small)
    result = generation.result(*decoding.run(decoder, params, state, jax.random.key(7)))
    for row, tokens in enumerate(texts(result)):
        assert whole[row][: len(tokens)] == tokens, f"row {row}"
        complete = len(tokens) == len(whole[row])
        expected = Status.LENGTH if complete else Status.CACHE_FULL
        assert result.status[row] is expected, f"row {row}: {result.status[row]}"
    assert Status.CACHE_FULL in result.status, "no row ran out of room"
