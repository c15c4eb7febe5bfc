"""Remasking, early commit and credit against twins of the published rules."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import Candidates, backtracking, credit, prophet, unmask
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.group_states import group_alone, scored, standing
from jaxdec.testing.parts.policy_twins import ROWS, Board, places_of
from pallas_kernels.unmask import statistics

pytestmark = pytest.mark.usefixtures("quick_compilation")

statistics = jax.jit(statistics)
MINIMUM = np.array([1, 2, 3, 4, 5, 2, 3, 6], np.int32)


def confidences(row, width):
    """The probability of the most probable token at every position of the group."""
    return [row.score("max_prob", at) for at in range(width)]


@pytest.mark.parametrize("width", [7, 20])
def test_backtracking_takes_back_what_fell_most(width):
    """Any positions may have been committed: here by chance, many and few."""
    rule = backtracking()
    assert set(rule.knobs) == {"minimum"}
    board = Board(width, 6, seed=width)
    chance = np.random.default_rng(8)
    state, take_back = rule.init(None, ROWS, width), jax.jit(rule.take_back)
    before = [[0.0] * width for _ in range(ROWS)]
    seen_back = 0
    for _ in range(6):
        seen, rows = board.look()
        reveal = board.allowed & (chance.random((ROWS, width)) < chance.random((ROWS, 1)))
        back, state = take_back(
            None, seen, jnp.asarray(reveal), state, {"minimum": jnp.asarray(MINIMUM)}
        )
        back = np.asarray(back)
        for b, row in enumerate(rows):
            now = confidences(row, width)
            revealed = places_of(reveal[b])
            expected = twins.backtracking(
                now,
                before[b],
                revealed,
                row.committed,
                len(row.allowed),
                row.step,
                MINIMUM[b].item(),
            )
            assert places_of(back[b]) == sorted(expected), (row.step, b)
            assert len(expected) <= max(len(revealed) - 1, 0)
            before[b] = now
            seen_back += len(expected)
        board.commit(reveal, back)
    assert seen_back > 10


def test_backtracking_counts():
    """`min(max(n // 2, ceil(r / 8)), r - 1)` of r revealed; none in the first step or when nothing is left."""
    width = 20
    board = Board(width, 6, seed=1)
    board.allowed[:] = True
    for step, revealed, left, minimum, expected in (
        (0, 10, 20, 2, 0),
        (1, 1, 20, 1, 0),
        (1, 2, 20, 2, 1),
        (1, 1, 20, 6, 0),  # fewer than n: still progress
        (1, 8, 20, 1, 1),
        (1, 9, 20, 1, 2),
        (3, 17, 20, 2, 3),
        (3, 9, 20, 8, 4),
        (3, 9, 9, 8, 0),
    ):
        seen, _ = board.look()
        reveal = jnp.arange(width) < jnp.full((ROWS, 1), revealed)
        allowed = jnp.arange(width) < jnp.full((ROWS, 1), left)
        steps = jnp.full(ROWS, step, jnp.int32)
        seen = Candidates(
            **{**vars(seen), "allowed": allowed, "committed": ~allowed, "step": steps}
        )
        rule = backtracking(minimum)
        knobs = {"minimum": jnp.full(ROWS, minimum, jnp.int32)}
        back, _ = rule.take_back(None, seen, reveal, rule.init(None, ROWS, width), knobs)
        np.testing.assert_array_equal(back.sum(1), expected)


def test_saber_with_backtracking_ends():
    width = 9
    policy, rule = unmask.saber(), backtracking()
    knobs = {"minimum": jnp.asarray(MINIMUM)}
    board = Board(width, 6, seed=13)
    past, fallen = policy.init(None, ROWS, width), rule.init(None, ROWS, width)
    choose, take_back = jax.jit(policy.choose), jax.jit(rule.take_back)
    while board.allowed.any():
        before = board.allowed.sum(1)
        seen, _ = board.look()
        reveal, past = choose(None, seen, past, knobs)
        back, fallen = take_back(None, seen, reveal, fallen, knobs)
        board.commit(np.asarray(reveal), np.asarray(back))
        assert ((board.allowed.sum(1) < before) | (before == 0)).all()
        assert board.step <= width


def with_gaps(gaps, opened, left):
    """Candidates `[B, 9]` whose first `left` positions are open, their two highest logits `gaps [B]` apart."""
    width, rows = 9, len(gaps)
    allowed = np.arange(width) < np.asarray(left)[:, None]
    logits = np.full((rows, width, 4), -3.0)
    logits[..., 2] = 1.0
    # The mean counts, over open positions alone.
    sway = np.where(np.arange(width) % 2, 0.5, -0.5)
    sway = np.where(np.arange(width) == np.asarray(left)[:, None] // 2 * 2, 0, sway)
    logits[..., 1] = 1.0 + np.where(allowed, np.asarray(gaps)[:, None] + sway, 40.0)
    zero = jnp.zeros((rows,), jnp.int32)
    flat = jnp.zeros((rows, width), jnp.int32)
    # As if of a law: gaps are then exact, and a gap of a law is that of its logits.
    law = statistics(jnp.asarray(logits, jnp.float32), flat)
    return Candidates(
        own=law,
        warped=law,
        tokens=flat,
        places=flat,
        allowed=jnp.asarray(allowed),
        committed=jnp.asarray(~allowed),
        leading=flat == 1,
        step=zero,
        opened=jnp.asarray(opened, jnp.int32),
        steps=zero,
        keys=None,
        greedy=zero > 0,
        canvas_progress=group_alone(zero, opened, allowed),
        scored=scored(logits),
    )


def limits(rows, early=7.5, middle=5.0, late=2.5):
    """Knobs of Prophet."""
    full = lambda value: jnp.full((rows,), value, jnp.float32)
    return {"early_gap": full(early), "middle_gap": full(middle), "late_gap": full(late)}


def test_prophet_limits_go_by_progress():
    """7.5 below a third of the group, 5 below two thirds, then 2.5; a gap equal to the limit is enough."""
    cases = [
        (gap, opened, left)
        for opened in (3, 6, 7, 9)
        for left in range(1, opened + 1)
        for gap in (2.25, 2.5, 4.75, 5.0, 7.25, 7.5)
    ]
    gaps, opened, left = zip(*cases, strict=True)
    rule = prophet()
    assert {name: knob.default for name, knob in rule.knobs.items()} == {
        "early_gap": 7.5,
        "middle_gap": 5.0,
        "late_gap": 2.5,
    }
    stops = jax.jit(rule.now)(
        None, with_gaps(gaps, opened, left), jnp.zeros(len(cases), bool), limits(len(cases))
    )[0]
    assert stops.shape == (len(cases),)
    for case, stop in zip(cases, stops.tolist(), strict=True):
        gap, opened_, left_ = case
        progress = Fraction(opened_ - left_, opened_)
        limit = 7.5 if progress < Fraction(1, 3) else 5.0 if progress < Fraction(2, 3) else 2.5
        assert stop == (gap >= limit), case


def test_prophet_watches_the_answer_and_the_whole_canvas():
    """Gaps of the answer's positions alone, committed ones too; a third is one of the canvas."""
    rule = prophet(answer=(2, 4))
    assert {n: k.default for n, k in rule.knobs.items() if "answer" in n} == {
        "answer_start": 2,
        "answer_stop": 4,
    }
    rows, width = 4, 9
    seen = with_gaps(np.zeros(rows), np.full(rows, 9), np.full(rows, 9))
    places = jnp.broadcast_to(jnp.arange(width) + 5, (rows, width)).astype(jnp.int32)
    gaps = np.zeros((rows, width))
    gaps[0, 2:4] = 7.0, 8.0  # 7.5 on average: enough at first
    gaps[1, 2:4] = 7.0, 7.9
    gaps[2, 2:4] = 5.0, 5.0  # enough after a third
    gaps[3] = 90.0
    gaps[3, 2:4] = 0.0
    law = seen.own._replace(top=jnp.asarray(gaps, jnp.float32), second=jnp.zeros_like(seen.own.top))
    begin, size = jnp.full(rows, 5, jnp.int32), jnp.full(rows, 30, jnp.int32)
    now = jax.jit(rule.now)
    knobs = limits(rows) | {
        "answer_start": jnp.full(rows, 2, jnp.int32),
        "answer_stop": jnp.full(rows, 4, jnp.int32),
    }
    for left, expected in ((30, [1, 0, 0, 0]), (21, [1, 0, 0, 0]), (20, [1, 1, 1, 0])):
        progress = seen.canvas_progress._replace(begin=begin, size=size, left=begin * 0 + left)
        for known in (False, True):
            committed = jnp.broadcast_to(jnp.arange(width) == 2, (rows, width)) & known
            one = Candidates(
                **{
                    **vars(seen),
                    "own": law,
                    "places": places,
                    "canvas_progress": progress,
                    "committed": committed,
                    "allowed": ~committed,
                }
            )
            found, state = now(None, one, rule.init(None, rows, width), knobs)
            assert found.astype(int).tolist() == expected, left
            assert rule.renew(None, state, rule.init(None, rows, width)).tolist() == found.tolist()
            assert now(None, one, jnp.ones(rows, bool), knobs)[0].all()
    with pytest.raises(ValueError, match="end behind its start"):
        prophet(answer=(3, 3))


