"""Pictures of decoding for notebooks; needs matplotlib, which is imported by the call (the extra `notebooks`)."""

from jaxdec.plotting.comparison import bars, bars_height
from jaxdec.plotting.curves import (
    acceptance_by_depth,
    label_lines,
    node_budgets,
    trade_off,
    verification_cost,
    voting_curves,
)
from jaxdec.plotting.hypotheses import hypothesis_tree, weight_history
from jaxdec.plotting.maps import LETTERED, commit_map, confidence_map
from jaxdec.plotting.trees import draft_tree

__all__ = [
    "LETTERED",
    "acceptance_by_depth",
    "bars",
    "bars_height",
    "commit_map",
    "confidence_map",
    "draft_tree",
    "hypothesis_tree",
    "label_lines",
    "node_budgets",
    "trade_off",
    "verification_cost",
    "voting_curves",
    "weight_history",
]
