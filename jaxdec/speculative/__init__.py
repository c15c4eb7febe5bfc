"""Speculative decoding: a product of drafters and verifiers on one loop."""

from jaxdec.speculative import drafters, growth, lengths, verifiers
from jaxdec.speculative.adaptive import Adaptive, AdaptiveState, adaptive
from jaxdec.speculative.contract import Context, Drafter, StepResult, Verdict, Verifier
from jaxdec.speculative.explain import Explained, explain
from jaxdec.speculative.growth import Growth, grow
from jaxdec.speculative.lengths import LengthRule, LoadCosts
from jaxdec.speculative.loop import Speculative, SpeculativeState, speculative
from jaxdec.speculative.tree import DraftTree, RankTree

__all__ = [
    "Adaptive",
    "AdaptiveState",
    "Context",
    "DraftTree",
    "Drafter",
    "Explained",
    "Growth",
    "LengthRule",
    "LoadCosts",
    "RankTree",
    "Speculative",
    "SpeculativeState",
    "StepResult",
    "Verdict",
    "Verifier",
    "adaptive",
    "drafters",
    "explain",
    "grow",
    "growth",
    "lengths",
    "speculative",
    "verifiers",
]
