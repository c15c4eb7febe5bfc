"""What the host knows of requests: where they are, how full the queue of each lane is, and what was not sent yet."""

import dataclasses
import queue
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import by_row
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.waiting import NOBODY, Waiting

PIECE = 8
"""Requests that are sent to the device at once, for each lane."""


@dataclasses.dataclass
class Live:
    """What the host remembers of a request until it is completed.

    Attributes:
      call: the request.
      sample: which of its samples.
      lane: where it waits or runs.
      order: the position of each rank, where gaps are filled.
      until: the moment of `time.monotonic` at which it is late; None for never.
      seen: tokens that `new_tokens` has given away, the prompt's included.
    """

    call: Call
    sample: int
    lane: int
    order: np.ndarray | None
    until: float | None
    seen: int


@dataclasses.dataclass
class Backlog:
    """Requests that wait, by lane.

    Attributes:
      lanes: groups of devices, each with a queue of its own.
      places: of each queue.
      waiting: ids in each queue, or on their way there.
      load: requests of each lane that are not completed.
      unsent: requests `[1]` that are on their way.
    """

    lanes: int
    places: int
    waiting: list[list[int]] = dataclasses.field(init=False)
    load: list[int] = dataclasses.field(init=False)
    unsent: list[list[Waiting]] = dataclasses.field(init=False)

    def __post_init__(self):
        self.waiting = [[] for _ in range(self.lanes)]
        self.unsent = [[] for _ in range(self.lanes)]
        self.load = [0] * self.lanes

    @property
    def room(self) -> int:
        """Requests that one lane can take."""
        return max(self.places - len(ids) for ids in self.waiting)

    def lane_for(self, requests: int) -> int:
        """The lane with the least to do that has room for some requests.

        Raises:
          queue.Full: if there is none.
        """
        if requests > self.places:
            raise ValueError(
                f"samples must be at most {self.places}, the places of a queue, got {requests}"
            )
        fits = [lane for lane, ids in enumerate(self.waiting) if len(ids) + requests <= self.places]
        if not fits:
            raise queue.Full(f"{self.places} requests wait already")
        return min(fits, key=lambda lane: (self.load[lane], len(self.waiting[lane])))

    def add(self, lane: int, name: int, waiting: Waiting) -> None:
        """Takes in a request."""
        self.unsent[lane].append(waiting)
        self.waiting[lane].append(name)
        self.load[lane] += 1

    def pieces(self) -> Iterator[Waiting]:
        """What was not sent yet, `PIECE` places for each lane at a time, so that all are of one shape."""
        while any(self.unsent):
            blank = next(rows[0] for rows in self.unsent if rows)
            blank = dataclasses.replace(blank, ids=np.full((1,), NOBODY, np.int32))
            rows: list[Waiting] = []
            for lane, unsent in enumerate(self.unsent):
                part, self.unsent[lane] = unsent[:PIECE], unsent[PIECE:]
                rows += part + [blank] * (PIECE - len(part))
            yield _stacked(rows)

    def seen(self, queued: np.ndarray) -> None:
        """Takes in what the queues hold now, ids `[lanes * places]`; everything was sent."""
        lanes = queued.reshape(self.lanes, -1)
        self.waiting = [[int(name) for name in lane if name != NOBODY] for lane in lanes]


def _stacked(rows: list[Waiting]) -> Waiting:
    """Requests of one place each, as one of several."""
    stops = rows[0].request.settings.stops
    bare = [by_row(row, lambda x: x, lambda _: None) for row in rows]

    def join(*own: Any) -> Any:
        return (jnp if isinstance(own[0], jax.Array) else np).concatenate(own)

    joined = jax.tree.map(join, *bare)
    settings = dataclasses.replace(joined.request.settings, stops=stops)
    return dataclasses.replace(
        joined, request=dataclasses.replace(joined.request, settings=settings)
    )
