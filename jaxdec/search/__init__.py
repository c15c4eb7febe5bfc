"""Search: several hypotheses a prompt, which are scored, weighed, drawn again, or given up while they run.

Legend: B rows, P prompts, H hypotheses of a prompt.
"""

from jaxdec.search import beam_rules, gates, resampling, scorers, selection
from jaxdec.search.answers import Answers, extract_answers
from jaxdec.search.arbitrage import arbitrage
from jaxdec.search.atts import atts
from jaxdec.search.awrs import awrs
from jaxdec.search.beams import Beams, beams, diverse_beams, stochastic_beams
from jaxdec.search.best_first import a_star
from jaxdec.search.cautious import cautious
from jaxdec.search.contract import Boundary, Decision, Ending, Independent, Pool, Rule, Scorer
from jaxdec.search.deep_prune import deep_prune
from jaxdec.search.first_finish import first_finish, short_m_at_k
from jaxdec.search.hypotheses import Scores
from jaxdec.search.ngram_store import ngram_store
from jaxdec.search.particle_gibbs import REFERENCE, conditional_filter
from jaxdec.search.particles import particle_filter, smc
from jaxdec.search.population import Population, PopulationState, population
from jaxdec.search.segments import Segment, every_token, of_length, until, whole
from jaxdec.search.step_routing import RoutingState, StepRouting, step_routing
from jaxdec.search.superposed import NGrams, Superposed, superposed

__all__ = [
    "REFERENCE",
    "Answers",
    "Beams",
    "Boundary",
    "Decision",
    "Ending",
    "Independent",
    "NGrams",
    "Pool",
    "Population",
    "PopulationState",
    "RoutingState",
    "Rule",
    "Scorer",
    "Scores",
    "Segment",
    "StepRouting",
    "Superposed",
    "a_star",
    "arbitrage",
    "atts",
    "awrs",
    "beam_rules",
    "beams",
    "cautious",
    "conditional_filter",
    "deep_prune",
    "diverse_beams",
    "every_token",
    "extract_answers",
    "first_finish",
    "gates",
    "ngram_store",
    "of_length",
    "particle_filter",
    "population",
    "resampling",
    "scorers",
    "selection",
    "short_m_at_k",
    "smc",
    "step_routing",
    "stochastic_beams",
    "superposed",
    "until",
    "whole",
]
