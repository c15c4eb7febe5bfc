"""Compares the slot engine on a mesh of eight CPU devices with requests alone; prints what differs as JSON.

A process of its own: see `tests.parallel.virtual`.
"""

from tests.parallel import virtual  # isort: skip

import numpy as np

from jaxdec import parallel
from jaxdec.generation.requests import Call, Engine
from tests.parallel import placed_cases

DRAW = np.random.default_rng(5)


def calls(gaps):
    """Ragged requests of a network of 64 tokens."""
    found = []
    for number in range(10):
        length = int(DRAW.integers(1, 9))
        knobs = {"temperature": [0.0, 0.9][number % 2]}
        if gaps:
            visible = np.arange(length + 3) % 2 == 0
            tokens = DRAW.integers(0, 60, length + 3)
            found.append(Call(tokens, rng=number, visible=visible, knobs=knobs, tag=number))
            continue
        budget = int(DRAW.integers(1, 9))
        prompt = DRAW.integers(0, 60, length)
        found.append(
            Call(prompt, rng=number, max_new_tokens=budget, eos=(), knobs=knobs, tag=number)
        )
    return found


def served(decoder, params, asked, place, **settings):
    engine = Engine(
        decoder,
        params,
        slots=4,
        places=8,
        chunk=4,
        max_prompt=9,
        max_new_tokens=9,
        gaps=asked[0].visible is not None,
        placement=place,
        temperature=1.0,
        **settings,
    )
    return {each.call.tag: each for each in engine.serve(asked, steps=3)}


def on_a_mesh(name, **sizes):
    """Tokens and statuses of the same requests on one device and on several."""
    params, decoders = placed_cases.over_networks()
    asked = calls(gaps=name == "infill")
    expected = served(decoders[name], params, asked, None)
    prefixes = [asked[0].prompt[:3]] if name in ("plain", "tree") else []
    place = parallel.placement(**sizes)
    got = served(decoders[name], params, asked, place, prefixes=prefixes)
    if sorted(got) != sorted(expected):
        return [f"completed {sorted(got)}"]
    return [
        f"request {tag}"
        for tag, each in expected.items()
        if each.tokens.tolist() != got[tag].tokens.tolist() or each.status is not got[tag].status
    ]


def refusals():
    """Slots, places and the ring divide over lanes."""
    params, decoders = placed_cases.over_networks()
    place = parallel.placement(data=4)
    wrong = []
    for settings, message in (
        ({"slots": 6}, "6 slots do not divide over 4 devices"),
        ({"slots": 4, "places": 7}, "7 places do not divide over 4 devices"),
        ({"slots": 4, "ring": 2}, "2 ring do not divide over 4 devices"),
    ):
        try:
            Engine(decoders["plain"], params, placement=place, **settings)
            wrong.append(f"{settings} is taken")
        except ValueError as error:
            if message not in str(error):
                wrong.append(str(error))
    return wrong


CASES = {
    "plain; data 4": (lambda: on_a_mesh("plain", data=4),),
    "plain; data 2, model 2, sequence 2": (
        lambda: on_a_mesh("plain", data=2, model=2, sequence=2),
    ),
    "tree; data 2, model 2": (lambda: on_a_mesh("tree", data=2, model=2),),
    "canvas; data 2": (lambda: on_a_mesh("canvas", data=2),),
    "infill; data 2, model 4": (lambda: on_a_mesh("infill", data=2, model=4),),
    "refusals": (refusals,),
}


if __name__ == "__main__":
    virtual.report(CASES)
