"""Every decoding method by name: what the command line offers and what the documentation lists.

`python -m jaxdec.catalogue` prints the table of methods in Markdown.
"""

from jaxdec.catalogue import any_subset, canvas, canvas_pairs, layers, search, speculation
from jaxdec.catalogue.canvas import REFRESH_RULES
from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.catalogue.search import SCORERS, SELECTIONS
from jaxdec.catalogue.speculation import FAMILIES, VERIFIERS
from jaxdec.catalogue.systems import SYSTEMS, System

__all__ = [
    "DENOISING",
    "FAMILIES",
    "INFILLING",
    "METHODS",
    "REFRESH_RULES",
    "SCORERS",
    "SEARCHING",
    "SELECTIONS",
    "SYSTEMS",
    "VERIFIERS",
    "Method",
    "Parts",
    "Sample",
    "System",
    "find",
    "markdown",
]

_CANVASES = [*canvas.ROWS, *canvas_pairs.ROWS]
METHODS = {
    row.name: row
    for row in [*speculation.ROWS, *layers.ROWS, *any_subset.ROWS, *_CANVASES, *search.ROWS]
}
INFILLING = tuple(row.name for row in any_subset.ROWS)
DENOISING = tuple(row.name for row in _CANVASES)
SEARCHING = tuple(row.name for row in search.ROWS if row.searches)


def find(family: str, verifier: str = "walk") -> Method:
    """The method of a family with a verifier.

    Raises:
      ValueError: if there is no such method; the message lists those that exist.
    """
    name = family if verifier == "walk" else f"{family}-{verifier}"
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; the methods are {', '.join(METHODS)}")
    return METHODS[name]


def markdown() -> str:
    """The table of methods."""
    lines = ["| method | exactness | tests | benchmark |", "|---|---|---|---|"]
    for method in METHODS.values():
        paper = f" ({method.paper})" if method.paper else ""
        benchmark = f"`{method.benchmark}`" if method.benchmark else "none"
        lines.append(
            f"| `{method.name}`: {method.title}{paper} | {method.exactness.value} "
            f"| `{method.tests}` | {benchmark} |"
        )
    return "\n".join(lines)
