"""Stops end a row at their own token."""

from jaxdec.decoding import Status
from jaxdec.testing.battery.requests import (
    EVERYTHING,
    LENGTHS,
    NEVER,
    Factory,
    generate,
    pair,
    texts,
)


def check_stops_inside_chunks(make: Factory) -> None:
    """EOS and stop sequences end a row at their own token, wherever in a chunk they fall."""
    model, params = pair()
    # The drafter is the target itself: chunks are accepted whole, and stops fall inside them.
    params = {**params, "draft": params["target"]}
    decoder = make(model, model)
    free = texts(generate(decoder, params, **{**EVERYTHING, "temperature": 0.0}))
    new = free[0][LENGTHS[0] :]
    never = EVERYTHING["stop"]
    for place in range(1, 12):
        eos, stop = new[place], new[place - 1 : place + 1]
        for sequence, options, status in (
            ([eos], dict(eos=[eos], stop=never), Status.EOS),
            (stop, dict(eos=[NEVER], stop=[stop, never[1]]), Status.STOP_SEQUENCE),
        ):
            ended = generate(decoder, params, **{**EVERYTHING, "temperature": 0.0, **options})
            n = len(sequence)
            ends = (end for end in range(n, len(new) + 1) if new[end - n : end] == sequence)
            expected = free[0][: LENGTHS[0] + next(ends)]
            assert texts(ended)[0] == expected, f"{options}: {texts(ended)[0]}, expected {expected}"
            assert ended.status[0] is status, f"{options}: {ended.status[0]}"
