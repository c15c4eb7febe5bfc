"""Methods that decode several hypotheses a prompt; a module a subject, each with its `ROWS`."""

from jaxdec.catalogue.search import populations
from jaxdec.catalogue.search.selection import SELECTIONS

ROWS = [*populations.ROWS]

__all__ = ["ROWS", "SELECTIONS"]
