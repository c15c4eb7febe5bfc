"""Verifiers: which drafts are kept. Each is a law that is proved exact and a sampler of that law."""

from jaxdec.speculative.verifiers.optimal import optimal_acceptance
from jaxdec.speculative.verifiers.ratio import (
    BlockVerification,
    RatioVerifier,
    TokenRatio,
    TreeLaw,
    block_law,
    first_failure,
    last_success,
    residual,
    token_law,
)
from jaxdec.speculative.verifiers.trees import KSeq, RecursiveRejection, kseq_law, recursive_law
from jaxdec.speculative.verifiers.typical import TypicalAcceptance
from jaxdec.speculative.verifiers.walk import SharedNoiseWalk

__all__ = [
    "BlockVerification",
    "KSeq",
    "RatioVerifier",
    "RecursiveRejection",
    "SharedNoiseWalk",
    "TokenRatio",
    "TreeLaw",
    "TypicalAcceptance",
    "block_law",
    "first_failure",
    "kseq_law",
    "last_success",
    "optimal_acceptance",
    "recursive_law",
    "residual",
    "token_law",
]
