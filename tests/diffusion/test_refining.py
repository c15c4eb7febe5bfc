"""Tokens that are predicted again while others are committed: against a plain loop, and what stays as it is."""

import math

import numpy as np
import pytest

from jaxdec.diffusion import denoise, refining, schedules, unmask
from tests.diffusion.canvas_twin import laws
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, decode, forwards, oracle, same, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE = 8
KNOBS = dict(
    steps=np.array([4, 3, 4]),
    refined_share=np.array([1.0, 0.5, 0.34]),
    refine_from=np.array([0.0, 0.3, 0.5]),
)


def decoder():
    model, params = oracle()
    made = denoise(
        model,
        schedule=schedules.blocks(SIZE),
        unmask=unmask.quota("max_prob"),
        remask=refining(),
    )
    return made, {"target": params}


def surest(law, where):
    return sorted(where, key=lambda i: (-law[i].max(), i))


def twin(row):
    """Tokens, forwards, and how many tokens were written again."""
    start, own = int(LENGTHS[row]), {name: values[row].item() for name, values in KNOBS.items()}
    canvas = [*PROMPTS[row, :start].tolist(), *[None] * int(BUDGET[row])]
    forwards, again = 0, 0
    for first in range(start, len(canvas), SIZE):
        block = range(first, min(first + SIZE, len(canvas)))
        steps = min(own["steps"], len(block))
        for step in range(steps):
            law = laws(canvas)
            forwards += 1
            open_ = [i for i in block if canvas[i] is None]
            known = [i for i in block if i not in open_]
            count = len(block) // steps + (step < len(block) % steps)
            chosen = surest(law, open_)[:count]
            if len(known) >= math.ceil(np.float32(own["refine_from"]) * np.float32(len(block))):
                share = math.floor(np.float32(own["refined_share"]) * np.float32(len(known)))
                again += sum(canvas[i] != law[i].argmax() for i in surest(law, known)[:share])
                chosen += surest(law, known)[:share]
            for i in chosen:
                canvas[i] = int(law[i].argmax())
    return canvas, forwards, again


def test_a_plain_loop():
    found = decode(*decoder(), temperature=0.0, **KNOBS)
    written = []
    for row in range(3):
        text, steps, again = twin(row)
        assert texts(found)[row] == text, row
        assert forwards(found)[row] == steps
        written.append(again)
    assert sum(written) > 5 and written[0] > 0


@pytest.mark.slow
def test_a_share_of_nothing_is_the_policy_alone():
    made, params = decoder()
    plain = denoise(made.model, schedule=schedules.blocks(SIZE), unmask=unmask.quota("max_prob"))
    still = decode(made, params, temperature=0.0, refined_share=0.0)
    same(still, decode(plain, params, temperature=0.0))


def test_bad_settings():
    made, params = decoder()
    with pytest.raises(ValueError, match="refined_share must lie in"):
        decode(made, params, temperature=0.0, refined_share=1.5)
