"""Blocks that end at delimiters: against a plain loop, and what they become at the ends of their knobs."""

import jax
import numpy as np
import pytest

from jaxdec import decoding, generation
from jaxdec.diffusion import denoise, refresh, schedules
from tests.diffusion.canvas_twin import above, laws
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    decode,
    oracle,
    same,
    texts,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
DELIMITERS, MOST = (1, 4, 6), 9
SIZES, LEAST = np.array([3, 5, 4]), np.array([0.5, 0.35, 0.9])
THRESHOLD = 0.6


def twin(row):
    """Tokens and the sizes of blocks of a row, by the published rule."""
    start, budget = int(LENGTHS[row]), int(BUDGET[row])
    canvas = [*PROMPTS[row, :start].tolist(), *[None] * budget]
    end, sizes, steps = start, [], 0
    while None in canvas:
        law, frontier = laws(canvas), canvas.index(None)
        if frontier >= end:
            window = range(frontier, min(frontier + MOST, len(canvas)))
            delimiters = [i for i in window if int(law[i].argmax()) in DELIMITERS]
            end = min(frontier + int(SIZES[row]), len(canvas))
            if delimiters:
                best = max(delimiters, key=lambda i: (law[i].max(), -i))
                if law[best].max() >= LEAST[row]:
                    end = best + 1
            sizes.append(end - frontier)
        open_ = [i for i in range(frontier, end) if canvas[i] is None]
        for i in above(law, open_, THRESHOLD):
            canvas[i] = int(law[i].argmax())
        steps += 1
    return canvas, sizes, steps


def test_a_plain_loop():
    model, params = oracle()
    decoder = denoise(model, schedule=schedules.semantic_blocks(DELIMITERS, 3, most=MOST))
    knobs = dict(threshold=THRESHOLD, default_block=SIZES, delimiter_threshold=LEAST)
    params = {"target": params}
    request = generation.prepare(
        decoder,
        params,
        PROMPTS,
        lengths=LENGTHS,
        max_new_tokens=BUDGET,
        temperature=0.0,
        eos=(),
        **knobs,
    )
    state = decoding.init(decoder, params, request)
    state, record = decoding.run(decoder, params, state, jax.random.key(0))
    groups, result = np.asarray(state.canvas.groups), generation.result(state, record)
    cut_short = 0
    for row in range(3):
        canvas, sizes, steps = twin(row)
        assert texts(result)[row] == canvas
        own = groups[row, LENGTHS[row] : len(canvas)]
        assert np.bincount(own).tolist() == sizes
        assert int(result.stats.target_forwards[row]) == steps
        cut_short += sum(size != SIZES[row] for size in sizes[:-1])
    assert cut_short > 2


@pytest.mark.slow
def test_no_delimiter_is_likely_enough():
    """Blocks of the default size, and each row has its own; caches go by them too."""
    model, params = oracle(True)
    make = lambda schedule: denoise(model, schedule=schedule, refresh=refresh.dual())
    options = dict(threshold=0.4, temperature=0.9)
    plain = decode(make(schedules.blocks(8)), {"target": params}, **options)
    semantic = make(schedules.semantic_blocks(range(8), 5, most=8, threshold=2.0))
    same(plain, decode(semantic, {"target": params}, default_block=8, **options))
    mixed = decode(semantic, {"target": params}, default_block=[8, 5, 1], **options)
    assert texts(mixed)[0] == texts(plain)[0] and texts(mixed)[1] != texts(plain)[1]
    assert int(mixed.stats.target_forwards[2]) == BUDGET[2]


@pytest.mark.slow
def test_exact_caches_change_nothing():
    model, params = transformer()
    schedule = schedules.semantic_blocks((0, 2, 3), 3, threshold=0.2, within=8, from_start=True)
    make = lambda rule: denoise(model, schedule=schedule, attention="causal", refresh=rule)
    options = dict(threshold=0.4, temperature=0.9)
    plain = decode(make(refresh.none()), {"target": params}, **options)
    same(plain, decode(make(refresh.block()), {"target": params}, **options))
    same(plain, decode(make(refresh.sub_block(1)), {"target": params}, **options))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.semantic_blocks([]), r"at least one, got \[\]"),
        (lambda: schedules.semantic_blocks([3, -1]), "from 0 on, got -1"),
        (lambda: schedules.semantic_blocks([0.5]), r"each an integer, got \[0.5\]"),
        (lambda: schedules.semantic_blocks([1], 0), "1 to 128 positions, got a size of 0"),
        (lambda: schedules.semantic_blocks([1], 9, within=8), "1 to 8 positions, got a size of 9"),
        (
            lambda: denoise(
                oracle()[0], schedule=schedules.semantic_blocks([1]), attention="causal"
            ),
            "reach over their ends; give it `within`",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
