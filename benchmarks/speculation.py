"""The case of drafters and verifiers: tokens a target forward, over methods and over nodes, with no clock."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

import jaxdec
from benchmarks.agreement import first_differences, ratio
from benchmarks.optimal import root_optimal
from benchmarks.setting import Row, Setting, plain
from benchmarks.workload import Variant, Workload
from jaxdec import growth
from jaxdec.catalogue import METHODS
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import HeadsCheckpoint, load_any
from jaxdec.decoding import Exactness
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.speculative.tree import RankTree

CHAINS = ("draft", "lookup")
"""Families that have cases of their own, to compare with."""
BUDGET = 64
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


def speculation(setting: Setting) -> list[Row]:
    """Every drafter under its verifiers, and tokens a target forward over the nodes of a tree.

    Held-out Python; no clock. All prompts are rows of one batch; rows are independent, so that the counts are those of
    batch 1. Rows of the shared-noise walk are compared with plain decoding token for token.
    """
    scale, rows = setting.scale, []
    held = setting.prompts(scale.speculated)
    base = plain(setting.target.model, setting.target.params)
    found = entries(setting)
    for temperature in scale.temperatures:
        workload = Workload(held, scale.speculated, scale.tokens, temperature)
        expected = new_tokens(_decode(base, workload))
        here = [_row(setting, entry, base, workload, expected) for entry in found]
        trees = [row for row in here if row["nodes"] > row["depth"] and row["lossless"]]
        trees = [row for row in trees if row["nodes"] <= BUDGET]
        if trees:
            best = max(trees, key=lambda row: row["tokens_per_forward"])
            best |= {"about": f"best tree within {BUDGET} nodes", "bar": TREE_BARS.get(temperature)}
        rows += here
    return rows


def entries(setting: Setting) -> list[Entry]:
    """What is run: the methods of the catalogue, some of them over budgets of nodes, and a comb, the crudest tree."""
    scale = setting.scale
    names = [name for name, method in METHODS.items() if method.benchmark == "speculation"]
    names = [name for name in [*CHAINS, *names] if _fits(setting, name)][: scale.speculations]
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


def build(
    setting: Setting, name: str, length: int | None = None, nodes: int | None = None, target=None
) -> Variant:
    """A method of the catalogue, for the case's target or for another one with its vocabulary."""

    def load(checkpoint: str):
        return setting.draft if checkpoint == METHODS["draft"].draft else load_any(checkpoint)

    target = setting.target if target is None else target
    decoder, params = assemble(METHODS[name], target, length=length, nodes=nodes, load=load)
    return Variant(name, decoder, params, decoder.width - 1)


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


def _fits(setting: Setting, name: str) -> bool:
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
    lossless = exactness in (Exactness.TOKEN_IDENTICAL, Exactness.DISTRIBUTION_IDENTICAL)
    # The others draw the same law otherwise, or another one.
    same = exactness is Exactness.TOKEN_IDENTICAL or (lossless and not temperature)
    differences = first_differences(base, workload, found, expected) if same else None
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
        "root_optimal": root_optimal(setting, drafter, result, temperature),
        "identical": identical(found, expected) if same else None,
        "identical_rows": sum(map(np.array_equal, found, expected)) if same else None,
        "first_differences": differences,
        "bar": entry.bar,
    }
