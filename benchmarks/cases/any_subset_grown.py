"""Speculation on gaps by the clock, by size of the target."""

import dataclasses

import jax

import jaxdec
from benchmarks.any_subset import LEGEND, RATES, timed, timed_forms
from benchmarks.case import ANY_SUBSET, Case, Figures
from benchmarks.columns import COST, IDENTICAL, METHOD, SIZE, Row, number, spread
from benchmarks.grown import GROWN, at_size, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compile_all
from benchmarks.workload import Gaps, Variant, Workload, gaps
from jaxdec import any_subset, text


def run(setting: Setting) -> list[Row]:
    """One row a method and target; the automatic choice is made on other windows than those that are timed."""
    scale, rows = setting.scale, []
    held = gaps(setting.corpus.held_out, 2, scale.window, RATES[0])
    workload = Workload(held[:1], 1, 0, 1.0)
    for sized in each(sizes(setting, scale.grown)):
        raw = sized.checkpoint.model
        target = dataclasses.replace(sized.checkpoint, model=any_subset.two_stream(raw, text.MASK))
        variants = timed_forms(setting, target)[: scale.forms]
        compile_all(variants, workload)
        auto = chosen(setting, variants, workload, held[1:])
        rows += timed(setting, [*variants, auto], workload, sized.labels, raw)
    return rows


def chosen(setting: Setting, variants: list[Variant], workload: Workload, held: Gaps) -> Variant:
    """The variant that is fastest on some windows."""
    target = variants[0]
    choice = jaxdec.auto_infill(
        {variant.name: variant.decoder for variant in variants},
        {**target.params, "draft": setting.draft.params},
        held.tokens,
        held.visible,
        rng=jax.random.key(1),
        repeats=min(setting.scale.repeats, 3),
        temperature=1.0,
        banned=workload.banned(target.decoder.model),
    )
    found = next(variant for variant in variants if variant.name == choice.name)
    return dataclasses.replace(found, name="auto", about=f"chose {choice.name}")


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of four drafts, by the target itself and by a small model."""
    names = {"ASSD 4": "assd", "draft 4": "any-order-draft"}
    return {
        names[row["method"]]: Figures(row["tokens_per_forward"], row["wall_ratio"])
        for row in at_size(rows)
        if row["method"] in names
    }


CASE = Case(
    name="any_subset_grown",
    order=9,
    about=(
        "Seconds against sequential any-order decoding, by size of the target: half of the bytes masked, temperature "
        "1. Targets are grown, so that the text is that of the shipped one; the automatic choice is made on other "
        "windows."
    ),
    models=ANY_SUBSET,
    columns=(
        *SIZE,
        METHOD,
        ("forwards/token", number("forwards_per_token", ".3f")),
        ("rows/forward", number("rows_per_forward", ".1f")),
        ("R", number("verify_ratio", ".2f")),
        ("times sequential", spread("wall_ratio", ".2f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        IDENTICAL,
        *COST[3:],
    ),
    legend=f"{LEGEND}{GROWN}",
    labels=("target", "parameters", "method"),
    run=run,
    by_clock=("auto",),
    figures=figures,
)
