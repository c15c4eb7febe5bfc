"""Draft lengths by load, by the clock."""

import functools
import statistics

import jax

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, SIZE, Row, number, spread, word
from benchmarks.grown import GROWN, Sized, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compile_all, timed
from benchmarks.variants import drafting, plain
from benchmarks.workload import Variant, Workload
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.costs import verify_costs
from jaxdec.measuring.timing import Timing, interleave, quartiles, ratios
from jaxdec.model import Model
from jaxdec.speculative import LoadCosts, Speculative

BAR = 1.0


def run(setting: Setting) -> list[Row]:
    """One row a target, number of rows and method."""
    goals = setting.scale.grown
    targets = sizes(setting, goals[1:2]) if goals else sizes(setting, None)[:1]
    return [row for sized in each(targets) for row in _of_target(setting, sized)]


def _of_target(setting: Setting, sized: Sized) -> list[Row]:
    """The costs of steps are measured first, on the same prompts."""
    scale, rows, target = setting.scale, [], sized.checkpoint
    lengths, temperature = (0, *scale.ladder), scale.temperatures[-1]
    held = setting.prompts(max(scale.loads))
    both = {"target": target.params, "draft": setting.draft.params}
    make = functools.partial(_drafting, target.model, setting.draft.model)
    costs = verify_costs(
        make,
        both,
        held.tokens,
        prompt_lengths=held.lengths,
        rows=scale.loads,
        lengths=lengths,
        steps=scale.steps,
        repeats=scale.repeats,
        temperature=temperature,
    )
    jax.clear_caches()
    decoder = jaxdec.adaptive(make, lengths, rule=jaxdec.lengths.by_load())
    variants = [
        plain(target.model, target.params),
        *(drafting(setting, length, target=target) for length in scale.ladder),
        Variant("adaptive by load", decoder, {**both, "load": costs}),
    ]
    for load in scale.loads:
        workload = Workload(held[:load], load, scale.load_tokens, temperature)
        compile_all(variants, workload)
        methods = [workload.method(variant) for variant in variants]
        timings = interleave(methods, repeats=scale.repeats)
        rows += [{**sized.labels, **row} for row in _rows(variants, timings, load, costs)]
        # A system allows a process so many pieces of memory, and every program takes some.
        jax.clear_caches()
    return rows


def _drafting(target: Model, draft: Model, length: int) -> Speculative:
    drafter = jaxdec.drafters.model(draft, length=length)
    return jaxdec.speculative(target, drafter=drafter)


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
        "The shipped pair, and a larger target, by the rows decoded at once: plain, fixed draft lengths, and the "
        "length chosen in every step from the costs of steps, measured before on the same machine (`lengths.by_load`)."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
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
        f"{GROWN} "
        "*step / plain step*: the measured cost of a step of that draft length over one without drafts, at that number "
        "of rows. *drafts/forward*: drafts a forward of the target. *times the best fixed*: against the fastest of "
        "plain decoding and the fixed lengths at that number of rows."
    ),
    labels=("target", "parameters", "load", "method"),
    run=run,
)
