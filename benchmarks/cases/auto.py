"""The automatic choice among drafters against the best fixed ones, for targets grown deep and wide."""

import functools

import jax

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.cases.speculation import fits
from benchmarks.columns import COST, IDENTICAL, METHOD, SIZE, Row, number, spread, word
from benchmarks.grown import GROWN, Sized, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compare, compile_all
from benchmarks.variants import plain
from benchmarks.workload import Prompts, Variant, Workload
from jaxdec import drafters, growth
from jaxdec.catalogue import METHODS
from jaxdec.checkpoints import load_any
from jaxdec.generation import ChosenDecoder
from jaxdec.measuring.choosing import Ladder
from jaxdec.model import Heads, Model, Params
from jaxdec.speculative import Drafter

CLOSE = 3
"""Fixed choices that are timed beside the automatic one: the fastest by its own clock."""
SMALL = 30_000_000
"""Targets of at most so many parameters are decoded at all batches, larger ones at the first."""


def run(setting: Setting) -> list[Row]:
    """One row a method, target and batch; the choice is made on other prompts than those that are timed."""
    scale, rows = setting.scale, []
    named, params = at_hand(setting)
    for sized in each(sizes(setting, scale.grown and (*scale.grown[1:], *scale.wide))):
        target = sized.checkpoint
        own = {"target": target.params, **params}
        for batch in scale.selected[: None if sized.labels["parameters"] <= SMALL else 1]:
            held = setting.prompts(2 * batch)
            choice = chosen(setting, sized, own, named, held[batch:])
            rows += timed(
                setting, sized, own, choice, Workload(held[:batch], batch, scale.tokens, 0.0)
            )
    return rows


def at_hand(setting: Setting) -> tuple[dict[str, Model | Heads | Ladder], dict[str, Params]]:
    """What can draft for the shipped target, and parameters by name."""
    named: dict[str, Model | Heads | Ladder] = {"draft": setting.draft.model}
    params = {"draft": setting.draft.params}
    if fits(setting, "eagle"):
        eagle = load_any(METHODS["eagle"].draft)
        named["eagle"] = functools.partial(_eagle, eagle.model)
        params["eagle"] = eagle.params
    return named, params


def _eagle(model: Model, n: int) -> Drafter:
    rule = growth.best_first(n, min(n, 8), siblings=8)
    return drafters.eagle(model, growth=rule, name="eagle")


def chosen(
    setting: Setting,
    sized: Sized,
    params: dict[str, Params],
    named: dict[str, Model | Heads | Ladder],
    held: Prompts,
) -> ChosenDecoder:
    """By the clock, on some prompts."""
    return jaxdec.auto(
        sized.checkpoint.model,
        params,
        held.tokens,
        rng=jax.random.key(1),
        drafters=named,
        drafts=setting.scale.drafts,
        # Fewer than are timed, but of the same bucket: nothing compiles again.
        new_tokens=3 * setting.scale.tokens // 4,
        prompt_lengths=held.lengths,
        temperature=0.0,
        eos=(),
    )


def timed(
    setting: Setting,
    sized: Sized,
    params: dict[str, Params],
    choice: ChosenDecoder,
    workload: Workload,
) -> list[Row]:
    """Plain decoding, the choice, and the fixed choices that came nearest to it, in turns."""
    target = sized.checkpoint
    near = sorted(choice.seconds_per_token, key=choice.seconds_per_token.__getitem__)
    variants = [plain(target.model, target.params)]
    names = {"auto": choice.name, **{name: name for name in near[: CLOSE + 1] if name != "plain"}}
    for method, name in list(names.items())[: CLOSE + 1]:
        decoder = choice.decoders[name]
        about = f"chose {name}" if method == "auto" else ""
        variants.append(Variant(method, decoder, params, decoder.width - 1, about))
    compile_all(variants, workload)
    rows, _ = compare(setting, variants, workload, {}, **sized.labels, shape=shape(sized))
    best = max((row["wall_ratio"] for row in rows[2:]), default=1.0)
    for row in rows:
        name = names.get(row["method"], "plain")
        row["predicted"] = choice.predicted["plain"] / choice.predicted[name]
        row["of_best"] = row["wall_ratio"] / max(best, 1.0) if row["method"] == "auto" else None
    return rows


def shape(sized: Sized) -> str:
    """How the target was grown."""
    if sized.label == "shipped":
        return ""
    return "deep" if sized.labels["layers"] > 4 else "wide"


CASE = Case(
    name="auto",
    order=6,
    about=(
        "`jaxdec.auto` among prompt lookup, chains and trees of a draft model and EAGLE's trees, against plain "
        "decoding and the fixed choices that came nearest, at temperature 0. The choice is made on other prompts than "
        "those that are timed."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
        ("grown", word("shape")),
        ("batch", number("batch", "d")),
        METHOD,
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("predicted", number("predicted", ".2f")),
        ("times plain", spread("wall_ratio", ".2f")),
        ("of the best fixed", number("of_best", ".2f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        IDENTICAL,
        *COST,
    ),
    legend=GROWN
    + " *deep*: with more layers, *wide*: with wider ones alone. *predicted*: times plain, from what forwards and "
    "proposals cost and tokens a forward on the prompts of the choice. Tokens a forward are what a row would be times "
    "plain if its drafts, and what a forward scores beside the first token, cost nothing.",
    labels=("target", "parameters", "shape", "batch", "method"),
    run=run,
    by_clock=("auto",),
)
