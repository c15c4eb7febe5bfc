"""Choosing a decoder by the clock, plain decoding included."""

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.autoregressive import autoregressive
from jaxdec.decoding import Decoder, check_parts, part_names
from jaxdec.generation.generate import generate
from jaxdec.generation.infill import infill
from jaxdec.generation.result import Result
from jaxdec.model import Model, Params
from jaxdec.speculative import Drafter, Verifier, speculative


@dataclasses.dataclass(frozen=True)
class ChosenDecoder:
    """What was chosen, and what was measured.

    Attributes:
      decoder: the fastest, or the baseline if no other is clearly faster.
      name: what the candidates call it; the draft length in `auto_draft_length`, 0 for plain decoding.
      seconds_per_token: by name; the median over the repeats. Empty where nothing was timed.
      tokens_per_forward: by name, new tokens for each forward of the target.
      predicted: by name, seconds a token that the costs of forwards and proposals predict; empty where nobody asked.
      decoders: by name, all candidates.
    """

    decoder: Decoder
    name: Any
    seconds_per_token: dict[Any, float]
    tokens_per_forward: dict[Any, float]
    predicted: dict[Any, float] = dataclasses.field(default_factory=dict)
    decoders: dict[Any, Decoder] = dataclasses.field(default_factory=dict)

    @property
    def length(self) -> int:
        """The draft length, for choices among lengths."""
        return self.name

    def __str__(self) -> str:
        """A table of the candidates, the fastest first, times in milliseconds; the choice has a star."""
        order = self.seconds_per_token or self.predicted
        lines = [f"  {'':24} tokens/forward  ms/token  predicted"]
        for name in sorted(order, key=order.__getitem__):
            ms = [
                f"{1e3 * held[name]:9.3f}" if name in held else f"{'-':>9}"
                for held in (self.seconds_per_token, self.predicted)
            ]
            mark = "*" if name == self.name else " "
            lines.append(
                f"{mark} {name!s:24} {self.tokens_per_forward[name]:14.2f} {ms[0]}  {ms[1]}"
            )
        return "\n".join(lines)


def least(cost: Mapping[Any, float], baseline: Any, margin: float) -> Any:
    """The name of the least cost; the baseline, unless it costs more than `1 + margin` times as much."""
    best = min(cost, key=cost.__getitem__)
    return best if cost[baseline] > (1 + margin) * cost[best] else baseline


def tokens_and_forwards(result: Result) -> tuple[int, int]:
    """New tokens, and forwards of the target, of a result that has been waited for."""
    result = jax.block_until_ready(result)
    made = int((result.lengths - result.prompt_lengths).sum())
    return made, int(result.stats.target_forwards.sum())


def fastest(
    decoders: Mapping[Any, Decoder],
    decode: Callable[[Decoder], tuple[int, int]],
    *,
    repeats: int = 3,
    margin: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
    behind: float = float("inf"),
    report: Callable[[str], None] = lambda name: None,
) -> ChosenDecoder:
    """Times decoders end to end, in turns within each repeat and in an order of its own each time.

    Args:
      decoders: by name; the first is the baseline.
      decode: decodes and waits; returns the new tokens and the forwards of the target.
      repeats: measurements of each, after one call that compiles.
      margin: another decoder is chosen only if the baseline takes more than `1 + margin` of its seconds a token.
      clock: returns seconds; read just before and just after each measurement.
      behind: a decoder that takes more than this many times the seconds a token of the best is not timed again; the
        baseline always is.
      report: is called with the name of each decoder before it is compiled.

    Raises:
      ValueError: for impossible arguments, or if a decoder gives no token.
    """
    if not behind >= 1:
        raise ValueError(f"behind must be at least 1, got {behind}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    tokens, per_forward = {}, {}
    for name, decoder in decoders.items():  # compiles
        report(str(name))
        tokens[name], forwards = decode(decoder)
        if not tokens[name]:
            raise ValueError(f"no prompt gave a token with {name!r}")
        per_forward[name] = tokens[name] / forwards

    baseline = next(iter(decoders))
    seconds: dict[Any, list[float]] = {name: [] for name in decoders}
    order, shuffle = list(decoders), random.Random(0).shuffle
    for _ in range(repeats):
        shuffle(order)  # what one leaves in the caches helps or harms the next
        for name in order:
            start = clock()
            decode(decoders[name])
            seconds[name].append(clock() - start)
        cost = {name: statistics.median(seconds[name]) / tokens[name] for name in decoders}
        limit = behind * min(cost.values())
        order = [name for name in order if cost[name] <= limit or name == baseline]
    best = least(cost, baseline, margin)
    return ChosenDecoder(decoders[best], best, cost, per_forward, decoders=dict(decoders))


def auto_infill(
    decoders: Mapping[str, Decoder],
    params: Params,
    tokens: jax.Array | np.ndarray,
    visible: jax.Array | np.ndarray,
    *,
    rng: jax.Array,
    repeats: int = 3,
    margin: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
    **infill_kwargs: Any,
) -> ChosenDecoder:
    """Times decoders on sequences with gaps, and returns the fastest; the first is the baseline.

    Args:
      decoders: by name, such as `{"sequential": autoregressive(model), "assd": any_subset.assd(model)}`.
      params: parameters of all their parts, by part name.
      tokens: int `[B, L]`, sequences like those to come; the choice holds for this B.
      visible: bool `[B, L]`.
      rng: as in `infill`.
      repeats: measurements of each.
      margin: another decoder is chosen only if it is faster by more than this share.
      clock: returns seconds.
      **infill_kwargs: further arguments of `infill`, such as `temperature`.

    Raises:
      ValueError: for impossible arguments.
    """
    if not decoders:
        raise ValueError("there is no decoder to choose from")
    for decoder in decoders.values():
        check_parts(params, part_names(decoder))

    def decode(decoder: Decoder) -> tuple[int, int]:
        result = infill(decoder, params, tokens, visible, rng=rng, **infill_kwargs)
        result = jax.block_until_ready(result)
        generated = int((result.log_probs != 0).sum())
        return generated, int(result.stats.target_forwards.sum())

    return fastest(decoders, decode, repeats=repeats, margin=margin, clock=clock)


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
) -> ChosenDecoder:
    """Times plain decoding and some draft lengths, and returns the fastest decoder.

    With tau tokens a target forward, a forward of g + 1 tokens that costs R(g) forwards of one, and a draft token that
    costs c of them, speculation is faster than plain decoding by

        S(g) = tau(g) / (R(g) + g c).

    tau depends on the text, R and c on the machine: where the weights sit in cache R grows almost with g and no length
    pays. So S is not modelled but measured, end to end, each length in turn within each repeat, compilation apart.

    Args:
      model: the target.
      drafter_of: the drafter for a length, such as `lambda g: jaxdec.drafters.model(draft, length=g)`.
      params: parameters of the target and the drafter, by part name.
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
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be at least 1, got {new_tokens}")
    if "max_new_tokens" in generate_kwargs:
        raise ValueError("max_new_tokens is set by new_tokens here")

    decoders: dict[Any, Decoder] = {0: autoregressive(model)}
    for length in lengths:
        decoders[length] = speculative(model, drafter=drafter_of(length), verifier=verifier)
        check_parts(params, part_names(decoders[length]))

    def decode(decoder: Decoder) -> tuple[int, int]:
        result: Result = generate(
            decoder,
            params,
            prompt,
            rng=rng,
            max_new_tokens=new_tokens,
            lengths=prompt_lengths,
            **generate_kwargs,
        )
        return tokens_and_forwards(result)

    return fastest(decoders, decode, repeats=repeats, margin=margin, clock=clock)
