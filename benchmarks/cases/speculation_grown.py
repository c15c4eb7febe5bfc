"""Trees of drafts by the clock."""

from benchmarks.case import CAUSAL, Case, Figures
from benchmarks.cases.speculation import CURVES, fits
from benchmarks.columns import COST, IDENTICAL, METHOD, SIZE, TEMPERATURE, Row, number, spread
from benchmarks.grown import GROWN, sizes
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compare, compile_all
from benchmarks.variants import build, plain
from benchmarks.workload import Workload

NODES = 16


def run(setting: Setting) -> list[Row]:
    """One row a method and temperature."""
    scale, rows = setting.scale, []
    sized = sizes(setting, scale.grown and scale.grown[1:2])[-1]  # 25M
    target = sized.checkpoint
    named = [(name, depth(NODES), NODES) for name, depth in CURVES.items()]
    named += [(name, None, None) for name in ("draft", "lookup", "recycling")]
    named += [(name, None, NODES) for name in ("medusa", "eagle") if fits(setting, name)]
    variants = [plain(target.model, target.params)]
    for name, depth, nodes in named[: scale.speculations]:
        about = "" if nodes is None else f"{nodes} nodes"
        variants.append(build(setting, name, depth, nodes, target=target, about=about))
    for temperature in each(scale.temperatures, "temperature {:g}".format):
        workload = Workload(setting.prompts(2), 1, scale.tokens, temperature)
        compile_all(variants, workload)
        rows += compare(setting, variants, workload, {}, **sized.labels)[0]
    return rows


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of each method at temperature 0."""
    return {
        row["method"]: Figures(row["tokens_per_forward"], row["wall_ratio"], row["about"])
        for row in rows
        if row["temperature"] == 0 and row["wall_ratio"] is not None
    }


CASE = Case(
    name="speculation_grown",
    order=6,
    about=(
        "Seconds against plain decoding for a few drafters, on a grown target at batch 1: trees of 16 nodes, and "
        "others. The text is that of the shipped target."
    ),
    models=CAUSAL,
    columns=(
        *SIZE,
        TEMPERATURE,
        METHOD,
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("times plain", spread("wall_ratio", ".2f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        IDENTICAL,
        *COST,
    ),
    legend=GROWN,
    labels=("target", "parameters", "temperature", "method"),
    run=run,
    figures=figures,
)
