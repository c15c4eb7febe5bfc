"""Canvases that grow: DAEDAL against a plain loop, and what it becomes at the ends of its knobs."""

import numpy as np
import pytest

from jaxdec.decoding import Status
from jaxdec.diffusion import daedal, denoise, refresh, schedules, unmask
from tests.diffusion.canvas_twin import above, laws
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    VOCAB,
    decode,
    forwards,
    oracle,
    texts,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
EOS = 3
KNOBS = dict(
    start_length=np.array([6, 5, 9]),
    added=np.array([3, 2, 4]),
    end_window=np.array([3, 2, 4]),
    start_confidence=np.array([0.2, 0.35, 0.1]),
    end_confidence=np.array([2.0, 1.0, 0.9]),
    expand_below=np.array([0.6, 0.5, 0.6]),
    block=np.array([4, 3, 7]),
    threshold=np.array([0.6, 0.5, 0.9]),
)


def make(policy=None, **options):
    inner = unmask.in_blocks(policy or unmask.threshold())
    return denoise(oracle()[0], unmask=inner, grow=daedal(**options))


def twin(row):
    """Tokens, the forwards, and how often a mask was expanded and the end cut off, by the published rule."""
    own = {name: values[row].item() for name, values in KNOBS.items()}
    start, most = int(LENGTHS[row]), int(LENGTHS[row] + BUDGET[row])
    canvas = [*PROMPTS[row, :start].tolist(), *[None] * own["start_length"]]
    canvas, steps, expanded, cut = canvas[:most], 0, 0, 0

    def confidence(law):
        ends = [i for i in range(start, len(canvas)) if int(law[i].argmax()) == EOS]
        return sum(law[i].max() for i in ends[::-1][: own["end_window"]]) / own["end_window"]

    while True:
        steps += 1
        if confidence(laws(canvas)) >= own["start_confidence"] or len(canvas) == most:
            break
        canvas = (canvas + [None] * own["added"])[:most]
    canvas = (canvas + [EOS] * max(own["end_window"] // 2, 1))[:most]
    while None in canvas[: canvas.index(EOS, start) if EOS in canvas[start:] else most]:
        law = laws(canvas)
        steps += 1
        block = (canvas.index(None) - start) // own["block"]
        window = [i for i in range(start, len(canvas)) if (i - start) // own["block"] == block]
        open_ = [i for i in window if canvas[i] is None]
        chosen = above(law, open_, own["threshold"])
        sure = confidence(law)
        for i in chosen:
            canvas[i] = int(law[i].argmax())
        left = [i for i in open_ if i not in chosen and law[i].max() < own["expand_below"]]
        if sure < own["end_confidence"] and len(canvas) < most and left:
            at = min(left, key=lambda i: (law[i].max(), i))
            canvas[at : at + 1] = [None] * own["added"]
            expanded, cut = expanded + 1, cut + (len(canvas) > most)
            canvas = canvas[:most]
    text = canvas[start:]
    text = text[: text.index(EOS) + 1] if EOS in text else text
    return [*canvas[:start], *text], steps, expanded, cut


def test_a_plain_loop():
    found = decode(make(), {"target": oracle()[1]}, temperature=0.0, eos=[EOS], **KNOBS)
    changes = np.zeros(2, int)
    for row in range(3):
        text, steps, *often = twin(row)
        assert texts(found)[row] == text, row
        assert forwards(found)[row] == steps
        changes += often
    assert (changes > 0).all()


@pytest.mark.slow
def test_at_rest_it_is_decoding_of_so_many_masks():
    """No confidence asked for and nothing below 0: a canvas of the first length, and end tokens behind."""
    rare = np.where(np.arange(VOCAB) == EOS, -99.0, 0.0)
    still = dict(start_confidence=0.0, expand_below=0.0, block=8, end_window=4, steps=0)
    decoder, params = make(unmask.quota("random")), {"target": oracle()[1]}
    options = dict(start_length=[12, 17, 40], eos=[EOS], logit_bias=rare, **still)
    found = decode(decoder, params, **options)
    budgets = np.minimum([12, 17, 40], BUDGET)
    assert forwards(found) == (budgets + 1).tolist()
    assert found.status == [Status.EOS, Status.LENGTH, Status.LENGTH]
    assert np.asarray(found.lengths).tolist() == (LENGTHS + budgets + [1, 0, 0]).tolist()
    # Where no end token may be written, the canvas first grows to its limit.
    banned = decode(decoder, params, banned=np.arange(VOCAB) == EOS, **options)
    assert banned.status == [Status.LENGTH] * 3
    assert (np.asarray(forwards(banned)) > BUDGET).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: daedal(0), "start_length must be at least 1, got 0"),
        (lambda m: daedal(block=0), "block must be at least 1, got 0"),
        (lambda m: denoise(m, grow=daedal(), branches=2), "has one branch, got 2"),
        (lambda m: denoise(m, grow=daedal(), refresh=refresh.dual()), "has no cache, got Dual"),
        (
            lambda m: denoise(m, grow=daedal(), schedule=schedules.blocks(4)),
            r"one group, schedules\.whole\(\), got Blocks: .* unmask\.in_blocks",
        ),
        (lambda m: denoise(m, grow=unmask.threshold()), "kind Grow, got Threshold"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make(oracle()[0])
