"""Policies of canvas decoding on tasks with exact answers, without a clock."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.canvases import parts
from benchmarks.case import FILLED, Case, Figures
from benchmarks.columns import EXACTNESS, METHOD, TEMPERATURE, Row, number, word
from benchmarks.panels import CONTROL, panels
from benchmarks.progress import steps
from benchmarks.setting import Setting
from benchmarks.solved import Held, area, swept
from jaxdec import checkpoints, plotting
from jaxdec.catalogue import DENOISING, METHODS, Method, Parts
from jaxdec.checkpoint_folder import available
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.training.presets import PRESETS
from jaxdec.training.tasks import problems

REFERENCE = "llada"
"""One token a forward, the most probable first, is what this policy does at its first point."""
LOST = 0.01
"""What a faster setting may lose of the exact answers."""
FLOOR = 0.05
"""What a setting may lose and still count for the area."""
BAR = 5.0
"""Tokens a forward that the best setting of some policy should reach within `LOST`."""
TEMPERATURES = (0.0, 1.0)


def methods(own: Parts, heads: Mapping[str, HeadsCheckpoint] | None = None) -> list[Method]:
    """Those of the catalogue that need nothing but the model and heads on it, and take it; the reference first.

    Args:
      own: what decoders are made of.
      heads: trained for the model, by the names of checkpoints.
    """
    rows = (METHODS[name] for name in DENOISING)
    found = [row for row in rows if (made := with_heads(row, own, heads)) and _takes(row, made)]
    return sorted(found, key=lambda row: row.name != REFERENCE)


def with_heads(
    row: Method, own: Parts, heads: Mapping[str, HeadsCheckpoint] | None
) -> Parts | None:
    """What a method is made of; None for one that needs something else."""
    if not (row.draft or row.heads):
        return own
    if heads is None or row.draft not in heads:
        return None
    return dataclasses.replace(own, draft=heads[row.draft].heads)


def heads_of(target: Checkpoint) -> dict[str, HeadsCheckpoint]:
    """The shipped heads that policies of this model have, by name."""
    names = {METHODS[name].draft for name in DENOISING if METHODS[name].heads}
    found = [checkpoints.load_heads(name) for name in sorted(names & {*available()})]
    return {head.name: head for head in found if head.target == target.name}


def _takes(method: Method, own: Parts) -> bool:
    """Whether a method decodes with these parts: some know no causal blocks."""
    try:
        method.make(own)
    except ValueError:
        return False
    return True


def run(setting: Setting) -> list[Row]:
    """One row a policy, setting of its knobs and temperature."""
    scale = setting.scale
    mixture = PRESETS["tasks-mdm"].config.mixture
    held: Held = {
        task: problems(task, scale.solved, fraction=mixture.held_out)
        for task in mixture.tasks[: scale.tasks]
    }
    rows: list[Row] = []
    target = setting.target
    own = parts(
        target,
        "block" if target.fills == "blocks" else "none",
        whole=target.fills == "canvas",
    )
    heads = heads_of(target)
    chosen = methods(own, heads)[: scale.policies]
    with steps(len(chosen)) as shown:
        for method in chosen:
            shown.begin(method.name)
            made, params = with_heads(method, own, heads), {"target": target.params}
            assert made is not None
            if method.heads:
                params["draft"] = heads[method.draft].params
            rows += swept(method, made, params, held, TEMPERATURES, scale.points)
    return judged(rows)


def judged(rows: list[Row], temperatures: tuple[float, ...] = TEMPERATURES) -> list[Row]:
    """Adds what each row loses, marks the fastest of each policy that loses little, and gives it the area."""
    found = []
    for temperature in temperatures:
        here = [row for row in rows if row["temperature"] == temperature]
        reference = next(row["exact"] for row in here if row["method"] == REFERENCE)
        here = [{**row, "lost": reference - row["exact"]} for row in here]
        for name in dict.fromkeys(row["method"] for row in here):
            own = [row for row in here if row["method"] == name]
            good = [row for row in own if row["lost"] <= LOST]
            best = max(good, key=lambda row: row["tokens_per_forward"], default=None)
            within = [row for row in own if row["lost"] <= FLOOR]
            under = area([(row["tokens_per_forward"], row["exact"]) for row in within])
            found += [
                {
                    **row,
                    "best": row is best,
                    "area": under if row is (best or own[0]) else None,
                }
                for row in own
            ]
    marked = [row for row in found if row["best"] and row["temperature"] == 0]
    fastest = max(marked, key=lambda row: row["tokens_per_forward"], default=None)
    return [{**row, "bar": BAR if row is fastest else None} for row in found]


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of the best setting of each policy at temperature 0."""
    return {
        row["method"]: Figures(row["tokens_per_forward"], about=row["setting"])
        for row in rows
        if row["best"] and row["temperature"] == 0
    }


