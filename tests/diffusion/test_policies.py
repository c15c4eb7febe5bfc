"""Unmasking policies against twins of the published rules, and the laws of the random ones."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import Candidates, unmask
from jaxdec.sampling.noise import row_keys
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.group_states import group_alone, scored
from jaxdec.testing.parts.policy_twins import CERTAIN, NOTHING, ROWS, Board, places_of
from pallas_kernels.unmask import statistics

pytestmark = pytest.mark.usefixtures("quick_compilation")

statistics = jax.jit(statistics)
SHAPES = ((7, 6), (12, 9))
STEPS = np.array([0, 1, 2, 3, 4, 2, 3, 20], np.int32)
STEPS_AND_LIMITS = {"steps": STEPS, "threshold": np.array([0.3, 0.5, 0.7, 0.9, 0.4, 0.6, 0.5, 1.0])}
CHANCES = np.array([0.0, 0.3, 0.5, 0.7, 0.9, 0.4, 0.5, 1.0])
LEAST = np.array([0.4, 0.01, 0.0, 0.0, 0.4, 0.2, 0.3, 1.0])
MOST = np.array([1.0, 1.0, 0.5, 0.0, 1.0, 2.0, 0.1, 1.0])
NATS = -np.array([2.0, 0.5, 1.0, 0.3, 0.8, 1.2, 0.5, 0.0])

CASES = {
    **{
        f"quota-{by}": (unmask.quota(by), twins.quota(by), {"steps": STEPS})
        for by in (
            "left_to_right",
            "max_prob",
            "token_prob",
            "margin",
            "entropy",
            "warped_max_prob",
            "warped_token_prob",
            "warped_margin",
            "warped_entropy",
        )
    },
    **{
        f"quota-{spread}": (
            unmask.quota("margin", spread=spread),
            twins.quota("margin", spread),
            {"steps": STEPS},
        )
        for spread in ("linear_time", "cosine", "doubling")
    },
    **{
        f"end tokens rejected, {by}, {spread}": (
            unmask.eos_early_rejection(unmask.quota(by, spread=spread)),
            twins.eos_early_rejection(twins.quota(by, spread), spread),
            {"steps": STEPS, "eos_least": LEAST, "eos_most": MOST},
        )
        for by, spread in (("max_prob", "doubling"), ("token_prob", "even"), ("margin", "even"))
    },
    "first alone": (
        unmask.first_alone(unmask.quota("max_prob")),
        twins.first_alone(twins.quota("max_prob", "even")),
        {"steps": STEPS},
    ),
    "in blocks": (
        unmask.in_blocks(unmask.quota("margin")),
        twins.in_blocks(twins.quota("margin")),
        {"steps": STEPS, "block": np.array([3, 1, 4, 5, 40, 2, 3, 6], np.int32)},
    ),
    "left_to_right": (
        unmask.left_to_right(),
        lambda row: row.allowed[:1],
        {},
    ),
    **{
        f"threshold-{by}": (unmask.threshold(by=by), twins.threshold(by), {"threshold": limits})
        for by, limits in (
            ("max_prob", CHANCES),
            ("margin", CHANCES),
            ("token_prob", CHANCES),
            ("entropy", NATS),
        )
    },
    **{
        f"factor-{by}": (
            unmask.factor(by=by),
            twins.factor(by),
            {"factor": np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1.0, 0.0])},
        )
        for by in ("max_prob", "token_prob")
    },
    **{
        f"dynamic_threshold-{by}": (
            unmask.dynamic_threshold(by=by),
            twins.dynamic_threshold(by),
            STEPS_AND_LIMITS,
        )
        for by in ("warped_token_prob", "max_prob")
    },
    "entropy_bound": (
        unmask.entropy_bound(),
        twins.entropy_bound,
        {"entropy_bound": np.array([0.0, 0.4, 0.9, 2.0, 3.0, 1.5, 1.0, 0.1])},
    ),
    "saber": (
        unmask.saber(),
        twins.saber,
        {"minimum": np.array([1, 2, 3, 2, 1, 2, 3, 4], np.int32)},
    ),
}


def traced(knobs):
    """Knobs as `generate` gives them."""
    dtype = lambda x: jnp.int32 if np.issubdtype(x.dtype, np.integer) else jnp.float32
    return {name: jnp.asarray(value, dtype(value)) for name, value in knobs.items()}


@pytest.mark.parametrize(("width", "vocab"), SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_the_published_rule(name, width, vocab):
    policy, twin, knobs = CASES[name]
    assert set(knobs) == set(policy.knobs)
    board = Board(width, vocab, seed=width)
    state = policy.init(None, ROWS, width)
    while board.allowed.any():
        seen, rows = board.look()
        chosen, state = policy.choose(None, seen, state, traced(knobs))
        chosen = np.asarray(chosen)
        assert chosen.shape == board.allowed.shape and chosen.dtype == bool
        assert not (chosen & ~board.allowed).any()
        for b, row in enumerate(rows):
            expected = (
                twin(row, **{k: v[b].item() for k, v in knobs.items()}) if row.allowed else []
            )
            assert places_of(chosen[b]) == sorted(set(expected)), (board.step, b)
            assert len(expected) >= min(len(row.allowed), 1)
        board.commit(chosen)


@pytest.mark.parametrize("name", CASES)
def test_the_guess_at_the_next_steps_begins_with_this_one(name):
    policy, _, knobs = CASES[name]
    board = Board(*SHAPES[0], seed=3)
    seen, rows = board.look()
    knobs = traced(knobs)
    score, count = policy.ahead(None, seen, knobs)
    assert score.shape == (ROWS, board.width) and jnp.issubdtype(score.dtype, jnp.floating)
    assert count.shape == (ROWS,) and jnp.issubdtype(count.dtype, jnp.integer)
    chosen, _ = policy.choose(None, seen, policy.init(None, ROWS, board.width), knobs)
    for b, row in enumerate(rows):
        best = twins.in_order({at: float(score[b, at]) for at in row.allowed})[: int(count[b])]
        # The best by probability are no more than a guess where the policy ranks drawn tokens.
        if name not in ("dynamic_threshold-warped_token_prob", "factor-token_prob"):
            assert set(best) <= set(places_of(chosen[b])), b


@pytest.mark.parametrize("spread", ["even", "linear_time", "cosine"])
def test_a_quota_takes_as_many_steps_as_asked_for(spread):
    opened = np.arange(1, 41)
    choose = jax.jit(unmask.quota("left_to_right", spread=spread).choose)
    for steps in (1, 2, 3, 4, 7, 16):
        left, step, taken = opened.copy(), 0, np.zeros_like(opened)
        while left.any():
            expected = [
                min(twins.quota_size(spread, int(m), steps, step, int(n)), int(n))
                for m, n in zip(opened, left, strict=True)
            ]
            seen = plain(len(opened), opened, left, step)
            chosen, _ = choose(None, seen, None, {"steps": jnp.full(len(opened), steps, jnp.int32)})
            count = np.asarray(chosen.sum(1))
            np.testing.assert_array_equal(count, expected)
            taken += left > 0
            left, step = left - count, step + 1
        np.testing.assert_array_equal(taken, np.minimum(steps, opened))


def plain(rows, opened, left, step, width=40, logits=None):
    """Candidates of which only the first `left [rows]` of a row are allowed."""
    spot = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), (rows, width))
    allowed = spot < jnp.asarray(left)[:, None]
    logits = jnp.zeros((1, width, 2)) if logits is None else logits
    logits = jnp.broadcast_to(logits, (rows, *logits.shape[1:]))
    steps = jnp.full((rows,), step, jnp.int32)
    law = statistics(jax.nn.log_softmax(logits), jnp.zeros_like(spot))
    return Candidates(
        own=law,
        warped=law,
        tokens=jnp.zeros_like(spot),
        places=spot,
        allowed=allowed,
        committed=~allowed,
        leading=spot == 0,
        step=steps,
        opened=jnp.broadcast_to(jnp.asarray(opened, jnp.int32), (rows,)),
        steps=steps,
        keys=row_keys(jax.random.key(7), rows),
        greedy=jnp.zeros((rows,), bool),
        canvas_progress=group_alone(jnp.zeros(rows), jnp.broadcast_to(opened, (rows,)), allowed),
        scored=scored(logits),
    )


def test_certain_positions_at_the_edges_of_the_rules():
    """Where every token has probability 1: `>` and `<` take one position, `<=` takes all."""
    seen = plain(
        1, 5, [5], 0, 5, jnp.where(jnp.arange(3) == 1, 0.0, -jnp.inf)[None, None].repeat(5, 1)
    )
    knobs = {
        "threshold": jnp.ones(1),
        "factor": jnp.zeros(1),
        "entropy_bound": jnp.zeros(1),
        "minimum": jnp.full(1, 2, jnp.int32),
        "steps": jnp.zeros(1, jnp.int32),
    }
    size = lambda policy: int(
        jax.jit(policy.choose)(None, seen, policy.init(None, 1, 5), knobs)[0].sum()
    )
    assert size(unmask.threshold()) == 1
    assert size(unmask.dynamic_threshold()) == 1
    assert size(unmask.entropy_bound()) == 1
    assert size(unmask.saber()) == 2
    assert size(unmask.factor()) == 5
    knobs["entropy_bound"] = jnp.full(1, 1e-6)
    assert size(unmask.entropy_bound()) == 5


def test_saber_remembers_each_row():
    policy = unmask.saber()
    past = policy.init(None, ROWS, 7)
    np.testing.assert_array_equal(past.all_total, np.zeros(ROWS))
    board = Board(*SHAPES[0], seed=11)
    seen, rows = board.look()
    chosen, past = policy.choose(None, seen, past, {"minimum": jnp.full(ROWS, 2, jnp.int32)})
    np.testing.assert_array_equal(past.all_count, np.asarray(chosen).sum(1))
    assert past.all_count[NOTHING] == 0 and past.all_total[NOTHING] == 0
    sure = [rows[CERTAIN].score("max_prob", at) for at in places_of(chosen[CERTAIN])]
    np.testing.assert_allclose(past.all_total[CERTAIN], sum(sure), rtol=1e-6)


def test_saber_counts_a_position_once_and_all_groups():
    """Boards after one another, and tokens that are taken back by chance: the twin keeps one number a position."""
    policy, chance = unmask.saber(), np.random.default_rng(2)
    knobs = {"minimum": jnp.full(ROWS, 1, jnp.int32)}
    choose = jax.jit(policy.choose)
    past = policy.init(None, ROWS, 7)
    kept = [{} for _ in range(ROWS)]  # by group and position
    again = 0
    for group in range(3):
        past = policy.renew(None, past, policy.init(None, ROWS, 7))
        board = Board(*SHAPES[0], seed=20 + group)
        for _ in range(6):
            seen, rows = board.look()
            chosen, past = choose(None, seen, past, knobs)
            for b, row in enumerate(rows):
                row.past = dict(kept[b])
                expected = twins.saber(row, 1) if row.allowed else []
                assert places_of(chosen[b]) == sorted(set(expected)), (group, board.step, b)
                new = {(group, at): row.score("max_prob", at) for at in expected}
                again += len(new.keys() & kept[b].keys())
                kept[b] |= new
            chosen = np.asarray(chosen)
            back = (board.committed | chosen) & (chance.random(chosen.shape) < 0.2)
            board.commit(chosen, back)
    assert again > 20


def test_a_greedy_row_is_scored_by_the_model_s_own_law():
    """Its warped law is certain everywhere: no policy may take that for sureness."""
    board = Board(*SHAPES[0], seed=6)
    seen, _ = board.look()
    sure = jax.tree.map(jnp.ones_like, seen.warped)
    greedy = np.arange(ROWS) % 2 == 0
    seen = Candidates(**{**vars(seen), "warped": sure, "greedy": jnp.asarray(greedy)})
    for name in ("token_prob", "max_prob", "margin", "entropy"):
        own, warped = seen.score(name), seen.score(f"warped_{name}")
        np.testing.assert_array_equal(warped[greedy], own[greedy])
        assert (np.asarray(warped[~greedy]) == (-1 if name == "entropy" else warped[1, 0])).all()
    knobs = {"threshold": jnp.full(ROWS, 0.99), "steps": jnp.zeros(ROWS, jnp.int32)}
    chosen, _ = unmask.dynamic_threshold().choose(None, seen, None, knobs)
    own, _ = unmask.threshold(by="token_prob").choose(None, seen, None, knobs)
    np.testing.assert_array_equal(chosen[greedy], own[greedy])
    assert (np.asarray(chosen) == board.allowed)[:2].tolist() != [[True] * 7] * 2


def assert_law(counts, law):
    """Whether counts of independent draws agree with probabilities, within 4.5 standard errors each."""
    counts, law = np.asarray(counts), np.asarray(law)
    number = counts.sum()
    error = np.sqrt(law * (1 - law) / number)
    np.testing.assert_array_less(np.abs(counts / number - law), 4.5 * error + 1e-12)


def commit_steps(policy, knobs, rows, width, logits=None):
    """Plays `rows` rows of `width` positions to the end: the step of each, int `[rows, width]`."""
    found = np.full((rows, width), -1)
    choose = jax.jit(policy.choose)
    seen = plain(rows, width, np.full(rows, width), 0, width, logits)
    knobs = {name: jnp.broadcast_to(value, (rows,)) for name, value in knobs.items()}
    for step in range(width + 8):
        steps = jnp.full((rows,), step, jnp.int32)
        fields = {**vars(seen), "allowed": jnp.asarray(found < 0), "step": steps, "steps": steps}
        chosen = np.asarray(choose(None, Candidates(**fields), None, knobs)[0])
        assert not (chosen & (found >= 0)).any()
        found[chosen] = step
        if (found >= 0).all():
            return found
    raise AssertionError("not filled")


def orders(found):
    """How often each order of three positions occurs, in the order of `itertools.permutations`."""
    order = np.argsort(found, axis=1)
    return [(order == p).all(1).sum() for p in itertools.permutations(range(found.shape[1]))]


def test_first_hitting_takes_every_order_alike():
    policy = unmask.first_hitting()
    assert policy == unmask.quota("random")
    found = commit_steps(policy, {"steps": jnp.int32(0)}, 6000, 3)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(3), (6000, 1)))
    assert_law(orders(found), np.full(6, 1 / 6))


def test_random_positions_do_not_look_at_the_logits():
    board = Board(*SHAPES[0], seed=5)
    first, again = board.look()[0], board.look()[0]
    np.testing.assert_array_equal(first.score("random"), again.score("random"))
    assert len(np.unique(np.asarray(first.score("random")))) == ROWS * board.width


def test_ancestral_tosses_coins():
    """Each position is committed in step i with probability 1 / (S - i), apart from all others."""
    size = 4
    found = commit_steps(unmask.ancestral(size), {"steps": jnp.int32(size)}, 8000, 2)
    assert found.max() == size - 1  # the last step takes all
    for step in range(size):
        open_ = found >= step
        now = (found == step).sum()
        chance = 1 / (size - step)
        assert_law([now, open_.sum() - now], [chance, 1 - chance])
    pairs = np.bincount(found[:, 0] * size + found[:, 1], minlength=size**2)
    assert_law(pairs, np.full(size**2, 1 / size**2))


def test_ancestral_coins_of_all_rows():
    """Ragged rows: never a position that is not allowed, and all of them in the last step."""
    board = Board(*SHAPES[1], seed=2)
    policy = unmask.ancestral()
    for _ in range(5):
        seen, _ = board.look()
        chosen = np.asarray(
            policy.choose(None, seen, None, {"steps": jnp.full(ROWS, 5, jnp.int32)})[0]
        )
        assert not (chosen & ~board.allowed).any()
        board.commit(chosen)
    assert not board.allowed.any()


def test_position_temperature_draws_positions():
    """One a step: the order is drawn from softmax(score / temperature) without replacement."""
    probs = np.array([0.9, 0.7, 0.55])
    logits = jnp.log(jnp.asarray([[[p, 1 - p] for p in probs]]))
    policy = unmask.quota("max_prob", position_temperature=0.2)
    assert set(policy.knobs) == {"steps", "position_temperature"}
    knobs = {"steps": jnp.int32(0), "position_temperature": jnp.float32(0.2)}
    weights = np.exp(probs / 0.2)

    def chance(order):
        left = [weights[list(order[n:])].sum() for n in range(len(order))]
        return math.prod(weights[at] / sum_ for at, sum_ in zip(order, left, strict=True))

    law = [chance(order) for order in itertools.permutations(range(3))]
    assert_law(orders(commit_steps(policy, knobs, 6000, 3, logits)), law)
    # Two steps of two and one: which one is left.
    found = commit_steps(policy, {**knobs, "steps": jnp.int32(2)}, 6000, 3, logits)
    last = np.bincount(found.argmax(1), minlength=3)
    assert_law(last, [law[3] + law[5], law[1] + law[4], law[0] + law[2]])


def test_position_temperature_zero_ranks():
    board = Board(*SHAPES[0], seed=4)
    seen, _ = board.look()
    knobs = {"steps": jnp.asarray(STEPS), "position_temperature": jnp.zeros(ROWS)}
    policy = unmask.quota("entropy", position_temperature=0.0)
    chosen, _ = policy.choose(None, seen, None, knobs)
    ranked, _ = unmask.quota("entropy").choose(None, seen, None, knobs)
    np.testing.assert_array_equal(chosen, ranked)


def test_a_score_that_does_not_exist():
    """Where it is computed, whoever asks: a suffix of a name is not the name."""
    seen = plain(1, 3, [3], 0, 3)
    for name, nearest in (
        ("maxprob", "max_prob"),
        ("warped_best_entropy", "warped_entropy"),
        ("my_margin", "margin"),
        ("Random", "random"),
    ):
        with pytest.raises(ValueError, match=f"got '{name}', the nearest is '{nearest}'"):
            seen.score(name)


def test_what_looks_at_the_drawn_token():
    for make in (unmask.quota, lambda by: unmask.threshold(by=by), lambda by: unmask.factor(by=by)):
        assert make("token_prob").value_dependent
        assert make("warped_token_prob").value_dependent
        assert not make("max_prob").value_dependent
        assert not make("warped_max_prob").value_dependent
    assert unmask.dynamic_threshold().value_dependent
    assert not unmask.first_hitting().value_dependent


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: unmask.quota("best"), "score must be one of .*; got 'best', the nearest is"),
        (lambda: unmask.quota(spread="odd"), "spread must be one of .*; got 'odd'"),
        (lambda: unmask.threshold(by="best"), "got 'best'"),
        (lambda: unmask.factor(by="best"), "got 'best'"),
        (lambda: unmask.dynamic_threshold(by="best"), "got 'best'"),
        (lambda: unmask.ancestral(0), "at least 1 step, got 0"),
        (lambda: unmask.in_blocks(unmask.threshold(), 0), "at least 1 position, got 0"),
        (lambda: unmask.in_blocks(unmask.ancestral(), 4), "commits something in each step"),
        (lambda: unmask.saber(0), "at least 1 position .* got 0"),
        (lambda: unmask.in_blocks(unmask.saber(), 0), "at least 1 position, got 0"),
        (
            lambda: unmask.in_blocks(unmask.first_alone(unmask.ancestral())),
            "something in each step, Ancestral may wait",
        ),
        (
            lambda: unmask.eos_early_rejection(unmask.entropy_bound()),
            "EntropyBound ranks by 'entropy'",
        ),
        (lambda: unmask.eos_early_rejection(unmask.left_to_right()), "ranks by None"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_doubling_steps():
    """1, 2, 4, ... and the rest: the logarithm of the positions, rounded down, in steps."""
    sizes = lambda m, steps=0: [
        twins.quota_size("doubling", m, steps, s, m - 2**s + 1)
        for s in range(twins.quota_steps("doubling", m, steps))
    ]
    assert sizes(256) == [1, 2, 4, 8, 16, 32, 64, 129]
    assert sizes(7) == [1, 6] and sizes(1) == [1] and sizes(20, 2) == [1, 19]
    opened = np.array([1, 2, 7, 8, 40, 33])
    choose = jax.jit(unmask.quota("left_to_right", spread="doubling").choose)
    left, step, found = opened.copy(), 0, [[] for _ in opened]
    while left.any():
        seen = plain(len(opened), opened, left, step)
        chosen, _ = choose(None, seen, None, {"steps": jnp.zeros(len(opened), jnp.int32)})
        count = np.asarray(chosen.sum(1))
        for row in np.flatnonzero(left):
            found[row].append(int(count[row]))
        left, step = left - count, step + 1
    assert found == [sizes(int(m)) for m in opened]


def test_end_tokens_wait():
    """At a weight of nothing the positions of end tokens come last, and no law changes."""
    board = Board(*SHAPES[0], seed=6)
    seen, rows = board.look()
    policy = unmask.eos_early_rejection(unmask.quota("max_prob"), 0.0, 0.0)
    knobs = {"steps": jnp.full(ROWS, 2, jnp.int32)} | {
        name: jnp.zeros(ROWS) for name in ("eos_least", "eos_most")
    }
    chosen = np.asarray(policy.choose(None, seen, None, knobs)[0])
    ends = [[np.argmax(row.logits[at]) == twins.END for at in range(7)] for row in rows]
    assert any(any(np.array(e)[row.allowed]) for e, row in zip(ends[:2], rows, strict=False))
    for b in (0, 1):
        others = [at for at in rows[b].allowed if not ends[b][at]]
        assert len(others) >= chosen[b].sum() and not (chosen[b] & ends[b]).any()
