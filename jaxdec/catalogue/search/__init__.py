"""Methods that decode several hypotheses a prompt; a module a subject, each with its `ROWS`."""

from jaxdec.catalogue.search import populations

ROWS = [*populations.ROWS]

__all__ = ["ROWS"]
