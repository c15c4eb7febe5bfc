"""Traced settings compile nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import numpy as np

from jaxdec.decoding import Decoder
from jaxdec.testing.battery.requests import LENGTHS, PROMPTS, VOCAB, Factory, generate, pair


@dataclasses.dataclass(frozen=True)
class Counted:
    """A decoder whose step raises when it is traced more than once."""

    decoder: Decoder
    traced: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def step(self, params, state, rng):
        """The counted step."""
        return self.traced(params, state, rng)


def check_compiled_once(make: Factory) -> None:
    """A sweep over every traced setting and over prompt lengths in a bucket traces the step once."""
    model, params = pair()
    decoder = make(model, model)
    again = make(model, model)
    assert decoder == again and hash(decoder) == hash(again), (
        "two decoders with equal parts differ, so that each would be compiled anew"
    )
    chex.clear_trace_counter()
    counted = Counted(decoder, chex.assert_max_traces(decoder.step, n=1))
    for knob, eos, budget in [(0.0, 6, 20), (0.5, 5, 32), (1.0, 0, 5)]:
        for width in (6, 3, 1):
            generate(
                counted,  # type: ignore[arg-type]
                params,
                prompt=PROMPTS[:, :width],
                lengths=np.minimum(LENGTHS, width),
                max_new_tokens=budget,
                eos=[eos],
                stop=[[1, eos]],
                temperature=2 * knob,
                top_k=int(7 * knob),
                top_p=1 - knob / 2,
                min_p=knob / 50,
                typical=1 - knob / 4,
                epsilon=knob / 100,
                top_h=1 - knob / 4,
                repetition_penalty=1 + knob,
                presence_penalty=knob,
                frequency_penalty=-knob / 5,
                logit_bias=np.full(VOCAB, knob),
                banned=np.arange(VOCAB) == int(4 * knob),
            )
