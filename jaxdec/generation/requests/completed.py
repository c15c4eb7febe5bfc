"""What comes back of a request.

Legend: T tokens, the prompt's and generated ones.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxdec.decoding import Stats, Status
from jaxdec.generation.requests.backlog import Live
from jaxdec.generation.requests.call import Call
from jaxdec.generation.requests.state import Finished
from jaxdec.sampling import TopTokens


@dataclasses.dataclass(frozen=True)
class Completed:
    """A request that has ended; numpy arrays, in generation order (ranks, where gaps were filled).

    Attributes:
      id: as `submit` returned it.
      call: the request.
      sample: which of its samples.
      tokens: int32 `[T]`, prompt and generated tokens.
      prompt_length: tokens of the prompt.
      status: why it ended.
      log_probs: float32 `[T]` under the warped law, zero for the prompt; as in `Result`.
      raw_log_probs: float32 `[T]` under the model's own law.
      drafted: bool `[T]`.
      steps: int32 `[T]`, the row's step in which each token was chosen; -1 for the prompt.
      stats: counts, int each; None if it never got a slot.
      started: the engine's step at which it got a slot; -1 if it never did.
      ended: the engine's step at which it ended; -1 likewise.
      places: int32 `[L]`, the position of each rank, where gaps were filled; else None.
      top: the most probable tokens `[T, K]`, as in `Result`; None where none were asked for.
    """

    id: int
    call: Call
    sample: int
    tokens: np.ndarray
    prompt_length: int
    status: Status
    log_probs: np.ndarray
    raw_log_probs: np.ndarray
    drafted: np.ndarray
    steps: np.ndarray
    stats: Stats | None
    started: int
    ended: int
    places: np.ndarray | None = None
    top: TopTokens | None = None

    @property
    def new_tokens(self) -> np.ndarray:
        """Generated tokens, int32."""
        return self.tokens[self.prompt_length :]

    @property
    def sequence(self) -> np.ndarray:
        """Tokens by position, int32 `[L]`; where a gap was not filled, as the request gave it."""
        if self.places is None:
            return self.tokens
        found = np.array(self.call.prompt, np.int32)
        found[self.places[: len(self.tokens)]] = self.tokens
        return found


@dataclasses.dataclass(frozen=True)
class Refused:
    """A request that cannot be served.

    Attributes:
      call: the request.
      reason: the message of its `ValueError`.
    """

    call: Any
    reason: str


def completed(
    ring: Finished, place: int, call: Call, sample: int, order: np.ndarray | None
) -> Completed:
    """One request of the ring, whose arrays are on the host."""
    length = int(ring.lengths[place])
    host: Any = np.asarray
    columns = host(ring.record.columns)[place, :length]
    likely, laws = np.split(columns[:, 4:], 2, axis=-1)
    top = TopTokens(likely.astype(np.int32), laws) if likely.shape[-1] else None  # type: ignore[arg-type]
    stats = ring.record.stats
    own = {
        field.name: int(getattr(stats, field.name)[place]) for field in dataclasses.fields(Stats)
    }
    return Completed(
        id=int(ring.ids[place]),
        call=call,
        sample=sample,
        tokens=host(ring.tokens)[place, :length].copy(),
        prompt_length=int(ring.prompt_lengths[place]),
        status=Status(int(ring.status[place])),
        log_probs=columns[:, 0].copy(),
        raw_log_probs=columns[:, 1].copy(),
        drafted=columns[:, 2] > 0,
        steps=columns[:, 3].astype(np.int32) - 1,
        stats=Stats(**own),  # type: ignore[arg-type]
        started=int(ring.started[place]),
        ended=int(ring.ended[place]),
        places=order,
        top=top,
    )


def unstarted(name: int, live: Live, status: Status) -> Completed:
    """A request that was taken back before it got a slot: its prompt, or what is visible, and nothing else."""
    tokens = np.asarray(live.call.prompt, np.int32)
    if live.order is not None:
        tokens = tokens[live.order[: int(np.sum(live.call.visible))]]
    zeros = np.zeros(len(tokens), np.float32)
    return Completed(
        id=name,
        call=live.call,
        sample=live.sample,
        tokens=tokens,
        prompt_length=len(tokens),
        status=status,
        log_probs=zeros,
        raw_log_probs=zeros,
        drafted=zeros > 0,
        steps=np.full(len(tokens), -1, np.int32),
        stats=None,
        started=-1,
        ended=-1,
        places=live.order,
    )
