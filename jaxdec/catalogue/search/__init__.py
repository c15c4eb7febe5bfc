"""Methods that decode several hypotheses a prompt; a module a subject, each with its `ROWS`."""

from jaxdec.catalogue.search import beams, constrained, populations, step_routing
from jaxdec.catalogue.search.populations import SCORERS
from jaxdec.catalogue.search.selection import SELECTIONS

ROWS = [*populations.ROWS, *step_routing.ROWS, *beams.ROWS, *constrained.ROWS]

__all__ = ["ROWS", "SCORERS", "SELECTIONS"]
