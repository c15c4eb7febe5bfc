"""Gaps of HumanEval filled by every method, and what the filled programs are worth."""

import dataclasses
from collections.abc import Iterator

from benchmarks import sandbox
from benchmarks.any_subset import LEGEND
from benchmarks.case import ANY_SUBSET, Case
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, TEMPERATURE, Row, number, word
from benchmarks.fills import Scorer, agreement, describe, fill, summary
from benchmarks.humaneval import FILES, Subset, choose, load
from benchmarks.progress import Steps, steps
from benchmarks.setting import Scale, Setting
from benchmarks.variants import build
from benchmarks.workload import Variant

TEMPERATURES = (0.0, 1.0)
TRUE_TEXT: Row = {
    "method": "true text",
    "about": "control: what stood in the gap",
    "exactness": None,
    "temperature": None,
}


def infillers(setting: Setting) -> list[Variant]:
    """The ways to fill gaps; sequential decoding, their baseline, comes first."""
    parallel = build(setting, "parallel", 4, name="parallel 4")
    about = "contrast: drafts that nobody verifies"
    rule = "the published rule"
    return [
        build(setting, "any-order", name="sequential"),
        build(setting, "assd", 6, name="ASSD 6"),
        build(setting, "assd-ngram", 6, name="ASSD n-gram 6"),
        build(setting, "fused", 4, name="fused 4"),
        build(setting, "any-order-draft", 6, name="draft 6"),
        build(setting, "assd-token", 6, name="ASSD 6, token ratio", about=rule),
        dataclasses.replace(parallel, length=0, about=about),
    ]


def run(setting: Setting) -> list[Row]:
    """One row a file, temperature and method, and one of the true text a file."""
    scale, rows = setting.scale, []
    # All files are read first: one that is missing should not cost the time of the others.
    subsets = {kind: choose(load(kind), scale.problems, scale.longest_gap) for kind in FILES}
    variants = infillers(setting)
    scorer = Scorer(setting.target.model, setting.target.params, scale.gaps)
    with steps(len(subsets) * (1 + len(TEMPERATURES) * len(variants))) as shown:
        for kind, subset in subsets.items():
            common = labels(kind, subset, scale)
            found = of_file(kind, subset, variants, scorer, scale.gaps, shown)
            rows += [{**common, **row} for row in found]
    return rows


def labels(kind: str, subset: Subset, scale: Scale) -> Row:
    """What all rows of a file have in common."""
    return {
        "file": kind,
        "problems": len(subset.problems),
        "in_file": subset.held,
        "left_out_empty": subset.empty,
        "left_out_long": subset.too_long,
        "longest_gap": scale.longest_gap,
        "batch": scale.gaps,
        "network": sandbox.network(),
    }


def of_file(
    kind: str, subset: Subset, variants: list[Variant], scorer: Scorer, gaps: int, shown: Steps
) -> Iterator[Row]:
    """The rows of a file, which say nothing of the file itself."""
    problems = subset.problems
    shown.begin(f"{kind}: {TRUE_TEXT['method']}")
    yield {**TRUE_TEXT, **summary(scorer(problems, [problem.gap for problem in problems]))}
    for temperature in TEMPERATURES:
        expected = None
        for variant in variants:
            shown.begin(f"{kind}, {temperature:g}: {variant.name}")
            fills, counted = fill(variant, problems, gaps, temperature)
            worth = summary(scorer(problems, fills))
            equal: Row = {"identical": None, "identical_rows": None}
            if expected is not None:
                equal = agreement(fills, expected)
            expected = expected or fills
            yield {**describe(variant, temperature), **counted, **equal, **worth}


def verdicts(row: Row) -> str:
    """How programs ended, what happened at least once."""
    return ", ".join(f"{count} {name}" for name, count in row["verdicts"].items() if count)


CASE = Case(
    name="infilling",
    order=11,
    about=(
        "Functions of HumanEval with a gap: how often a fill is the true text, is Python, and passes the function's "
        "tests. The length of the gap is given, and specials are banned."
    ),
    models=ANY_SUBSET,
    columns=(
        ("gap", word("file")),
        TEMPERATURE,
        METHOD,
        ("problems", word("problems")),
        ("exact", number("exact", ".1%")),
        ("parses", number("parses", ".1%")),
        ("passes", number("passes", ".1%")),
        ("bits/byte", number("bits_per_byte", ".2f")),
        ("entropy", number("entropy", ".2f")),
        ("forwards/byte", number("forwards_per_byte", ".2f")),
        ("rows/byte", number("rows_per_byte", ".1f")),
        IDENTICAL,
        ("acceptance", number("acceptance", ".1%")),
        ("draft forwards/byte", number("draft_forwards_per_byte", ".2f")),
        ("programs", verdicts),
        ("in the file", word("in_file")),
        ("with an empty gap", number("left_out_empty", ".0f")),
        ("with a longer gap", number("left_out_long", ".0f")),
        ("longest gap", word("longest_gap")),
        ("network", word("network")),
        EXACTNESS,
    ),
    legend=(
        f"{LEGEND}A gap of HumanEval-Infilling is filled with as many bytes as it had. *exact*: the true text; "
        "*parses*: the filled file is Python; *passes*: and passes the function's own tests in a sandbox. "
        "*bits/byte*: of the fill, under the target's own law. *entropy*: of the byte frequencies of one fill, in "
        "bits, the mean over fills."
    ),
    labels=("file", "temperature", "method"),
    run=run,
    check=lambda: [load(kind) for kind in FILES],
)
