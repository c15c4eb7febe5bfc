"""Arguments of engines and requests, checked."""

from typing import Any

import numpy as np

from jaxdec.decoding import integers
from jaxdec.generation.requests.slot_engine import NO_LIMIT
from jaxdec.parallel import DATA


def divided(name: str, value: Any, lanes: int) -> int:
    """What each lane has of something."""
    value = int(integers(name, value, [()], low=1))
    if value % lanes:
        raise ValueError(f"{value} {name} do not divide over {lanes} devices of the axis {DATA!r}")
    return value // lanes


def reads_limit(reads: int | None) -> np.int32:
    """Chunks of prompts between two steps; None for no limit."""
    return NO_LIMIT if reads is None else np.int32(integers("reads", reads, [()], low=1))


def seconds(value: Any) -> float:
    """A time to wait."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
        raise ValueError(f"timeout must be seconds >= 0, got {value!r}")
    return float(value)
