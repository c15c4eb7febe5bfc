"""Verifiers: which drafts are kept. Each is a law that is proved exact and a sampler of that law."""

from jaxdec.speculative.verifiers.block_verification import (
    BlockVerification,
    block_law,
    last_success,
)
from jaxdec.speculative.verifiers.k_seq import KSeq, kseq_law
from jaxdec.speculative.verifiers.law import RatioVerifier, TreeLaw, residual
from jaxdec.speculative.verifiers.optimal_acceptance import optimal_acceptance
from jaxdec.speculative.verifiers.recursive_rejection import RecursiveRejection, recursive_law
from jaxdec.speculative.verifiers.shared_noise_walk import SharedNoiseWalk
from jaxdec.speculative.verifiers.token_ratio import TokenRatio, first_failure, token_law
from jaxdec.speculative.verifiers.typical_acceptance import TypicalAcceptance

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
