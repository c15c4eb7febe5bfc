"""Sequences split over devices against one device; prints the differences of each case as JSON.

A process of its own: see `tests.parallel.virtual`.
"""

from tests.parallel import virtual  # isort: skip

import sys

from tests.parallel import attention_cases, cache_cases, prompt_cases

SUBJECTS = attention_cases, cache_cases, prompt_cases


def joined(sets):
    """All cases, whose names differ."""
    names = [name for cases in sets for name in cases]
    assert len(set(names)) == len(names)
    return {name: case for cases in sets for name, case in cases.items()}


CASES = joined([subject.CASES for subject in SUBJECTS])
SLOW = joined([subject.SLOW for subject in SUBJECTS])

if __name__ == "__main__":
    virtual.report(SLOW if "slow" in sys.argv else CASES)
