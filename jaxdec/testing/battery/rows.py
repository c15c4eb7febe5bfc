"""A row knows nothing of its neighbours, and a run nothing of how it is cut."""

from typing import Any

import jax
import numpy as np

from jaxdec import decoding, generation
from jaxdec.sampling import row_keys
from jaxdec.testing.battery.requests import (
    BUDGET,
    EVERYTHING,
    LENGTHS,
    NEVER,
    PROMPTS,
    Factory,
    assert_same,
    generate,
    pair,
    prepare,
    texts,
)


def check_row_alone(make: Factory) -> None:
    """A row of a ragged batch equals that row decoded alone with its key: neighbours and padding change nothing."""
    model, params = pair()
    decoder = make(model, model)
    keys = row_keys(jax.random.key(7), len(PROMPTS))
    temperature = np.array([0.0, 0.7, 1.0, 1.3])
    knobs = {**EVERYTHING, "frequency_penalty": 0.2}
    whole = generate(decoder, params, **{**knobs, "temperature": temperature})
    for row, tokens in enumerate(texts(whole)):
        alone = generate(
            decoder,
            params,
            rows=[row],
            prompt=PROMPTS[row : row + 1, : LENGTHS[row]],
            lengths=None,
            max_new_tokens=int(BUDGET[row]),
            rng=keys[row : row + 1],
            **{**knobs, "temperature": temperature[row]},
        )
        assert texts(alone)[0] == tokens, (
            f"row {row} alone: {texts(alone)[0]}, in a batch: {tokens}"
        )
        for name in ("target_forwards", "proposed", "accepted"):
            one, many = getattr(alone.stats, name)[0], getattr(whole.stats, name)[row]
            assert int(one) == int(many), f"row {row}: {name} {one} alone, {many} in a batch"


def check_chunked(make: Factory) -> None:
    """A run cut into chunks of a few steps, and the stream, equal the whole run."""
    model, params = pair()
    decoder, rng = make(model, model), row_keys(jax.random.key(7), len(PROMPTS))
    stop = [[1, 2, 3], [NEVER, NEVER]]
    options: dict[str, Any] = {**EVERYTHING, "temperature": 0.8, "stop": stop}
    options |= dict(lengths=LENGTHS, max_new_tokens=BUDGET)
    start = lambda: decoding.init(
        decoder, params, prepare(decoder, params, prompt=PROMPTS, **options)
    )
    whole = generation.result(*decoding.run(decoder, params, start(), rng))
    state, record = start(), None
    for steps in [1, 2, 3, 5] * 10:
        state, record = decoding.run(decoder, params, state, rng, steps, record)
    assert record is not None
    chunked = generation.result(state, record)
    assert_same(whole, chunked, "chunked")
    np.testing.assert_array_equal(whole.stats.target_forwards, chunked.stats.target_forwards)
    streamed: list[list[int]] = [[] for _ in PROMPTS]
    for _, info in decoding.stream(decoder, params, start(), rng):
        for row, count in enumerate(np.asarray(info.count)):
            streamed[row] += np.asarray(info.tokens)[row, :count].tolist()
    for row, tokens in enumerate(texts(whole)):
        assert tokens[LENGTHS[row] :] == streamed[row], f"row {row} of the stream"