def curves(rows: list[Row], temperature: float) -> dict[str, list[tuple[float, float]]]:
    """(tokens a forward, exact answers) over the points of each policy, slowest first."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["temperature"] == temperature:
            found.setdefault(row["method"], []).append((row["tokens_per_forward"], row["exact"]))
    return {name: sorted(points) for name, points in found.items()}


def chart(rows: list[Row]) -> Any:
    """A panel a policy, a line a temperature; dashed, as many forwards in fixed groups under a perfect model."""
    temperatures = sorted({row["temperature"] for row in rows})

    def draw(name: str, ax: Any) -> None:
        plotting.trade_off({f"{t:g}": curves(rows, t)[name] for t in temperatures}, ax=ax)
        limits = sorted(
            (row["tokens_per_forward"], row["limit"])
            for row in rows
            if row["method"] == name and row["limit"] is not None
        )
        ax.plot(*zip(*limits, strict=True), **CONTROL, zorder=0)
        ax.set(ylim=(0, 1.03))

    return panels(
        list(dict.fromkeys(row["method"] for row in rows)),
        draw,
        height=2.0,
        up="exact answers",
        control="a perfect model at 1, as many forwards in fixed groups",
    )


CASE = Case(
    name="tasks",
    order=17,
    about=(
        "Exact answers against tokens a forward: every policy of canvas decoding over its knob, on held-out problems "
        "of tasks that the model has learnt, with no clock. Each problem has the canvas of its task, filled up with "
        "EOS; the checker of the task judges what is written."
    ),
    models=FILLED,
    columns=(
        TEMPERATURE,
        METHOD,
        ("setting", word("setting")),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("exact", number("exact", ".1%")),
        ("standard error", number("exact_error", ".1%")),
        ("fixed groups", number("limit", ".1%")),
        ("one solution", number("one_solution", ".1%")),
        ("several", number("several_solutions", ".1%")),
        ("lost", number("lost", "+.1%")),
        ("best within 1%", lambda row: "yes" if row["best"] else ""),
        ("bar of the best", number("bar", ".0f")),
        ("area", number("area", ".2f")),
        EXACTNESS,
    ),
    legend=(
        "*exact*: answers that the checkers accept. *one solution*, *several*: the same over the tasks whose problems "
        "have one, or several that are equally likely (`shuffle`, `insert`, `replace`, `agreement`), the mean over "
        "tasks. *fixed groups*: how often a model that knows every law is right if it takes as many forwards as each "
        "row did, at temperature 1, in the best groups of positions that are fixed beforehand "
        "(`Task.parallel_limit`). It is no bound on those who go by what they see: thresholds take fewer forwards "
        "where they were lucky, branches are verified, and what is taken back is drawn again. *n a step*: as many "
        "steps as tokens over n (of EOSER, that double). *lost*: exact answers less than those of one token a forward, "
        f"the most probable first (`{REFERENCE}`). *area*: under the exact answers that are reached at so many tokens "
        "a forward or more, of settings that lose at most 5%: tokens a forward, weighed by what is right of them."
    ),
    labels=("temperature", "method", "setting"),
    run=run,
    chart=chart,
    figures=figures,
)
