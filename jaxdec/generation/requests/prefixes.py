"""Beginnings that several prompts share, such as a system prompt: read once, kept on the device."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdec.decoding import Request
from jaxdec.generation.requests import programs
from jaxdec.generation.requests.call import Call, Template
from jaxdec.generation.requests.slot_engine import SlotEngine
from jaxdec.generation.requests.state import EngineState
from jaxdec.model import Params
from jaxdec.parallel import Placement


@dataclasses.dataclass(frozen=True)
class Prefixes:
    """Beginnings of prompts that were read before; the first is empty."""

    tokens: tuple[tuple[int, ...], ...]

    def longest(self, request: Request) -> int:
        """The longest of them that the prompt of a request `[1, P]` begins with and goes on from."""
        if len(self.tokens) == 1:
            return 0
        prompt = request.prompt[0, : request.lengths[0] - 1].tolist()
        fits = [
            at for at, tokens in enumerate(self.tokens) if tuple(prompt[: len(tokens)]) == tokens
        ]
        return max(fits, key=lambda at: len(self.tokens[at]))


def read_prefixes(
    engine: SlotEngine,
    placement: Placement | None,
    params: Params,
    state: EngineState,
    template: Template,
    prefixes: Sequence[Sequence[int]],
) -> tuple[EngineState, Prefixes]:
    """The state with what was read of some beginnings, and which these are.

    Raises:
      ValueError: for a decoder whose prompts are read at once, and for beginnings that are no prompts.
    """
    if len(prefixes) and state.prefixes is None:
        raise ValueError(
            f"there are {len(prefixes)} prefixes, but prompts of this decoder see themselves whole and are read at once"
        )
    readings = [state.prefixes]
    for prefix in prefixes:
        request, _ = template.row(Call(prompt=prefix, max_new_tokens=0))
        given = request.prompt, request.lengths
        readings.append(programs.read_prefix(engine, placement, params, state, *given))
    if len(readings) > 1:
        state = dataclasses.replace(state, prefixes=programs.join(placement, readings))
    return state, Prefixes(((), *(tuple(np.asarray(prefix).tolist()) for prefix in prefixes)))
