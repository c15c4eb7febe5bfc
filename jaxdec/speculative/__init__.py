"""Speculative decoding: a product of drafters and verifiers on one loop."""

from jaxdec.speculative import drafters, verifiers
from jaxdec.speculative import growth as growths
from jaxdec.speculative.adaptive import Adaptive, adaptive
from jaxdec.speculative.contract import Committed, Context, Drafter, Outcome, Verdict, Verifier
from jaxdec.speculative.explain import Explained, explain
from jaxdec.speculative.growth import Growth, grow
from jaxdec.speculative.loop import Speculative, SpeculativeState, speculative
from jaxdec.speculative.tree import DraftTree, RankTree

__all__ = [
    "Adaptive",
    "Committed",
    "Context",
    "DraftTree",
    "Drafter",
    "Explained",
    "Growth",
    "Outcome",
    "RankTree",
    "Speculative",
    "SpeculativeState",
    "Verdict",
    "Verifier",
    "adaptive",
    "drafters",
    "explain",
    "grow",
    "growths",
    "speculative",
    "verifiers",
]
