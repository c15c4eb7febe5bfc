"""Hypotheses that share a prefill, against prompts of their own."""

from typing import Any

import jax
import numpy as np

from jaxdec import generation
from jaxdec.decoding import Decoder
from jaxdec.sampling import row_keys
from jaxdec.testing.battery import pair

HYPOTHESES = 3


def check_hypotheses(decoder: Decoder) -> None:
    """Several rows of a prompt are as many prompts with the same keys, token for token.

    Args:
      decoder: over the model of `battery.pair()`; it continues prompts, and its rows stay where they are.

    Raises:
      AssertionError: naming what differs.
    """
    _, params = pair()
    prompts, lengths = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [2, 2, 5, 0]]), np.array([4, 1, 3])
    options: dict[str, Any] = dict(
        max_new_tokens=10, temperature=np.array([1.0, 0.8, 0.0]), no_repeat_ngram=4
    )
    keys = row_keys(jax.random.key(1), len(prompts) * HYPOTHESES, HYPOTHESES)
    shared = generation.generate(
        decoder, params, prompts, lengths=lengths, rng=keys, hypotheses=HYPOTHESES, **options
    )
    again = lambda x: np.repeat(x, HYPOTHESES, axis=0)
    options["temperature"] = again(options["temperature"])
    alone = generation.generate(
        decoder, params, again(prompts), lengths=again(lengths), rng=keys, **options
    )
    for name in ("tokens", "drafted", "codes"):
        one, two = getattr(shared, name), getattr(alone, name)
        np.testing.assert_array_equal(one, two, f"{name} of hypotheses that share a prompt")
