"""Tokens that are written again in place: against a plain loop, and what stays as it is."""

import numpy as np
import pytest

from jaxdec.diffusion import denoise, editing, refresh, schedules, unmask
from tests.diffusion.canvas_twin import above, laws
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    decode,
    forwards,
    oracle,
    same,
    texts,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE, KNOBS = (
    8,
    dict(
        threshold=np.array([0.5, 0.6, 0.4]),
        edit_threshold=np.array([0.5, 0.4, 0.7]),
        edit_steps=np.array([2, 5, 9]),
    ),
)


def twin(row):
    """Tokens, forwards, edits beside masks and steps of edits alone, by the published rule."""
    start, own = int(LENGTHS[row]), {name: values[row].item() for name, values in KNOBS.items()}
    canvas = [*PROMPTS[row, :start].tolist(), *[None] * int(BUDGET[row])]
    forwards, edited, alone = 0, 0, 0
    for first in range(start, len(canvas), SIZE):
        block = range(first, min(first + SIZE, len(canvas)))
        spent, changed = 0, True
        while None in canvas[first : first + SIZE] or (changed and spent < own["edit_steps"]):
            law = laws(canvas)
            forwards += 1
            open_ = [i for i in block if canvas[i] is None]
            spent += not open_
            best = {i: int(law[i].argmax()) for i in block}
            edits = [
                i
                for i in block
                if i not in open_ and best[i] != canvas[i] and law[i].max() > own["edit_threshold"]
            ]
            chosen = above(law, open_, own["threshold"]) if open_ else []
            for i in [*edits, *chosen]:
                canvas[i] = best[i]
            changed = bool(edits or chosen)
            edited, alone = edited + len(edits) * bool(open_), alone + (not open_)
    return canvas, forwards, edited, alone


def test_a_plain_loop():
    model, params = oracle()
    decoder = denoise(
        model, schedule=schedules.blocks(SIZE), unmask=unmask.threshold(), remask=editing()
    )
    found = decode(decoder, {"target": params}, temperature=0.0, **KNOBS)
    seen = np.zeros(2, int)
    for row in range(3):
        text, steps, *often = twin(row)
        assert texts(found)[row] == text, row
        assert forwards(found)[row] == steps
        seen += often
    assert (seen > 5).all()


@pytest.mark.slow
def test_where_nothing_is_likely_enough_it_is_the_policy_alone():
    model, params = oracle()
    decoder = denoise(
        model, schedule=schedules.blocks(SIZE), unmask=unmask.threshold(), remask=editing()
    )
    plain = denoise(model, schedule=schedules.blocks(SIZE), unmask=unmask.threshold())
    options = dict(temperature=0.0, threshold=KNOBS["threshold"])
    still = decode(decoder, {"target": params}, edit_threshold=1.0, edit_steps=0, **options)
    same(still, decode(plain, {"target": params}, **options))


@pytest.mark.slow
def test_exact_caches_change_nothing():
    """A block that is full stays the active one while it is edited, in caches too."""
    model, params = transformer()
    blocks = dict(schedule=schedules.blocks(8, from_start=True), attention="causal")
    make = lambda rule: denoise(
        model, unmask=unmask.threshold(0.3), remask=editing(0.2, 3), refresh=rule, **blocks
    )
    plain = decode(make(refresh.none()), {"target": params}, temperature=0.8)
    same(plain, decode(make(refresh.block()), {"target": params}, temperature=0.8))


def test_bad_settings():
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        editing(steps=-1)
