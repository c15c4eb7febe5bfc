"""Caches of a canvas by the clock."""

import statistics
from collections.abc import Iterable

from benchmarks.canvases import QUALITY, Judge, decode, parts, split, variant_of
from benchmarks.case import CANVAS, Case
from benchmarks.columns import COST, IDENTICAL, Row, method, number, spread, word
from benchmarks.degenerate import TRUE_TEXT
from benchmarks.setting import Setting
from benchmarks.timed import compile_all, compiling
from benchmarks.workload import Variant, Workload
from jaxdec.catalogue import METHODS, REFRESH_RULES
from jaxdec.diffusion import denoise, schedules, unmask
from jaxdec.measuring.comparison import counts
from jaxdec.measuring.timing import interleave, quartiles, ratios

TEMPERATURE = 1.0
"""At 0 small models write blanks, which no figure may be about."""


def cached(setting: Setting) -> Iterable[tuple[Variant, str]]:
    """Threshold decoding with every cache, and the name of the variant whose text it stands in for."""
    target = setting.target
    causal = target.fills == "blocks"
    for name in REFRESH_RULES if causal else ("none", "prefix", "dual", "frozen"):
        decoder = METHODS["threshold"].make(parts(target, name))
        if name != "sub-block":
            yield variant_of(setting, name, decoder), "none"
            continue
        size = parts(target, name).block
        schedule = schedules.blocks(size // 4, within=size, from_start=True)
        plain = denoise(
            target.model, unmask=unmask.threshold(), schedule=schedule, attention="causal"
        )
        control = "none, sub-blocks"
        yield variant_of(setting, control, plain, "control: the schedule alone"), control
        yield variant_of(setting, name, decoder), control


def run(setting: Setting) -> list[Row]:
    """One row a cache; quality and agreement are those of more rows than are timed."""
    scale = setting.scale
    held, true = split(setting, scale.long_canvases, scale.long_canvas)
    judge = Judge(setting, held)
    pairs = list(cached(setting))[: scale.caches]
    variants = [variant for variant, _ in pairs]
    single = Workload(held[:1], 1, true.shape[1], TEMPERATURE)
    compile_all(variants, single)
    timings = interleave([single.method(v) for v in variants], repeats=min(scale.repeats, 3))
    many = Workload(held, len(held), true.shape[1], TEMPERATURE)
    written = {variant.name: decode(variant, many)[1] for variant in variants}
    control = {"method": TRUE_TEXT, "about": "control: what stood there", "exactness": None}
    common = {"positions": scale.long_canvas, "prompts": len(held), "new_tokens": true.shape[1]}
    rows: list[Row] = []
    for variant, reference in pairs:
        timing, baseline = timings[variant.name], timings["none"]
        counted, ratio = counts(timing.output), ratios(baseline, timing)
        rows.append(
            {
                **common,
                "method": variant.name,
                "about": variant.about,
                "exactness": variant.decoder.exactness.value,
                "temperature": TEMPERATURE,
                "batch": 1,
                **counted,
                "rows_per_forward": counted["target_rows"] / counted["target_forwards"],
                "seconds": timing.median,
                "seconds_quartiles": quartiles(timing.seconds),
                "forward_seconds": timing.median / counted["loop_steps"],
                "repeats": len(timing.seconds),
                "prefill_seconds": timing.setup_median,
                "compile_seconds": compiling(variant, single),
                "tokens_per_second": counted["tokens"] / timing.median,
                "wall_ratio": None if variant.name == "none" else statistics.median(ratio),
                "wall_ratio_quartiles": None if variant.name == "none" else quartiles(ratio),
                "bar": 4.0 if variant.name == "block" else None,
                "reference": reference,
                **judge.worth(written[variant.name], written[reference]),
            }
        )
    return [*rows, {**control, **common, **judge.worth(true)}]


CASE = Case(
    name="diffusion_cache",
    order=13,
    about=(
        "What caches of a canvas are worth: seconds of threshold decoding with each, one row at temperature 1. Text "
        "quality and agreement are those of more rows."
    ),
    models=CANVAS,
    columns=(
        ("positions", word("positions")),
        ("cache", method),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("rows/forward", number("rows_per_forward", ".1f")),
        ("forward ms", number("forward_seconds", ".2f", 1e3)),
        ("tokens/s", number("tokens_per_second", ".0f")),
        ("times no cache", spread("wall_ratio", ".2f")),
        ("bar", number("bar", ".0f")),
        ("bits/byte", number("bits_per_byte", ".2f")),
        ("entropy", number("entropy", ".2f")),
        ("blanks", number("blanks", ".0%")),
        IDENTICAL,
        ("to", word("reference")),
        ("identical rows", number("identical_rows", ".0%")),
        ("worse", number("worse", "+.1%")),
        ("of worse", number("worse_error", ".1%")),
        *COST[3:],
    ),
    legend=(
        "*times no cache*: seconds without a cache over seconds with it. *identical*: to the same schedule without a "
        f"cache. {QUALITY.rstrip()}"
    ),
    labels=("positions", "method"),
    run=run,
    writes=True,
)