def test_prophet_at_once_and_never():
    rows = 9
    seen = with_gaps(np.full(rows, 90.0), np.full(rows, 9), np.arange(rows) + 1)
    inf = math.inf
    now, start = jax.jit(prophet().now), jnp.zeros(rows, bool)
    assert now(None, seen, start, limits(rows, -inf, -inf, -inf))[0].all()
    assert not now(None, seen, start, limits(rows, inf, inf, inf))[0].any()
    sure = seen.own._replace(second=jnp.full_like(seen.own.second, -inf))
    one = Candidates(**{**vars(seen), "own": sure})
    assert now(None, one, start, limits(rows))[0].all()
    assert not now(None, one, start, limits(rows, inf, inf, inf))[0].any()


def weights(alpha, beta, gamma):
    """Knobs of credit, `[B]` each."""
    values = {"credit_alpha": alpha, "credit_beta": beta, "credit_gamma": gamma}
    return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}


def likeliest(logits):
    """The most probable token of a row of logits, and its probability."""
    law = np.exp(twins.normalised(logits))
    best = int(np.argmax(law))
    return best, float(law[best])


def some_logits(rng, shape):
    """With an impossible last token."""
    logits = rng.normal(scale=1.5, size=shape).astype(np.float32)
    logits[..., -1] = -np.inf
    return logits


