"""Populations: several hypotheses a prompt."""

from jaxdec.search import beam_rules
from jaxdec.search.beams import Beams, beams, diverse_beams, stochastic_beams
from jaxdec.search.hypotheses import Scores
from jaxdec.search.ngram_store import ngram_store
from jaxdec.search.superposed import NGrams, Superposed, superposed

__all__ = [
    "Beams",
    "NGrams",
    "Scores",
    "Superposed",
    "beam_rules",
    "beams",
    "diverse_beams",
    "ngram_store",
    "stochastic_beams",
    "superposed",
]
