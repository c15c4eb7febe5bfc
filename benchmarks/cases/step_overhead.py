"""What a decoding step costs beside its forward."""

import statistics

from benchmarks import costs
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import COST, SIZE, TEMPERATURE, Row, number, spread
from benchmarks.grown import GROWN, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import timed, traffic
from benchmarks.variants import plain
from benchmarks.workload import Workload
from jaxdec.decoding import init
from jaxdec.measuring.timing import interleave, quartiles, ratios

BAR = 1.15


def run(setting: Setting) -> list[Row]:
    """One row a target and temperature."""
    scale, rows = setting.scale, []
    batch = scale.batches[0]
    for sized in each(sizes(setting, scale.grown and scale.grown[1:2])):  # 25M
        model, params = sized.checkpoint.model, sized.checkpoint.params
        variant = plain(model, params)
        for temperature in scale.temperatures:
            workload = Workload(setting.prompts(batch), batch, scale.tokens, temperature)
            cache = init(variant.decoder, variant.params, workload.requests(variant)[0]).cache
            bare = costs.forward_method("bare", model, params, cache, 1, scale.tokens)
            timings = interleave([workload.method(variant), bare], repeats=scale.repeats)
            step, forward = timings["plain"], timings["bare"]
            ratio = ratios(step, forward)
            read = traffic(variant, batch, cache.capacity, scale.tokens)
            rows.append(
                {
                    **sized.labels,
                    "batch": batch,
                    "temperature": temperature,
                    "new_tokens": scale.tokens,
                    "step_seconds": step.median / scale.tokens,
                    "forward_seconds": forward.median / scale.tokens,
                    "overhead": statistics.median(ratio),
                    "overhead_quartiles": quartiles(ratio),
                    "bar": BAR,
                    **timed(step),
                    "bytes_per_second": read / step.median,
                    "bandwidth_share": read / step.median / setting.bandwidth,
                }
            )
    return rows


CASE = Case(
    name="step_overhead",
    order=3,
    about=(
        "A plain decoding step in its loop against a bare forward of one token in a loop, with the same cache. "
        "The step also draws the token, stores the cache entry, tests the stops and keeps the record."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
        TEMPERATURE,
        ("step ms", number("step_seconds", ".3f", 1e3)),
        ("bare forward ms", number("forward_seconds", ".3f", 1e3)),
        ("step / forward", spread("overhead", ".3f")),
        ("bar", number("bar", ".2f")),
        *COST[1:3],
    ),
    legend=GROWN,
    labels=("target", "parameters", "temperature"),
    run=run,
)
