"""Speculative decoding: a product of drafters and verifiers on one loop."""

from jaxdec.speculative import drafters, growth, lengths, verifiers
from jaxdec.speculative.adaptive import Adaptive, AdaptiveState, adaptive
from jaxdec.speculative.continuous import (
    Gaussian,
    Judged,
    chain_volume,
    continuous_ratio,
    keeping,
    log_acceptance,
    reflected,
)
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
    "Gaussian",
    "Growth",
    "Judged",
    "LengthRule",
    "LoadCosts",
    "RankTree",
    "Speculative",
    "SpeculativeState",
    "StepResult",
    "Verdict",
    "Verifier",
    "adaptive",
    "chain_volume",
    "continuous_ratio",
    "drafters",
    "explain",
    "grow",
    "growth",
    "keeping",
    "lengths",
    "log_acceptance",
    "reflected",
    "speculative",
    "verifiers",
]
