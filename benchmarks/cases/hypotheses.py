"""What a step of several hypotheses costs beside one of as many rows that know nothing of one another."""

import statistics
from collections.abc import Callable

from benchmarks.case import CAUSAL, Case
from benchmarks.columns import SIZE, Row, number, spread, word
from benchmarks.grown import GROWN, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import timed
from benchmarks.variants import plain
from benchmarks.workload import Variant, Workload
from jaxdec import autoregressive, search
from jaxdec.decoding import Decoder
from jaxdec.measuring.timing import interleave, quartiles, ratios
from jaxdec.model import Model

BAR, HYPOTHESES = 1.15, 8
SCORE, STEP = search.scorers.log_prob(mean=True), search.of_length(8)
SEARCHES: dict[str, Callable[[Model], Decoder]] = {
    "beams": search.beams,
    "diverse-beams": search.diverse_beams,
    "stochastic-beams": search.stochastic_beams,
    "smc": lambda model: search.smc(autoregressive(model), segment=STEP, potential=SCORE),
    "particle-filter": lambda model: search.particle_filter(
        autoregressive(model), SCORE, segment=STEP
    ),
}


def run(setting: Setting) -> list[Row]:
    """One row a target and search."""
    scale, rows = setting.scale, []
    knobs = {"hypotheses": HYPOTHESES}
    for sized in each(sizes(setting, scale.grown and scale.grown[1:2])):  # 25M
        model, params = sized.checkpoint.model, {"target": sized.checkpoint.params}
        alone = plain(model, sized.checkpoint.params)
        variants = [Variant(alone.name, alone.decoder, alone.params, knobs=knobs)]
        for name, make in SEARCHES.items():
            variants.append(Variant(name, make(model), params, knobs=knobs))
        workload = Workload(setting.prompts(1), 1, scale.tokens, 1.0)
        timings = interleave([workload.method(v) for v in variants], repeats=scale.repeats)
        for variant in variants[1:]:
            step, independent = timings[variant.name], timings[alone.name]
            ratio = ratios(step, independent)
            rows.append(
                {
                    **sized.labels,
                    "method": variant.name,
                    "hypotheses": HYPOTHESES,
                    "new_tokens": scale.tokens,
                    "step_seconds": step.median / scale.tokens,
                    "independent_seconds": independent.median / scale.tokens,
                    "overhead": statistics.median(ratio),
                    "overhead_quartiles": quartiles(ratio),
                    "bar": BAR,
                    **timed(step),
                }
            )
    return rows


CASE = Case(
    name="hypotheses",
    order=27,
    about=(
        "A step of a search with several hypotheses of one prompt against a step of plain sampling with as many "
        "independent rows of that prompt, at temperature 1. Beams also rank all continuations, keep finished "
        "hypotheses and move rows with their caches; particles are compared and moved after every 8 tokens, by the "
        "mean log-probability, which needs no forward of its own."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
        ("method", word("method")),
        ("hypotheses", number("hypotheses", "d")),
        ("step ms", number("step_seconds", ".3f", 1e3)),
        ("independent ms", number("independent_seconds", ".3f", 1e3)),
        ("step / independent", spread("overhead", ".3f")),
        ("bar", number("bar", ".2f")),
    ),
    legend=GROWN,
    labels=("target", "parameters", "method"),
    run=run,
)
