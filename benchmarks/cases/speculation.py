"""Drafters and verifiers without a clock: tokens a target forward, over methods and over the nodes of a tree."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdec
from benchmarks.agreement import first_differences, ratio
from benchmarks.case import CAUSAL, Case, Figures
from benchmarks.columns import (
    EXACTNESS,
    IDENTICAL,
    METHOD,
    TEMPERATURE,
    Row,
    depths,
    differences,
    number,
    plus_minus,
    word,
)
from benchmarks.editing import edited
from benchmarks.optimal import LOSSLESS, root_acceptance
from benchmarks.progress import each
from benchmarks.repeats import error, repeated
from benchmarks.setting import Setting
from benchmarks.variants import build, plain
from benchmarks.workload import Variant, Workload
from jaxdec import growth, plotting
from jaxdec.catalogue import METHODS
from jaxdec.checkpoints import HeadsCheckpoint, load_any
from jaxdec.decoding import Exactness
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.speculative.tree import RankTree

CHAINS = ("draft", "lookup")
"""Families that have cases of their own, to compare with."""
BUDGET = 64
REPEATED = 16
EDITING = ("lookup", "lookup-tree", "suffix", "input-copy")
"""Families that look text up, measured on the edited version of a prompt too."""
TREE_BARS = {0.0: 4.0, 0.8: 3.5}
"""Of the best tree within the budget, by temperature; the other bars are those of a family or of all draft heads."""
BARS = {"recycling": 2.0, "lookup": 1.5}
HEADS_BAR = 2.5
CURVES: dict[str, Callable[[int], int]] = {
    "dynamic-tree": lambda nodes: min(12, nodes),
    "sequoia": lambda nodes: min(8, nodes - 1),
    "rsd-s": lambda nodes: nodes // math.isqrt(nodes),
}
"""Families over budgets of nodes, with the depth for each; at the largest one, the family's own."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method to run.

    Attributes:
      variant: named after the method.
      family: whose curve it is a point of; empty if of none.
      bar: that it should reach, if it has one.
    """

    variant: Variant
    family: str = ""
    bar: float | None = None


def run(setting: Setting) -> list[Row]:
    """One row a method, temperature and number of nodes."""
    scale, rows = setting.scale, []
    held = setting.prompts(scale.speculated)
    base = plain(setting.target.model, setting.target.params)
    found = entries(setting)
    for temperature in scale.temperatures:
        workload = Workload(held, scale.speculated, scale.tokens, temperature)
        expected = new_tokens(_decode(base, workload))
        name = lambda entry, t=temperature: f"{t:g}: {entry.variant.name}"
        here = [_row(setting, entry, base, workload, expected) for entry in each(found, name)]
        trees = [row for row in here if row["nodes"] > row["depth"] and row["lossless"]]
        trees = [row for row in trees if row["nodes"] <= BUDGET]
        if trees:
            best = max(trees, key=lambda row: row["tokens_per_forward"])
            best |= {"about": f"best tree within {BUDGET} nodes", "bar": TREE_BARS.get(temperature)}
        rows += here
    return rows + edits(setting)


def edits(setting: Setting) -> list[Row]:
    """One row a method that looks text up: it decodes the edited version of each prompt, which is forced."""
    scale = setting.scale
    held, wanted = edited(setting.corpus.held_out, scale.speculated, scale.tokens)
    workload = Workload(held, scale.speculated, scale.tokens, 0.0)
    forced = lambda variant: dataclasses.replace(
        variant, name=f"{variant.name}, editing", knobs={"forced_prefix": wanted}
    )
    base = forced(plain(setting.target.model, setting.target.params))
    names = [name for name in EDITING if scale.speculations is None or name in CHAINS]
    found = [Entry(forced(build(setting, name))) for name in names]
    name = lambda entry: entry.variant.name
    return [_row(setting, entry, base, workload, list(wanted)) for entry in each(found, name)]


def entries(setting: Setting) -> list[Entry]:
    """What is run: the methods of the catalogue, some of them over budgets of nodes, and a comb, the crudest tree."""
    scale = setting.scale
    names = [name for name, method in METHODS.items() if method.benchmark == "speculation"]
    names.sort(key=lambda name: METHODS[name].exactness not in LOSSLESS)  # relaxed rules last
    names = [name for name in [*CHAINS, *names] if fits(setting, name)][: scale.speculations]
    found = [
        Entry(build(setting, name), name if name in CURVES else "", _bar(name)) for name in names
    ]
    known = {entry.variant.decoder for entry in found}
    for nodes in scale.budgets:
        points = {name: build(setting, name, depth(nodes), nodes) for name, depth in CURVES.items()}
        points["comb"] = comb(setting, nodes)
        found += [
            Entry(point, name) for name, point in points.items() if point.decoder not in known
        ]
    return found


def comb(setting: Setting, nodes: int) -> Variant:
    """A greedy chain, and beside each of its nodes the next best tokens."""
    depth = min(8, nodes // 2)
    siblings = nodes // depth
    parents = [(level - 1) * siblings for level in range(depth) for _ in range(siblings)]
    shape = RankTree.of(np.maximum(parents, -1), budget=nodes)
    drafter = jaxdec.drafters.model(setting.draft.model, growth=growth.fixed(shape))
    decoder = jaxdec.speculative(setting.target.model, drafter=drafter)
    params = {"target": setting.target.params, "draft": setting.draft.params}
    return Variant("comb", decoder, params, depth)


def fits(setting: Setting, name: str) -> bool:
    """Whether the method can decode this target: heads draft for the one that they were trained on alone."""
    own = METHODS[name].draft
    if own in ("", METHODS["draft"].draft):
        return True
    held = load_any(own)
    return isinstance(held, HeadsCheckpoint) and held.target == setting.target.name


def _bar(name: str) -> float | None:
    own = METHODS[name].draft
    if own and isinstance(load_any(own), HeadsCheckpoint):
        return HEADS_BAR
    return BARS.get(name)


def _decode(variant: Variant, workload: Workload) -> list[Result]:
    method = workload.method(variant)
    return method.work(method.setup())


def _row(
    setting: Setting,
    entry: Entry,
    base: Variant,
    workload: Workload,
    expected: list[np.ndarray],
) -> Row:
    """What there is to say of a method at a temperature."""
    variant, temperature = entry.variant, workload.temperature
    (result,) = decoded = _decode(variant, workload)
    found, counted = new_tokens(decoded), counts(decoded)
    drafter = variant.decoder.drafter
    accepted = jaxdec.acceptance_by_depth(result, drafter.depth).sum(0)
    exactness = variant.decoder.exactness
    lossless = exactness in LOSSLESS
    # The others draw the same law otherwise, or another one.
    same = exactness is Exactness.TOKEN_IDENTICAL or (lossless and not temperature)
    differences = first_differences(base, workload, found, expected) if same else None
    root = root_acceptance(setting, variant.decoder, result, temperature)
    return {
        "method": variant.name,
        "about": "",
        "exactness": exactness.value,
        "lossless": lossless,
        "temperature": temperature,
        "depth": drafter.depth,
        "nodes": drafter.nodes,
        "family": entry.family,
        "prompts": len(workload.prompts),
        "prompt_tokens": int(workload.prompts.lengths.sum()),
        "new_tokens": workload.new_tokens,
        **counted,
        "nodes_per_forward": counted["proposed"] / counted["target_forwards"],
        "draft_forwards_per_forward": counted["draft_forwards"] / counted["target_forwards"],
        "accepted_by_depth": accepted.tolist(),
        "acceptance_by_depth": [ratio(a, b) for a, b in zip(accepted[1:], accepted, strict=False)],
        "root_acceptance": ratio(accepted[1], accepted[0]),
        "root_expected": None if root is None else root[0],
        "root_optimal": None if root is None else root[1],
        "tokens_per_forward_error": error(result),
        "repeated": repeated(result, REPEATED),
        "identical": identical(found, expected) if same else None,
        "identical_rows": sum(map(np.array_equal, found, expected)) if same else None,
        "first_differences": differences,
        "bar": entry.bar,
    }


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of each method with its own nodes, at temperature 0."""
    found: dict[str, Figures] = {}
    for row in rows:
        if row["temperature"] == 0 and row["method"] in METHODS:
            found.setdefault(row["method"], Figures(row["tokens_per_forward"]))
    return found


