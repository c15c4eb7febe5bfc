"""Variants against the first one by the clock: what a row of seconds holds."""

import statistics
from typing import Any

import jax
import numpy as np

from benchmarks import costs
from benchmarks.columns import Row
from benchmarks.setting import Setting
from benchmarks.workload import Variant, Workload, nbytes
from jaxdec.decoding import Decoder, target_params
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import Timing, compile_seconds, interleave, quartiles, ratios

_COMPILED: dict[tuple[Decoder, int, int], float] = {}


def compiling(variant: Variant, workload: Workload) -> float:
    """Seconds that the programs of a variant took to compile; compiles them if this process has not yet."""
    key = (variant.decoder, workload.batch, workload.new_tokens)
    if key not in _COMPILED:
        _COMPILED[key] = compile_seconds(workload.method(variant))
    return _COMPILED[key]


def compile_all(variants: list[Variant], workload: Workload) -> None:
    """Compiles every variant before anything else would, so that the seconds are its own."""
    for variant in variants:
        compiling(variant, workload)


def traffic(variant: Variant, batch: int, capacity: int, trips: int) -> int:
    """Bytes of weights and cache that the loops read: every forward reads all weights and the whole cache."""

    def forward(model, params):
        return nbytes(params) + nbytes(jax.eval_shape(lambda: model.init_cache(batch, capacity)))

    drafter = getattr(variant.decoder, "drafter", None)
    total = trips * forward(variant.decoder.model, target_params(variant.params))
    if drafter is not None and drafter.forwards:
        one = forward(drafter.model, variant.params[drafter.name])
        total += trips * drafter.forwards * one
    return total


def compare(
    setting: Setting,
    variants: list[Variant],
    workload: Workload,
    known: dict[str, costs.Costs],
    **labels: Any,
) -> tuple[list[Row], list[np.ndarray]]:
    """Decodes with every variant in turns; the first one is the baseline.

    Returns:
      One row a variant, and the baseline's new tokens.
    """
    timings = interleave(
        [workload.method(variant) for variant in variants], repeats=setting.scale.repeats
    )
    baseline = timings[variants[0].name]
    tokens = new_tokens(baseline.output)
    rows = []
    for variant in variants:
        timing, first = timings[variant.name], variant is variants[0]
        counted = counts(timing.output)
        capacity = workload.requests(variant)[0].capacity
        read = traffic(variant, workload.batch, capacity, counted["loop_steps"])
        cost = known.get(variant.name)
        ratio = ratios(baseline, timing)
        row = {
            **labels,
            "method": variant.name,
            "about": variant.about,
            "exactness": variant.decoder.exactness.value,
            "batch": workload.batch,
            "temperature": workload.temperature,
            "draft_length": variant.length,
            "prompts": len(workload.prompts.lengths),
            "prompt_tokens": int(workload.prompts.lengths.sum()),
            "new_tokens": workload.new_tokens,
            **counted,
            "identical": None if first else identical(new_tokens(timing.output), tokens),
            **timed(timing),
            "compile_seconds": compiling(variant, workload),
            "tokens_per_second": counted["tokens"] / timing.median,
            "wall_ratio": None if first else statistics.median(ratio),
            "wall_ratio_quartiles": None if first else quartiles(ratio),
            "end_to_end_ratio": None if first else end_to_end(baseline) / end_to_end(timing),
            "bytes_per_second": read / timing.median,
            "bandwidth_share": read / timing.median / setting.bandwidth,
            "verify_ratio": cost and cost.verify_ratio,
            "draft_ratio": cost and cost.draft_ratio,
            "predicted_ratio": cost and cost.speedup(counted["tokens_per_forward"], variant.length),
        }
        rows.append(row)
    return rows, tokens


def timed(timing: Timing) -> Row:
    """Seconds of the loops and of reading the prompts."""
    return {
        "seconds": timing.median,
        "seconds_quartiles": quartiles(timing.seconds),
        "prefill_seconds": timing.setup_median,
        "repeats": len(timing.seconds),
    }


def end_to_end(timing: Timing) -> float:
    """Seconds of reading the prompts and decoding."""
    return timing.median + timing.setup_median
