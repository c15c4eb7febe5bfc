"""The cases, one a file: each module holds a `CASE`, found here and put in its order."""

import importlib
import pkgutil

from benchmarks.case import Case


def _found() -> dict[str, Case]:
    held = [
        importlib.import_module(f"{__name__}.{m.name}").CASE for m in pkgutil.iter_modules(__path__)
    ]
    places = [case.order for case in held]
    if len(set(places)) < len(places):
        raise ValueError(f"two cases have one place in the order: {sorted(places)}")
    return {case.name: case for case in sorted(held, key=lambda case: case.order)}


CASES = _found()
"""By name, in their order."""
