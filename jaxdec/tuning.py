"""Choosing the draft length from measured costs, zero included."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.autoregressive import autoregressive
from jaxdec.decoding import Decoder
from jaxdec.generation import Result, generate
from jaxdec.model import Model, Params
from jaxdec.speculative.decoder import speculative
from jaxdec.speculative.parts import Drafter, Verifier


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `auto_draft_length` chose, and what it measured.

    Attributes:
      decoder: plain decoding if `length` is 0, else speculation with that length.
      length: drafts a step.
      seconds_per_token: by length, 0 for plain decoding; the median over the repeats.
      tokens_per_forward: by length, new tokens for each forward of the target.
    """

    decoder: Decoder
    length: int
    seconds_per_token: dict[int, float]
    tokens_per_forward: dict[int, float]


def auto_draft_length(
    model: Model,
    drafter_of: Callable[[int], Drafter],
    params: Params,
    prompt: jax.Array | np.ndarray,
    *,
    rng: jax.Array,
    lengths: Sequence[int] = (2, 4, 6, 8),
    new_tokens: int = 64,
    repeats: int = 3,
    margin: float = 0.05,
    verifier: Verifier | None = None,
    prompt_lengths: Any = None,
    clock: Callable[[], float] = time.perf_counter,
    **generate_kwargs: Any,
) -> Choice:
    """Times plain decoding and some draft lengths, and returns the fastest decoder.

    With tau tokens a target forward, a forward of g + 1 tokens that costs R(g) forwards of one, and a draft token that
    costs c of them, speculation is faster than plain decoding by

        S(g) = tau(g) / (R(g) + g c).

    tau depends on the text, R and c on the machine: where the weights sit in cache R grows almost with g and no length
    pays. So S is not modelled but measured, end to end, each length in turn within each repeat, compilation apart.

    Args:
      model: the target.
      drafter_of: the drafter for a length, such as `lambda g: jaxdec.drafters.model(draft, length=g)`.
      params: parameters of the target and the drafter.
      prompt: int `[B, P]`, prompts like those to come; the choice holds for this B.
      rng: as in `generate`.
      lengths: the lengths to try, each at least 1; 0 is always tried.
      new_tokens: tokens that each row decodes at most in a measurement.
      repeats: measurements of each length.
      margin: a length is chosen only if S > 1 + margin, otherwise plain decoding is.
      verifier: as in `speculative`.
      prompt_lengths: int `[B]`, the tokens in each prompt; all P if not given.
      clock: returns seconds; read just before and just after each measurement.
      **generate_kwargs: further arguments of `generate`, such as `temperature`.

    Raises:
      ValueError: for impossible arguments, or if the prompts end without a token.
    """
    lengths = tuple(lengths)
    if not lengths or min(lengths) < 1 or len(set(lengths)) < len(lengths):
        raise ValueError(f"lengths must be different integers of at least 1, got {lengths}")
    for name, value in (("new_tokens", new_tokens), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    if "max_new_tokens" in generate_kwargs:
        raise ValueError("max_new_tokens is set by new_tokens here")

    decoders: dict[int, Decoder] = {0: autoregressive(model)}
    for length in lengths:
        decoders[length] = speculative(model, drafter=drafter_of(length), verifier=verifier)

    def decode(length: int) -> Result:
        result = generate(
            decoders[length],
            params,
            prompt,
            rng=rng,
            max_new_tokens=new_tokens,
            lengths=prompt_lengths,
            **generate_kwargs,
        )
        return jax.block_until_ready(result)

    tokens, per_forward = {}, {}
    for length in decoders:  # compiles
        result = decode(length)
        tokens[length] = int((result.lengths - result.prompt_lengths).sum())
        if not tokens[length]:
            raise ValueError(f"no prompt gave a token at draft length {length}: {result.status}")
        per_forward[length] = tokens[length] / int(result.stats.target_forwards.sum())

    seconds: dict[int, list[float]] = {length: [] for length in decoders}
    for _ in range(repeats):
        for length in decoders:
            start = clock()
            decode(length)
            seconds[length].append(clock() - start)
    cost = {g: statistics.median(seconds[g]) / tokens[g] for g in decoders}

    best = min(lengths, key=lambda length: (cost[length], length))
    if not cost[0] > (1 + margin) * cost[best]:
        best = 0
    return Choice(decoders[best], best, cost, per_forward)
