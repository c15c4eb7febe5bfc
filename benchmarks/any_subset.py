"""What the cases about speed on gaps share: forms that could pay, and their rows by the clock."""

import statistics
from collections.abc import Sequence

import jax

from benchmarks import costs
from benchmarks.columns import Row
from benchmarks.setting import Setting
from benchmarks.timed import compile_all, compiling
from benchmarks.variants import build
from benchmarks.workload import Variant, Workload
from jaxdec import any_subset
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import init
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import interleave, quartiles, ratios
from jaxdec.model import Model

RATES = (0.5, 0.95)
"""Shares of bytes that are masked."""
LEGEND = (
    "*sequential*: one forward of the target a token, in the same order, with the same cache. *ASSD K*: the target "
    "drafts K tokens for itself; *fused K*: in the forward that verifies; *draft K*: a small any-subset model drafts. "
    "*rows*: tokens and queries that the target scored. *identical*: share of bytes equal to those of *sequential*. "
)


def timed_forms(setting: Setting, target: Checkpoint) -> list[Variant]:
    """The forms that could pay by the clock, for a target of any size; sequential decoding comes first."""
    params = {"target": target.params}
    fused = any_subset.fused(target.model, width=3, outcomes=2)
    return [
        build(setting, "any-order", target=target, name="sequential"),
        build(setting, "assd", 4, target=target, name="ASSD 4"),
        Variant("fused 3", fused, params, 3, "2 outcomes"),
        *(build(setting, "any-order-draft", k, target=target, name=f"draft {k}") for k in (4, 6)),
    ]


def timed(
    setting: Setting,
    variants: Sequence[Variant],
    workload: Workload,
    labels: Row,
    raw: Model | None = None,
) -> list[Row]:
    """Decodes with every variant in turns; the first one is the baseline."""
    scale = setting.scale
    compile_all(variants, workload)
    # Small targets decode in a moment, which takes more repeats to measure.
    small = sum(x.size for x in jax.tree.leaves(variants[0].params["target"])) < 30_000_000
    repeats = scale.repeats if small else min(scale.repeats, 3)
    timings = interleave([workload.method(v) for v in variants], repeats=repeats)
    baseline = timings[variants[0].name]
    tokens = new_tokens(baseline.output)
    verify = {} if raw is None else _verify_ratios(raw, variants, workload, timings, scale)
    rows = []
    for variant in variants:
        timing, counted = timings[variant.name], counts(timings[variant.name].output)
        ratio = ratios(baseline, timing)
        rows.append(
            {
                **labels,
                "method": variant.name,
                "about": variant.about,
                "exactness": variant.decoder.exactness.value,
                "batch": workload.batch,
                "temperature": workload.temperature,
                "masked": RATES[0],
                "draft_length": variant.length,
                "new_tokens": int(workload.prompts.masked.max()),
                **counted,
                "forwards_per_token": 1 / counted["tokens_per_forward"],
                "rows_per_forward": counted["target_rows"] / counted["target_forwards"],
                "verify_ratio": verify.get(variant.name),
                "seconds": timing.median,
                "seconds_quartiles": quartiles(timing.seconds),
                "repeats": len(timing.seconds),
                "prefill_seconds": timing.setup_median,
                "compile_seconds": compiling(variant, workload),
                "tokens_per_second": counted["tokens"] / timing.median,
                "wall_ratio": None if variant is variants[0] else statistics.median(ratio),
                "wall_ratio_quartiles": None if variant is variants[0] else quartiles(ratio),
                "identical": identical(new_tokens(timing.output), tokens),
            }
        )
    return rows


def _verify_ratios(raw, variants, workload, timings, scale) -> dict[str, float]:
    """R by variant: a bare forward of the rows that its forwards score, over one of sequential decoding's two."""
    first = variants[0]
    cache = init(first.decoder, first.params, workload.requests(first)[0]).cache
    widths = {}
    for variant in variants:
        counted = counts(timings[variant.name].output)
        widths[variant.name] = round(counted["target_rows"] / counted["target_forwards"])
    methods = {
        width: costs.forward_method(
            f"rows {width}", raw, first.params["target"], cache, width, scale.steps
        )
        for width in sorted({2, *widths.values()})
    }
    measured = interleave(list(methods.values()), repeats=scale.repeats)
    over = lambda width: statistics.median(ratios(measured[f"rows {width}"], measured["rows 2"]))
    return {name: over(width) for name, width in widths.items()}