def curves(rows: list[Row], temperature: float) -> dict[str, list[tuple[float, float]]]:
    """(nodes, tokens per forward) of each family that was run over budgets of nodes."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["temperature"] == temperature and row["family"]:
            found.setdefault(row["family"], []).append((row["nodes"], row["tokens_per_forward"]))
    return {family: sorted(points) for family, points in found.items()}


def chart(rows: list[Row]) -> Any:
    """A panel a temperature, a line a family; dashed, one draft a depth by the same small model."""
    from matplotlib.figure import Figure

    temperatures = sorted({row["temperature"] for row in rows})
    figure = Figure(figsize=(4.4 * len(temperatures), 3.4), layout="constrained")
    axes = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    for ax, temperature in zip(axes, temperatures, strict=True):
        plotting.node_budgets(curves(rows, temperature), ax=ax)
        (chain,) = (
            row["tokens_per_forward"]
            for row in rows
            if row["temperature"] == temperature and row["method"] == CHAINS[0]
        )
        ax.axhline(chain, color="#666666", lw=0.8, ls="--", label="chain", zorder=0)
        ax.set_title(f"temperature {temperature:g}")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    axes[0].set_ylim(bottom=1)
    for ax in axes:
        plotting.label_lines(ax)
    for ax in axes[1:]:
        ax.set_ylabel("")
    return figure


CASE = Case(
    name="speculation",
    order=5,
    about=(
        "Every drafter under its verifiers, and tokens a target forward over the nodes of a tree. Held-out Python; no "
        "clock. All prompts are rows of one batch; rows are independent, so that the counts are those of batch 1. Rows "
        "of the shared-noise walk are compared with plain decoding token for token."
    ),
    models=CAUSAL,
    columns=(
        TEMPERATURE,
        METHOD,
        ("nodes", word("nodes")),
        ("depth", word("depth")),
        ("tokens/forward", plus_minus("tokens_per_forward", ".2f")),
        ("bar", number("bar", ".1f")),
        ("acceptance by depth", depths),
        ("first node", number("root_acceptance", ".3f")),
        ("of laws", number("root_expected", ".3f")),
        ("at most", number("root_optimal", ".3f")),
        ("repeated 16-grams", number("repeated", ".0%")),
        IDENTICAL,
        ("nodes/forward", number("nodes_per_forward", ".1f")),
        ("draft forwards/forward", number("draft_forwards_per_forward", ".1f")),
        ("differs from plain in", differences),
        EXACTNESS,
    ),
    legend=(
        "*method*: of the catalogue by name, a family of drafters and, unless it is the shared-noise walk, a verifier; "
        "*comb*: a greedy chain, and beside each of its nodes the next best tokens. *acceptance by depth*: of the "
        "steps that accepted a path of d - 1 nodes, the share that accepted d. *first node*: the share of steps that "
        "accepted one; *of laws*: the same at those steps with siblings drawn anew; *at most*: what the best verifier "
        "would reach (2502.18779) on the same draws. *tokens/forward*: give or take one standard error over the "
        "prompts. *repeated 16-grams*: the share of the new tokens that end 16 tokens which stand earlier in prompt or "
        "output: what methods that look up gain on text that repeats itself. *editing*: the text is not the model's "
        "own but an edited version of the prompt, in which the most frequent name is another and a line is gone: what "
        "copies are for."
    ),
    labels=("temperature", "method", "nodes"),
    run=run,
    chart=chart,
    figures=figures,
)
