"""A window of masks: what is far is not there, what is near is kept, and the first are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.diffusion import denoise, refresh, schedules, shifted, unmask
from jaxdec.model import Inputs
from tests.diffusion.canvases import (
    BUDGET,
    LENGTHS,
    PROMPTS,
    VOCAB,
    decode,
    forwards,
    oracle,
    same,
    texts,
    transformer,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
MANY = 64


def made(model, active=MANY, near=MANY, period=1, policy=None, **more):
    policy = unmask.leftmost(policy or unmask.quota("max_prob"), active)
    return denoise(model, unmask=policy, refresh=refresh.window(active, near, period, **more))


@pytest.fixture(scope="module")
def wide():
    """The same in every row: no mask is far, none is behind the active ones, all is computed in each step."""
    model, params = transformer()
    plain = decode(denoise(model, unmask=unmask.quota("max_prob")), {"target": params})
    return plain, decode(made(model), {"target": params})


@pytest.mark.slow
def test_a_window_as_large_as_the_canvas_is_no_window(wide):
    same(*wide)
    assert forwards(wide[0]) == forwards(wide[1])


def test_far_masks_are_not_there():
    """Against a loop that cuts the text off behind the near masks, and reads all of it again in each step."""
    model, params = transformer()
    near, active = np.array([5, 4, 9]), 3
    found = decode(made(model, active), {"target": params}, temperature=0.0, near=near)
    longest = int((LENGTHS + BUDGET).max())
    call = jax.jit(
        lambda tokens, there: (
            model(
                params,
                Inputs(
                    tokens,
                    jnp.arange(longest)[None],
                    *visibility.full(jnp.arange(longest)[None]).where(there),
                ),
                None,
            ).logits
        )
    )
    for row in range(3):
        size = int(LENGTHS[row] + BUDGET[row])
        tokens = np.full(longest, VOCAB)
        tokens[: LENGTHS[row]] = PROMPTS[row, : LENGTHS[row]]
        masked = (np.arange(longest) >= LENGTHS[row]) & (np.arange(longest) < size)
        order = []
        while masked.any():
            first = np.flatnonzero(masked)
            there = np.arange(longest) < size
            there[first[near[row] :]] = False
            logits = np.array(call(jnp.asarray(tokens)[None], jnp.asarray(there)[None])[0])
            logits[:, VOCAB] = -np.inf
            sure = np.asarray(jax.nn.softmax(logits)).max(-1)
            best = max(first[:active], key=lambda at: sure[at])
            tokens[best], masked[best] = logits[best].argmax(), False
            order.append(best)
        assert texts(found)[row] == tokens[:size].tolist()
        assert np.asarray(found.steps)[row, order].tolist() == list(range(len(order)))


@pytest.mark.parametrize("near", [6, pytest.param(MANY, marks=pytest.mark.slow)])
def test_what_is_kept_is_right_where_masks_say_nothing(near):
    """The oracle reads known tokens alone: kept masks are never stale, and neither are tokens that are computed on."""
    model, params = oracle(canvas=True)
    policy = unmask.threshold(0.6)
    plain = denoise(model, unmask=unmask.leftmost(policy, 4))
    kept = made(model, 4, near, None, policy, kept=5)
    options = dict(temperature=np.array([0.0, 0.8, 1.0]))
    first, second = (decode(each, {"target": params}, **options) for each in (plain, kept))
    same(first, second)
    rows = lambda result: np.asarray(result.stats.target_rows)
    assert (rows(second) < 0.7 * rows(first)).all()


@pytest.mark.slow
def test_rows_end_their_periods_apart():
    """A period of two for one row and of five for another: each as it is alone."""
    model, params = transformer()
    decoder = made(model, 4, 8, 3)
    period = np.array([2, 5, 3])
    together = decode(decoder, {"target": params}, temperature=0.0, refresh_period=period)
    for row in range(3):
        alone = decode(decoder, {"target": params}, temperature=0.0, refresh_period=period[row])
        assert texts(alone)[row] == texts(together)[row]
        assert int(alone.stats.target_rows[row]) == int(together.stats.target_rows[row])
    always = decode(made(model, 4, 8, 1), {"target": params}, temperature=0.0)
    assert (np.asarray(together.stats.target_rows) < np.asarray(always.stats.target_rows)).all()


@pytest.mark.slow
def test_a_policy_that_leaves_the_window_is_stopped():
    """The law of what was not computed is NaN, and a row that commits it ends."""
    model, params = transformer()
    loose = denoise(model, unmask=unmask.left_to_right(), refresh=refresh.window(2, 8, 4))
    strict = decode(loose, {"target": params})
    assert np.asarray(strict.lengths).tolist() == (LENGTHS + BUDGET).tolist()
    loose = denoise(
        model,
        unmask=unmask.quota("random"),
        refresh=refresh.window(2, 8, 4),
        schedule=schedules.whole(),
    )
    assert (np.asarray(decode(loose, {"target": params}).lengths) < LENGTHS + BUDGET).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(schedule=schedules.blocks(8)), "for one group, schedules.whole.., got Blocks"),
        (dict(attention="causal"), "for full attention, got 'causal'"),
        (dict(branches=2), "one branch, got 2"),
    ],
)
def test_what_does_not_go_with_it(options, message):
    with pytest.raises(ValueError, match=message):
        denoise(transformer()[0], refresh=refresh.window(), **options)


def test_bad_sizes():
    with pytest.raises(ValueError, match="and this one is shifted"):
        denoise(shifted(transformer()[0]), refresh=refresh.window())
    with pytest.raises(ValueError, match="near must be at least 1, got 0"):
        refresh.window(4, 0)
    with pytest.raises(ValueError, match="period is at least 1 step, got 0"):
        refresh.window(period=0)
    with pytest.raises(ValueError, match="window needs at least 1 position, got 0"):
        unmask.leftmost(unmask.threshold(), 0)
