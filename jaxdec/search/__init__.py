"""Search: several hypotheses a prompt, which are scored, weighed, drawn again, or given up while they run.

Legend: B rows, P prompts, H hypotheses of a prompt.
"""

from jaxdec.search import gates, resampling, scorers, selection
from jaxdec.search.answers import Answers, extract_answers
from jaxdec.search.arbitrage import arbitrage
from jaxdec.search.atts import atts
from jaxdec.search.best_first import a_star
from jaxdec.search.contract import Boundary, Decision, Ending, Independent, Pool, Rule, Scorer
from jaxdec.search.deep_prune import deep_prune
from jaxdec.search.first_finish import first_finish, short_m_at_k
from jaxdec.search.particle_gibbs import REFERENCE, conditional_filter
from jaxdec.search.particles import particle_filter, smc
from jaxdec.search.population import Population, PopulationState, population
from jaxdec.search.segments import Segment, every_token, of_length, until, whole
from jaxdec.search.step_routing import RoutingState, StepRouting, step_routing

__all__ = [
    "REFERENCE",
    "Answers",
    "Boundary",
    "Decision",
    "Ending",
    "Independent",
    "Pool",
    "Population",
    "PopulationState",
    "RoutingState",
    "Rule",
    "Scorer",
    "Segment",
    "StepRouting",
    "a_star",
    "arbitrage",
    "atts",
    "conditional_filter",
    "deep_prune",
    "every_token",
    "extract_answers",
    "first_finish",
    "gates",
    "of_length",
    "particle_filter",
    "population",
    "resampling",
    "scorers",
    "selection",
    "short_m_at_k",
    "smc",
    "step_routing",
    "until",
    "whole",
]
