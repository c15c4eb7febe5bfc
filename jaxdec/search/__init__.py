"""Several hypotheses a prompt, and constrained sampling with exact weights."""

from jaxdec.search.awrs import Awrs, awrs

__all__ = ["Awrs", "awrs"]
