"""A decoder against plain decoding, and against a loop in Python."""

from typing import Any

import jax
import numpy as np

from jaxdec.sampling import row_keys
from jaxdec.testing.battery.requests import (
    BUDGET,
    EVERYTHING,
    KNOBS,
    LENGTHS,
    PROMPTS,
    VOCAB,
    Factory,
    Ordered,
    assert_same,
    generate,
    order_of,
    pair,
    plain_decoder,
    texts,
)
from jaxdec.testing.twin import python_twin


def check_token_identity(make: Factory) -> None:
    """The same tokens, log-probabilities and statuses as plain decoding with the same key, under all settings."""
    model, params = pair()
    decoder = make(model, model)
    plain = plain_decoder(model, decoder)
    for name, knobs in KNOBS.items():
        options = knobs if knobs.keys() == {"temperature"} else {**EVERYTHING, **knobs}
        assert_same(generate(decoder, params, **options), generate(plain, params, **options), name)


def check_greedy_identity(make: Factory) -> None:
    """At temperature 0 the same tokens as plain decoding."""
    model, params = pair()
    decoder = make(model, model)
    plain = plain_decoder(model, decoder)
    for knobs in (dict(temperature=0.0), dict(temperature=0.0, repetition_penalty=1.4)):
        options = {**EVERYTHING, **knobs}
        assert_same(
            generate(decoder, params, **options), generate(plain, params, **options), str(knobs)
        )


def check_python_twin(make: Factory) -> None:
    """Each row equals a Python loop with no cache, token for token."""
    model, params = pair()
    keys = row_keys(jax.random.key(7), len(PROMPTS))
    stop = [[1, 2], [4, 4, 0]]
    settings: list[dict[str, Any]] = [
        dict(temperature=0.0),
        dict(temperature=0.9, top_p=0.9, presence_penalty=0.3),
    ]
    decoder = make(model, model)
    places = np.asarray(order_of(LENGTHS, BUDGET).places) if isinstance(decoder, Ordered) else None
    for knobs in settings:
        ends = dict(eos=[6], stop=stop, banned=np.zeros(VOCAB, bool))
        result = generate(decoder, params, **{**EVERYTHING, **ends, **knobs})
        for row, tokens in enumerate(texts(result)):
            twin = python_twin(
                model,
                params["target"],
                PROMPTS[row, : LENGTHS[row]].tolist(),
                keys[row],
                max_new_tokens=int(BUDGET[row]),
                eos=[6],
                stop=stop,
                places=None if places is None else places[row],
                **knobs,
            )
            assert tokens == twin.tokens, f"row {row} under {knobs}: {tokens} and {twin.tokens}"
            assert result.status[row] == twin.status, f"row {row}: {result.status[row]}"
            start, end = LENGTHS[row], len(tokens)
            for name in ("log_probs", "raw_log_probs"):
                ours = np.asarray(getattr(result, name))[row, start:end]
                np.testing.assert_allclose(ours, getattr(twin, name), rtol=1e-4, atol=1e-4)
