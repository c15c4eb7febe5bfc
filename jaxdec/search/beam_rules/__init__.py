"""Beam rules: which continuations of a prompt's hypotheses go on, each in a file of its own."""

from jaxdec.search.beam_rules.contract import BeamRule, Choice, Continuations, best_of
from jaxdec.search.beam_rules.diverse import Diverse
from jaxdec.search.beam_rules.most_probable import MostProbable
from jaxdec.search.beam_rules.stochastic import (
    WithoutReplacement,
    conditioned,
    importance,
    inclusion,
    inclusion_probabilities,
    log1mexp,
)

__all__ = [
    "BeamRule",
    "Choice",
    "Continuations",
    "Diverse",
    "MostProbable",
    "WithoutReplacement",
    "best_of",
    "conditioned",
    "importance",
    "inclusion",
    "inclusion_probabilities",
    "log1mexp",
]
