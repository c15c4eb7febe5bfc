"""Speculative decoding: a product of drafters and verifiers on one loop."""

from jaxdec.speculative import drafters, growth, verifiers
from jaxdec.speculative.adaptive import Adaptive, adaptive
from jaxdec.speculative.contract import Context, Drafter, StepResult, Verdict, Verifier
from jaxdec.speculative.explain import Explained, explain
from jaxdec.speculative.growth import Growth, grow
from jaxdec.speculative.loop import Speculative, SpeculativeState, speculative
from jaxdec.speculative.tree import DraftTree, RankTree

__all__ = [
    "Adaptive",
    "Context",
    "DraftTree",
    "Drafter",
    "Explained",
    "Growth",
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
    "speculative",
    "verifiers",
]