def test_credit_is_a_table_over_the_vocabulary():
    """With a slot for every token: C <- beta C; C[v*] += p(v*)^gamma where masked; logits + alpha log(1 + C)."""
    rng = np.random.default_rng(3)
    batch, width, vocab = 4, 3, 6
    alpha, beta, gamma = [0.7, 1.0, 0.3, 2.0], [0.8, 0.0, 1.0, 0.5], [0.2, 1.0, 0.0, 3.0]
    part = credit(slots=vocab)
    assert set(part.knobs) == {"credit_alpha", "credit_beta", "credit_gamma"}
    state, fuse = part.init(None, batch, width), jax.jit(part.fuse)
    table = np.zeros((batch, width, vocab))
    masked = np.ones((batch, width), bool)
    for step in range(6):
        logits = some_logits(rng, (batch, width, vocab))
        masked &= rng.random((batch, width)) < 0.85
        fused, state = fuse(
            None, scored(logits), standing(masked), state, weights(alpha, beta, gamma)
        )
        expected = np.zeros_like(table)
        for b in range(batch):
            for w in range(width):
                table[b, w] *= beta[b]
                if masked[b, w]:
                    best, chance = likeliest(logits[b, w].astype(float))
                    table[b, w, best] += chance ** gamma[b]
                expected[b, w] = logits[b, w] + alpha[b] * np.log(1 + table[b, w])
        np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=1e-5, err_msg=str(step))
    assert not masked.all() and masked.any()


def test_credit_forgets_the_least():
    """Two slots: the own one, else a free one, else that of the least credit, which begins again from nothing."""
    rng = np.random.default_rng(4)
    batch, width, vocab, slots = 3, 4, 6, 2
    alpha, beta, gamma = [1.0, 0.7, 0.7], [0.9, 0.8, 0.5], [0.5, 0.2, 1.0]
    part = credit(slots=slots)
    state, fuse = part.init(None, batch, width), jax.jit(part.fuse)
    held = [[{} for _ in range(width)] for _ in range(batch)]
    forgotten = 0
    for _ in range(8):
        logits = some_logits(rng, (batch, width, vocab))
        fused, state = fuse(
            None,
            scored(logits),
            standing(np.ones((batch, width), bool)),
            state,
            weights(alpha, beta, gamma),
        )
        expected = logits.astype(float)
        for b in range(batch):
            for w in range(width):
                own = held[b][w]
                for token in own:
                    own[token] *= beta[b]
                best, chance = likeliest(logits[b, w].astype(float))
                if best not in own and len(own) == slots:
                    del own[min(own, key=own.get)]
                    forgotten += 1
                own[best] = own.get(best, 0.0) + chance ** gamma[b]
                for token, value in own.items():
                    expected[b, w, token] += alpha[b] * math.log(1 + value)
        np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=1e-5)
    assert forgotten > 10


def test_credit_without_weight_changes_nothing():
    rng = np.random.default_rng(5)
    part = credit(0.0, slots=2)
    state, fuse = part.init(None, 2, 3), jax.jit(part.fuse)
    for _ in range(4):
        logits = jnp.asarray(some_logits(rng, (2, 3, 5)))
        fused, state = fuse(
            None,
            scored(logits),
            standing(np.ones((2, 3), bool)),
            state,
            weights([0.0] * 2, [0.8] * 2, [0.2] * 2),
        )
        np.testing.assert_array_equal(fused, logits)


def test_credit_of_a_token_that_stays_grows():
    part = credit()
    state, fuse = part.init(None, 1, 1), jax.jit(part.fuse)
    logits = jnp.asarray([[[1.0, 0.5, -1.0]]])
    before = -math.inf
    for _ in range(6):
        fused, state = fuse(
            None,
            scored(logits),
            standing(np.ones((1, 1), bool)),
            state,
            weights([0.7], [0.8], [0.2]),
        )
        assert float(fused[0, 0, 0]) > before
        before = float(fused[0, 0, 0])
        np.testing.assert_array_equal(fused[0, 0, 1:], logits[0, 0, 1:])


def test_credit_needs_a_slot():
    with pytest.raises(ValueError, match="at least 1 slot, got 0"):
        credit(slots=0)
