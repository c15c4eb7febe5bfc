"""Arguments of engines and requests, checked."""

from typing import Any, NamedTuple

import numpy as np

from jaxdec.decoding import integers
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.slot_engine import NO_LIMIT
from jaxdec.generation.requests.waiting import NEVER
from jaxdec.parallel import DATA
from jaxdec.sampling.limits import shown

LONGEST = 1e9
"""Seconds that a request may have, some thirty years."""


def divided(name: str, value: Any, lanes: int) -> int:
    """What each lane has of something."""
    value = int(integers(name, value, [()], low=1))
    if value % lanes:
        raise ValueError(f"{value} {name} do not divide over {lanes} devices of the axis {DATA!r}")
    return value // lanes


def reads_limit(reads: int | None) -> np.int32:
    """Chunks of prompts between two steps; None for no limit."""
    return NO_LIMIT if reads is None else np.int32(integers("reads", reads, [()], low=1))


class Manner(NamedTuple):
    """How a request is treated.

    Attributes:
      samples: of its prompt.
      priority: the higher goes first.
      deadline: steps from now on; None for no limit.
      timeout: seconds from now on; None for no limit.
    """

    samples: int
    priority: int
    deadline: int | None
    timeout: float | None


def manner(call: Any) -> Manner:
    """What a `Call` says of it.

    Raises:
      ValueError: for what is no `Call`, and for impossible values, naming them and the limit.
    """
    if not isinstance(call, Call):
        raise ValueError(f"a request must be a Call, got {type(call).__name__}")
    deadline = call.deadline
    if deadline is not None:
        deadline = int(integers("deadline", deadline, [()], low=0, high=NEVER // 2))
    return Manner(
        int(integers("samples", call.samples, [()], low=1)),
        int(integers("priority", call.priority, [()])),
        deadline,
        None if call.timeout is None else seconds(call.timeout),
    )


def seconds(value: Any) -> float:
    """A time to wait."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not 0 <= value <= LONGEST:
        raise ValueError(f"timeout must be seconds in [0, {LONGEST:g}], got {shown(value)}")
    return float(value)
