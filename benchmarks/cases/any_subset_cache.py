"""The cache of known tokens in their order, by the clock."""

from benchmarks.any_subset import LEGEND, RATES, timed
from benchmarks.case import ANY_SUBSET, Case
from benchmarks.columns import COST, IDENTICAL, METHOD, Row, number, word
from benchmarks.setting import Setting
from benchmarks.variants import build
from benchmarks.workload import Variant, Workload, gaps
from jaxdec import any_subset

BAR = 5.0


def run(setting: Setting) -> list[Row]:
    """One row with the cache, and one without."""
    scale, model = setting.scale, setting.target.model
    held = gaps(setting.corpus.held_out, 2, scale.long_window, RATES[0])
    cached = build(setting, "assd", 4, name="ASSD 4", about="cached")
    whole = any_subset.assd(any_subset.recomputed(model), width=4)
    about = "all tokens in every forward"
    variants = [cached, Variant("ASSD 4, no cache", whole, cached.params, 4, about)]
    workload = Workload(held, 1, 0, 1.0)
    rows = timed(setting, variants, workload, {"window": scale.long_window, "bar": BAR})
    for row in rows:
        row["times_cached"] = row["seconds"] / rows[0]["seconds"]
    return rows


CASE = Case(
    name="any_subset_cache",
    order=10,
    about=(
        "What the rank-order cache is worth: ASSD with it, and scoring every known token again in every forward."
    ),
    models=ANY_SUBSET,
    columns=(
        ("positions", word("window")),
        METHOD,
        ("forwards/token", number("forwards_per_token", ".3f")),
        ("rows/forward", number("rows_per_forward", ".1f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        ("times the cached seconds", number("times_cached", ".1f")),
        ("bar", number("bar", ".0f")),
        IDENTICAL,
        *COST[3:],
    ),
    legend=LEGEND,
    labels=("window", "method"),
    run=run,
)
