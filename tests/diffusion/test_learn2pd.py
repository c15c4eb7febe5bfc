"""Learn2PD: a filter beside a quota, and canvases that are cut off behind the end that the model sees."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import denoise, end_of_text, schedules, unmask
from jaxdec.diffusion.unmask.learn2pd import in_windows
from jaxdec.model import PositionHead, Sureness
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.policy_twins import ROWS, Board, places_of
from tests.diffusion.canvas_twin import laws
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    decode,
    forwards,
    oracle,
    same,
    texts,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE = 8


def reads(window):
    """A head of a linear map of the block; params are its matrix and offsets."""
    return PositionHead(
        lambda p, seen: jnp.where(seen.there, seen.confidence, 1.0) @ p[0] + p[1], window
    )


def test_blocks_are_read_from_their_first_position_on():
    generator = np.random.default_rng(0)
    matrix, offsets = generator.normal(size=(4, 4)), generator.normal(size=4)
    sure, there = generator.random((2, 11)), np.zeros((2, 11), bool)
    there[0, 2:9] = there[1, 0:3] = True
    seen = Sureness(*map(jnp.asarray, (sure, there, there, np.ones(2))))
    found = np.asarray(in_windows(reads(4), (matrix, offsets), seen))
    for row, (start, stop) in enumerate([(2, 9), (0, 3)]):
        for piece in range(start, stop, 4):
            inside = [sure[row, i] if i < stop else 1.0 for i in range(piece, piece + 4)]
            expected = inside @ matrix + offsets
            for i in range(piece, min(piece + 4, stop)):
                assert found[row, i] == pytest.approx(expected[i - piece], rel=1e-5)


def test_what_the_filter_passes_beside_the_quota():
    board = Board(7, 6, seed=2)
    seen, rows = board.look()
    matrix, offsets = np.random.default_rng(1).normal(size=(7, 7)), np.zeros(7)
    head, limits = reads(7), np.linspace(0.2, 1.0, ROWS)
    steps = np.arange(ROWS) % 4
    knobs = {"filter_threshold": jnp.asarray(limits, jnp.float32), "steps": jnp.asarray(steps)}
    found, _ = unmask.learn2pd(head).choose((matrix, offsets), seen, None, knobs)
    quota, passed = twins.quota("max_prob", "even"), 0
    for b, row in enumerate(rows):
        sure = [
            row.score("max_prob", i) if i in {*row.allowed, *row.committed} else 1.0
            for i in range(7)
        ]
        sure = np.where(np.isnan(sure), 0.0, sure)
        # The group is read from its first position on.
        first = min([*row.allowed, *row.committed], default=0)
        chance = 1 / (1 + np.exp(-(np.append(sure[first:], np.ones(first)) @ matrix)))
        accepted = [i for i in row.allowed if chance[i - first] > limits[b]]
        expected = {*accepted, *(quota(row, int(steps[b])) if row.allowed else [])}
        assert places_of(found[b]) == sorted(expected), b
        passed += len(accepted)
    assert passed > 5


def test_a_threshold_of_one_is_the_quota_and_lower_ones_take_no_more_forwards():
    model, params = oracle()
    blocks = dict(schedule=schedules.blocks(SIZE))
    steep = PositionHead(lambda p, seen: (seen.confidence - 0.4) * 50.0, SIZE)
    decoder = denoise(model, unmask=unmask.learn2pd(steep), **blocks)
    run = lambda limit: decode(
        decoder, {"target": params, "filter": 0.0}, temperature=0.0, filter_threshold=limit, steps=4
    )
    plain = denoise(model, unmask=unmask.quota("max_prob", steps=4), **blocks)
    same(decode(plain, {"target": params}, temperature=0.0, steps=4), run(1.0))
    every = [np.sum(forwards(run(limit))) for limit in (1.0, 0.9, 0.5, 0.0)]
    assert every == sorted(every, reverse=True) and every[-1] < every[0]


def cut_twin(row, floor, eos):
    """One token a forward, the most probable first, on a canvas that is cut off; tokens, forwards, how often it was."""
    start = int(LENGTHS[row])
    canvas = [*PROMPTS[row, :start].tolist(), *[None] * int(BUDGET[row])]
    count, cuts = 0, 0
    while None in canvas:
        law = laws(canvas)
        count += 1
        open_ = [i for i, token in enumerate(canvas) if token is None]
        at = max(open_, key=lambda i: (law[i].max(), -i))
        canvas[at] = int(law[at].argmax())
        expected = [
            i for i in open_ if i != at and law[i].argmax() in eos and law[i].max() >= floor
        ]
        end = (
            at
            if canvas[at] in eos
            else max(expected, key=lambda i: (law[i].max(), -i), default=None)
        )
        if end is not None:
            cuts += len(canvas) > end + 1
            canvas = canvas[: end + 1]
        done = next(
            (i for i in range(start, len(canvas)) if canvas[i] is None or canvas[i] in eos), None
        )
        if done is not None and canvas[done] is not None:
            return canvas[: done + 1], count, cuts
    return canvas, count, cuts


@pytest.mark.parametrize("floor", [0.0, pytest.param(0.6, marks=pytest.mark.slow)])
def test_a_canvas_is_cut_off_behind_its_end(floor):
    model, params = oracle()
    decoder = denoise(model, unmask=unmask.quota("max_prob"), grow=end_of_text())
    eos, often = [3, 5], 0
    found = decode(decoder, {"target": params}, temperature=0.0, eos=eos, cut_confidence=floor)
    for row in range(3):
        text, count, cuts = cut_twin(row, floor, eos)
        assert texts(found)[row] == text, row
        assert forwards(found)[row] == count
        often += cuts
    assert often >= 2


@pytest.mark.slow
def test_nothing_is_cut_without_an_end():
    model, params = oracle()
    whole = denoise(model, unmask=unmask.quota("max_prob"), grow=end_of_text())
    plain = denoise(model, unmask=unmask.quota("max_prob"))
    given = {"target": params}
    same(decode(plain, given, temperature=0.0), decode(whole, given, temperature=0.0))


def test_bad_settings():
    with pytest.raises(ValueError, match="reads any number"):
        unmask.learn2pd(PositionHead(lambda p, seen: seen.confidence))
    with pytest.raises(ValueError, match=r"at least 0, got 0\.9 and -1"):
        unmask.learn2pd(reads(4), steps=-1)
