"""Methods that decode several hypotheses a prompt; a module a subject, each with its `ROWS`."""

from jaxdec.catalogue.search import constrained, populations, step_routing
from jaxdec.catalogue.search.selection import SELECTIONS

ROWS = [*populations.ROWS, *step_routing.ROWS, *constrained.ROWS]

__all__ = ["ROWS", "SELECTIONS"]
