"""Draft lengths by load, by the clock."""

import statistics

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, Row, number, spread, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compile_all, timed
from benchmarks.variants import drafting, plain
from benchmarks.workload import Variant, Workload
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.costs import verify_costs
from jaxdec.measuring.timing import Timing, interleave, quartiles, ratios
from jaxdec.speculative import LoadCosts, Speculative

BAR = 1.0


def run(setting: Setting) -> list[Row]:
    """One row a number of rows and method; the costs are measured first, on the same prompts."""
    scale, rows = setting.scale, []
    lengths = (0, *scale.ladder)
    held, both = (
        setting.prompts(max(scale.loads)),
        {"target": setting.target.params, "draft": setting.draft.params},
    )
    temperature = scale.temperatures[-1]
    costs = verify_costs(
        lambda length: _drafting(setting, length),
        both,
        held.tokens,
        prompt_lengths=held.lengths,
        rows=scale.loads,
        lengths=lengths,
        steps=scale.steps,
        repeats=scale.repeats,
        temperature=temperature,
    )
    decoder = jaxdec.adaptive(
        lambda length: _drafting(setting, length), lengths, rule=jaxdec.lengths.by_load()
    )
    variants = [
        plain(setting.target.model, setting.target.params),
        *(drafting(setting, length) for length in scale.ladder),
        Variant("adaptive by load", decoder, {**both, "load": costs}),
    ]
    for load in each(scale.loads, "{} rows".format):
        workload = Workload(held[:load], load, scale.load_tokens, temperature)
        compile_all(variants, workload)
        methods = [workload.method(variant) for variant in variants]
        timings = interleave(methods, repeats=scale.repeats)
        rows += _rows(variants, timings, load, costs)
    return rows


def _drafting(setting: Setting, length: int) -> Speculative:
    drafter = jaxdec.drafters.model(setting.draft.model, length=length)
    return jaxdec.speculative(setting.target.model, drafter=drafter)


def _rows(
    variants: list[Variant], timings: dict[str, Timing], load: int, costs: LoadCosts
) -> list[Row]:
    baseline, adaptive = variants[0].name, variants[-1].name
    fixed = [variant.name for variant in variants[:-1]]
    best = min(fixed, key=lambda name: timings[name].median)
    expected = new_tokens(timings[baseline].output)
    rows = []
    for variant in variants:
        timing, name = timings[variant.name], variant.name
        counted = counts(timing.output)
        row = {
            "load": load,
            "method": name,
            "about": "",
            "exactness": variant.decoder.exactness.value,
            "draft_length": variant.length,
            **counted,
            **timed(timing),
            "drafts": counted["proposed"] / counted["target_forwards"],
            "tokens_per_second": counted["tokens"] / timing.median,
            "identical": None
            if name == baseline
            else identical(new_tokens(timing.output), expected),
            "best": best if name == adaptive else None,
            "bar": BAR if name == adaptive else None,
        }
        for key, other in (("times_plain", baseline), ("times_best", best)):
            if name == other or (key == "times_best" and name != adaptive):
                row[key] = None
                continue
            ratio = ratios(timings[other], timing)
            row |= {key: statistics.median(ratio), f"{key}_quartiles": quartiles(ratio)}
        if variant.length in costs.lengths and name != adaptive:
            cost = costs.at(load, (0, variant.length))
            row["cost_ratio"] = float(cost[1] / cost[0])
        rows.append(row)
    return rows


CASE = Case(
    name="load",
    order=24,
    about=(
        "The shipped pair by the rows decoded at once: plain, fixed draft lengths, and the length chosen in every step "
        "from the costs of steps, measured before on the same machine (`lengths.by_load`)."
    ),
    models=CAUSAL,
    columns=(
        ("rows", word("load")),
        METHOD,
        ("step / plain step", number("cost_ratio", ".2f")),
        ("drafts/forward", number("drafts", ".2f")),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        ("times plain", spread("times_plain", ".2f")),
        ("bar", number("bar", ".2f")),
        ("times the best fixed", spread("times_best", ".2f")),
        ("which is", word("best")),
        IDENTICAL,
        EXACTNESS,
    ),
    legend=(
        "*step / plain step*: the measured cost of a step of that draft length over one without drafts, at that number "
        "of rows. *drafts/forward*: drafts a forward of the target. *times the best fixed*: against the fastest of "
        "plain decoding and the fixed lengths at that number of rows."
    ),
    labels=("load", "method"),
    run=run,
)
