"""Gates: whether a step that a draft model wrote is kept."""

from jaxdec.search.gates.advantage import PredictedAdvantage, predicted_advantage
from jaxdec.search.gates.conformal import Conformal, SegmentScores, conformal, p_value
from jaxdec.search.gates.contract import Gate, Judged, Reader
from jaxdec.search.gates.oracle import Advantage, advantage
from jaxdec.search.gates.reward import Rewarded, rewarded

__all__ = [
    "Advantage",
    "Conformal",
    "Gate",
    "Judged",
    "PredictedAdvantage",
    "Reader",
    "Rewarded",
    "SegmentScores",
    "advantage",
    "conformal",
    "p_value",
    "predicted_advantage",
    "rewarded",
]
