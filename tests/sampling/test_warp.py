"""The logits pipeline against a float64 twin, and the properties that each stage promises."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.sampling import History, Warp
from jaxdec.sampling.penalties import penalised
from jaxdec.testing.parts.warp import (
    CHOICES,
    FILTERS,
    OFF,
    V,
    draw_history,
    draw_knobs,
    normalised,
    warp_twin,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


@jax.jit
def warped(warp, logits, history=None):
    return warp.log_probs(logits, history)


def support(log_probs):
    return np.isfinite(np.asarray(log_probs))


def log_of(*probs):
    return jnp.log(jnp.asarray([probs], jnp.float32))


def row_of(knobs, b):
    return {name: value[b] for name, value in knobs.items()}


EVERYTHING = (*OFF, "logit_bias", "banned")
COMBINATIONS = [
    (EVERYTHING, (), 12),
    (EVERYTHING, (3,), 4),
    (("temperature", "top_p"), (), 3),
    (("top_k", "min_p", "banned"), (2,), 3),
    (("typical", "epsilon", "top_h"), (), 3),
    (("min_p", "epsilon"), (), 3),
    ((*PENALTIES, "temperature", "logit_bias"), (2, 2), 3),
]


@pytest.mark.parametrize("names, middle, repeats", COMBINATIONS)
def test_matches_the_float64_twin(names, middle, repeats):
    batch, checked, drawn = 8, 0, 0
    for seed in range(repeats):
        rng = np.random.default_rng([seed, len(names)])
        logits = (rng.normal(size=(batch, *middle, V)) * 2).astype(np.float32)
        logits[rng.random(logits.shape) < 0.05] = -np.inf
        logits[..., 0] = rng.normal(size=logits.shape[:-1])  # Never banned: no row is empty.
        knobs, history = draw_knobs(rng, names, batch), draw_history(rng, batch, middle)
        warp = Warp(**knobs).validate(batch, V)
        got = np.asarray(warped(warp, logits, history))
        chex.assert_shape(got, logits.shape)
        assert got.dtype == np.float32
        for place in np.ndindex(logits.shape[:-1]):
            b = place[0]
            prompt, generated = np.asarray(history.prompt[b]), np.asarray(history.generated[place])
            want, margin = warp_twin(logits[place], row_of(knobs, b), prompt, generated)
            drawn += 1
            if margin > 1e-5:
                checked += 1
                np.testing.assert_allclose(got[place], want, atol=2e-5, err_msg=str((seed, place)))
    assert checked > 0.95 * drawn


def test_a_row_equals_that_row_alone():
    rng = np.random.default_rng(5)
    batch = 6
    logits = rng.normal(size=(batch, V)).astype(np.float32) * 2
    warp = Warp(**draw_knobs(rng, EVERYTHING, batch)).validate(batch, V)
    history = draw_history(rng, batch)
    together = np.asarray(warped(warp, logits, history))
    for b in range(batch):
        alone = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], (warp, logits, history))
        got = np.asarray(warped(*alone))
        np.testing.assert_array_equal(support(got[0]), support(together[b]))
        np.testing.assert_allclose(got[0], together[b], atol=1e-6)


@pytest.mark.parametrize("name", OFF)
def test_off_is_an_exact_identity(name):
    rng = np.random.default_rng(1)
    logits = (rng.normal(size=(4, 300)) * 6).astype(np.float32)
    logits[1, :40] = -np.inf
    logits[2] = np.round(logits[2])
    logits[3] = -70.0 * np.arange(300)  # Probabilities that underflow to 0.
    counts = jnp.asarray(rng.integers(0, 3, logits.shape), jnp.int32)
    history = History(counts, counts)
    plain = jax.nn.log_softmax(logits)
    for value in (OFF[name], np.full(4, OFF[name])):
        warp = Warp(**{name: value}).validate(4, 300)
        np.testing.assert_array_equal(warp.log_probs(jnp.asarray(logits), history), plain)
        np.testing.assert_array_equal(warped(warp, logits, history), warped(Warp(), logits))


@pytest.mark.parametrize("table", [{"logit_bias": np.zeros(V)}, {"banned": np.zeros(V, bool)}])
def test_empty_tables_are_exact_identities(table):
    logits = np.random.default_rng(2).normal(size=(3, V)).astype(np.float32)
    for warp in (Warp(**table), Warp(**table).validate(3, V)):
        np.testing.assert_array_equal(warped(warp, logits), warped(Warp(), logits))


def test_off_beside_other_filters_changes_nothing():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(8, V)).astype(np.float32) * 2
    some = Warp(top_p=0.8, epsilon=0.02)
    every = Warp(**{**OFF, "top_p": 0.8, "epsilon": 0.02})
    history = draw_history(rng, 8)
    np.testing.assert_array_equal(warped(some, logits), warped(every, logits, history))


def test_temperature_comes_before_top_p():
    # Cut at 0.8 of the flat law four tokens stay; of the law at T = 0.5, three.
    logits = log_of(0.35, 0.25, 0.15, 0.13, 0.12)
    assert support(warped(Warp(top_p=0.8), logits)).sum() == 4
    got = np.exp(warped(Warp(temperature=0.5, top_p=0.8), logits))[0]
    squares = np.array([0.35, 0.25, 0.15, 0.0, 0.0]) ** 2
    np.testing.assert_allclose(got, squares / squares.sum(), atol=1e-6)


def test_top_p_reads_the_law_after_top_k():
    # Two tokens of five stay: their renormalised masses are 7/12 and 5/12.
    logits = log_of(0.35, 0.25, 0.15, 0.13, 0.12)
    assert support(warped(Warp(top_k=2, top_p=0.5), logits)).sum() == 1
    assert support(warped(Warp(top_p=0.5), logits)).sum() == 2


@pytest.mark.parametrize("top_p, kept", [(0.5, 1), (0.8, 2), (0.81, 3), (1e-6, 1), (1.0, 4)])
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(top_p, kept):
    got = support(warped(Warp(top_p=top_p), log_of(0.5, 0.3, 0.1, 0.1)))[0]
    np.testing.assert_array_equal(got, np.arange(4) < kept)


def test_top_k_breaks_ties_by_the_lowest_index():
    logits = jnp.asarray([[0.0, 2.0, 1.0, 2.0, 1.0, 1.0, -0.0]])
    for k, tokens in [
        (1, {1}),
        (2, {1, 3}),
        (3, {1, 2, 3}),
        (4, {1, 2, 3, 4}),
        (6, {0, 1, 2, 3, 4, 5}),
    ]:
        assert set(np.flatnonzero(support(warped(Warp(top_k=k), logits))[0])) == tokens
    ranked_first = Warp(temperature=1.0, top_k=1)
    # Both values round to -100 once the maximum is subtracted; the ranking must not see that.
    close = jnp.asarray([[100.0, 1e-8, 2e-8]]).at[0, 0].set(-jnp.inf)
    assert np.flatnonzero(support(warped(ranked_first, close))[0]) == [2]
    close = jnp.asarray([[100.0, 1e-8, 2e-8]])
    kept = support(warped(Warp(temperature=1.0, top_k=2), close))[0]
    np.testing.assert_array_equal(kept, [True, False, True])


def test_min_p_and_epsilon():
    logits = log_of(0.52, 0.25, 0.14, 0.06, 0.03)
    assert support(warped(Warp(min_p=0.25), logits)).sum() == 3
    assert support(warped(Warp(min_p=1.0), logits)).sum() == 1
    assert support(warped(Warp(epsilon=0.05), logits)).sum() == 4
    assert support(warped(Warp(epsilon=0.9), logits)).sum() == 1
    tied = jnp.zeros((1, 5))
    np.testing.assert_array_equal(support(warped(Warp(epsilon=0.9), tied))[0], np.arange(5) < 1)
    assert support(warped(Warp(min_p=1.0), tied)).all()


def test_typical_may_remove_the_most_probable_token():
    # H is about 1.89, so that the token of probability 0.4 surprises by 0.92 and 0.2 by 1.61.
    logits = log_of(0.4, 0.2, *[0.05] * 8)
    got = np.exp(warped(Warp(typical=0.1), logits))[0]
    np.testing.assert_allclose(got, np.eye(10)[1], atol=1e-6)
    # The later filters cope with a law whose first ranks are gone.
    later = warped(Warp(typical=0.1, epsilon=0.5, top_h=0.01), logits)
    np.testing.assert_allclose(np.exp(later)[0], np.eye(10)[1], atol=1e-6)
    # Three equal tokens are left of four; two of them have log 2 <= 0.7 log 3.
    later = warped(Warp(typical=0.5, top_h=0.7), log_of(0.4, 0.2, 0.2, 0.2))
    np.testing.assert_allclose(np.exp(later)[0], [0, 0.5, 0.5, 0], atol=1e-6)


def test_top_h_invariants():
    rng = np.random.default_rng(4)
    logits = (rng.normal(size=(20, V)) * rng.uniform(0.1, 4, (20, 1))).astype(np.float32)
    law = np.exp(normalised_rows(logits))
    entropy = -np.sum(law * np.log(law), axis=-1)
    sizes = []
    for alpha in (1e-6, 0.2, 0.4, 0.7, 1.0):
        got = np.asarray(warped(Warp(top_h=alpha), logits), np.float64)
        kept = support(got)
        sizes.append(kept.sum(-1))
        kept_entropy = -np.sum(np.exp(got) * np.where(kept, got, 0.0), axis=-1)
        assert np.all((kept_entropy <= alpha * entropy + 1e-5) | (sizes[-1] == 1))
        # The kept set is a prefix of the ranking.
        lowest = np.where(kept, logits, np.inf).min(-1)
        highest = np.where(kept, -np.inf, logits).max(-1)
        assert np.all(lowest > highest)
    assert np.all(np.diff(sizes, axis=0) >= 0)
    assert np.all(sizes[0] == 1) and np.all(sizes[-1] == V)


def normalised_rows(logits):
    return np.stack([normalised(row) for row in np.asarray(logits, np.float64)])


def test_greedy_rows_are_one_hot_whatever_the_filters():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(6, V)).astype(np.float32)
    logits[0, 3] = logits[0, 7] = 5.0
    logits[1, 2] = -np.inf
    strict = {
        "top_k": 1,
        "top_p": 0.01,
        "min_p": 1.0,
        "typical": 0.05,
        "epsilon": 0.9,
        "top_h": 0.01,
    }
    temperature = np.array([0, 0, 1, 0, 0.7, 0], np.float32)
    for knobs in ({}, strict):
        got = np.asarray(warped(Warp(temperature=temperature, **knobs), logits))
        for b in np.flatnonzero(temperature == 0):
            want = np.where(np.arange(V) == np.argmax(logits[b]), 0.0, -np.inf)
            np.testing.assert_array_equal(got[b], want)
        assert not np.isnan(got).any()
    with jax.debug_nans(True):  # Nothing is divided by 0 on the way.
        Warp(temperature=0.0).log_probs(jnp.asarray(logits))
    # The argmax is that of the penalised logits.
    bias = np.zeros(V, np.float32)
    bias[5] = 50.0
    got = warped(Warp(temperature=0.0, logit_bias=bias), logits)
    np.testing.assert_array_equal(np.argmax(got, -1), 5)


def test_tiny_temperatures_do_not_overflow():
    logits = jnp.asarray([[3.0, 1.0, 3.0, -9.0]])
    for temperature in (1e-30, 2e-38):
        got = np.exp(warped(Warp(temperature=temperature), logits))[0]
        np.testing.assert_allclose(got, [0.5, 0, 0.5, 0], atol=1e-6)
    got = warped(Warp(temperature=1e-42), logits)
    np.testing.assert_array_equal(got, [[0.0, -np.inf, -np.inf, -np.inf]])


def test_penalties_by_hand():
    tokens = jnp.asarray([[0, 1, 1, 4], [2, 4, 4, 4]])
    history = History.start(tokens, jnp.asarray([3, 1]), 5)
    np.testing.assert_array_equal(history.prompt, [[1, 2, 0, 0, 0], [0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(history.generated, 0)
    emitted = jnp.asarray([[3, 3, 1], [0, 7, -1]])
    history = history.add(emitted, jnp.asarray([[True, True, False], [True, True, True]]))
    history = history.add(jnp.asarray([[3], [0]]), jnp.asarray([[True], [False]]))
    np.testing.assert_array_equal(history.generated, [[0, 0, 0, 3, 0], [1, 0, 0, 0, 0]])

    logits = jnp.asarray([[1.0, -1.0, 0.5, 2.0, -2.0]] * 2)
    got = warped(Warp(repetition_penalty=2.0), logits, history)
    want = [[0.5, -2.0, 0.5, 1.0, -2.0], [0.5, -1.0, 0.25, 2.0, -2.0]]
    np.testing.assert_allclose(got, jax.nn.log_softmax(jnp.asarray(want)), atol=1e-6)
    # Presence and frequency do not read the prompt.
    got = warped(Warp(presence_penalty=0.5, frequency_penalty=0.25), logits, history)
    want = [[1.0, -1.0, 0.5, 0.75, -2.0], [0.25, -1.0, 0.5, 2.0, -2.0]]
    np.testing.assert_allclose(got, jax.nn.log_softmax(jnp.asarray(want)), atol=1e-6)


def test_penalties_along_a_tree_equal_those_of_each_path():
    rng = np.random.default_rng(7)
    parents = [-1, 0, 0, 1, 3]  # Node 4 hangs below 3, 1, 0; node 2 below 0.
    nodes = len(parents)
    ancestors = np.zeros((nodes, nodes), bool)
    for n in range(nodes):
        m = n
        while m >= 0:
            ancestors[n, m], m = True, parents[m]
    tokens = jnp.asarray([[1, 2, 2, 1, 1], [0, 5, 3, -1, 5]])
    history = History.start(jnp.asarray([[0, 6], [6, 6]]), jnp.asarray([2, 1]), V)
    history = history.add(jnp.asarray([[1], [2]]), jnp.ones((2, 1), bool))
    tree = jax.jit(History.along)(history, tokens, jnp.asarray([ancestors] * 2))
    chex.assert_shape(tree.generated, (2, nodes, V))
    assert tree.generated[0, 4, 1] == 4 and tree.generated[0, 2, 1] == 2

    warp = Warp(
        repetition_penalty=np.array([1.5, 1.0]), presence_penalty=0.3, frequency_penalty=0.2
    )
    logits = rng.normal(size=(2, nodes, V)).astype(np.float32)
    got = warped(warp, logits, tree)
    for n in range(nodes):
        path = history.add(tokens, jnp.asarray([ancestors[n]] * 2))
        np.testing.assert_allclose(got[:, n], warped(warp, logits[:, n], path), atol=1e-6)
    # Counts of the row serve every node where the tree itself is not counted.
    got = warped(warp, logits, history)
    np.testing.assert_allclose(got[:, 3], warped(warp, logits[:, 3], history), atol=1e-6)
    with pytest.raises(ValueError, match="along"):
        tree.along(tokens, jnp.asarray([ancestors] * 2))
    with pytest.raises(ValueError, match="add"):
        tree.add(tokens, jnp.ones((2, nodes), bool))


def test_penalties_refuse_to_be_ignored():
    for name in PENALTIES:
        warp = Warp(**{name: 1.5})
        assert warp.needs_history
        with pytest.raises(ValueError, match="history"):
            warp.log_probs(jnp.zeros((1, V)))
    assert not Warp(temperature=0.5, top_p=0.9, logit_bias=np.zeros(V)).needs_history


def test_banned_tokens_are_removed_before_all_else():
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(3, 2, V)).astype(np.float32)
    banned = np.zeros((3, V), bool)
    banned[0, np.argmax(logits[0, 0])] = True
    banned[1, 1:] = True
    ones = jnp.ones((3, V), jnp.int32)
    warp = Warp(**{name: values[1] for name, values in CHOICES.items()}, banned=banned)
    got = np.asarray(warped(warp.validate(3, V), logits, History(ones, ones)))
    assert not np.isnan(got).any()
    assert not support(got)[np.broadcast_to(banned[:, None], got.shape)].any()
    np.testing.assert_array_equal(got[1, :, 0], 0.0)
    # The mass of a banned token does not count: two tokens reach 0.9 of what is left.
    warp = Warp(banned=np.array([True, False, False, False]), top_p=0.9)
    got = support(warped(warp, log_of(0.9, 0.06, 0.035, 0.005)))[0]
    np.testing.assert_array_equal(got, [False, True, True, False])
    # A bias of -inf is a ban.
    bias = np.array([-np.inf, 0, 0, 0], np.float32)
    by_bias = Warp(logit_bias=bias, top_p=0.9).validate(1, 4)
    np.testing.assert_array_equal(
        warped(by_bias, log_of(0.9, 0.06, 0.035, 0.005)),
        warped(warp, log_of(0.9, 0.06, 0.035, 0.005)),
    )


def test_extreme_repetition_penalties_leave_banned_tokens_banned():
    logits = jnp.asarray([[0.0, -jnp.inf, 1.0]])
    ones = jnp.ones((1, 3), jnp.int32)
    for penalty in (0.0, 1e-30):
        got = np.asarray(
            warped(Warp(repetition_penalty=penalty), logits - 3.0, History(ones, ones))
        )
        np.testing.assert_array_equal(support(got), [[True, False, True]])


def test_extreme_penalties_of_generated_tokens_leave_numbers():
    logits = jnp.asarray([[0.0, -jnp.inf, 1.0, jnp.inf]])
    counts = jnp.asarray([[2, 2, 0, 0]])
    for penalty in (-3e38, 3e38):
        after = penalised(logits, counts, counts, None, None, penalty)
        assert (
            np.isfinite(after[0, [0, 2]]).all()
            and after[0, 0] == -np.sign(penalty) * np.finfo(np.float32).max
        )
        np.testing.assert_array_equal(after[0, [1, 3]], logits[0, [1, 3]])


@pytest.mark.parametrize("temperature", [None, 0.0, 0.7])
@pytest.mark.parametrize("filters", [{}, {"top_k": 2, "top_p": 0.9, "typical": 0.9, "top_h": 0.5}])
def test_broken_logits_surface_in_their_law_alone(temperature, filters):
    logits = np.random.default_rng(9).normal(size=(5, 2, V)).astype(np.float32)
    logits[0, 1, 4] = np.nan
    logits[1, 0, 2] = np.inf
    logits[2, 0] = -np.inf
    logits[3, 0, 1:] = -np.inf  # Legal.
    logits[4, 1, 0] = np.nan  # Banned, and yet reported.
    banned = np.arange(V) == 0
    got = np.asarray(warped(Warp(temperature=temperature, banned=banned, **filters), logits))
    broken = np.zeros((5, 2), bool)
    broken[[0, 1, 2, 3, 4], [1, 0, 0, 0, 1]] = True  # Row 3: its only token is banned.
    np.testing.assert_array_equal(np.isnan(got).all(-1), broken)
    np.testing.assert_array_equal(np.isnan(got).any(-1), broken)
    got = np.asarray(warped(Warp(temperature=temperature, **filters), logits))
    np.testing.assert_array_equal(got[3, 0], np.where(np.arange(V) == 0, 0.0, -np.inf))


def test_low_precision_logits_give_float32():
    logits = jnp.asarray(np.random.default_rng(10).normal(size=(2, V)), jnp.bfloat16)
    got = warped(Warp(top_p=0.9), logits)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, warped(Warp(top_p=0.9), logits.astype(jnp.float32)))


ILLEGAL = {
    "temperature": (-0.1, np.inf),
    "top_k": (-1, 2.0, True),
    "top_p": (0.0, 1.01, -0.5),
    "min_p": (-0.01, 1.5),
    "typical": (0.0, 1.2),
    "epsilon": (-1e-3, 1.0),
    "top_h": (0.0, 2.0),
    "repetition_penalty": (0.0, -1.0, np.inf),
    "presence_penalty": (np.inf, "high"),
    "frequency_penalty": (-np.inf, 1j),
}


@pytest.mark.parametrize("name", OFF)
def test_validate_names_knob_value_and_limit(name):
    for value in (*ILLEGAL[name], np.nan):
        with pytest.raises(ValueError, match=f"^{name}: got .*{re.escape(str(value))}.*must be"):
            Warp(**{name: value}).validate(3, V)
    dtype = np.int32 if name == "top_k" else np.float32
    ragged = np.full(3, OFF[name], dtype)
    for wrong in (ragged[:2], ragged[None]):
        with pytest.raises(ValueError, match=f"^{name}: got shape"):
            Warp(**{name: wrong}).validate(3, V)
    ragged[1] = ILLEGAL[name][0] if ILLEGAL[name][0] != np.inf else np.nan
    with pytest.raises(ValueError, match=rf"^{name}: got .* at \[1\], must be"):
        Warp(**{name: ragged}).validate(3, V)
    for legal in (OFF[name], *CHOICES[name], jnp.asarray(OFF[name], dtype)):
        knob = getattr(Warp(**{name: legal}).validate(3, V), name)
        assert isinstance(knob, np.ndarray) and knob.dtype == dtype
        np.testing.assert_array_equal(knob, np.full(3, legal, dtype))


def test_validate_tables():
    for value in (np.nan, np.inf):
        bias = np.zeros((3, V))
        bias[2, 4] = value
        with pytest.raises(ValueError, match=rf"^logit_bias: got {value} at \[2, 4\], must be"):
            Warp(logit_bias=bias).validate(3, V)
    for wrong in (np.zeros(V + 1), np.zeros((2, V)), np.zeros(())):
        with pytest.raises(ValueError, match=r"^logit_bias: got shape"):
            Warp(logit_bias=wrong).validate(3, V)
        with pytest.raises(ValueError, match=r"^banned: got shape"):
            Warp(banned=wrong.astype(bool)).validate(3, V)
    with pytest.raises(ValueError, match=r"^banned: got type int64, must be bool"):
        Warp(banned=np.zeros(V, np.int64)).validate(3, V)
    with pytest.raises(ValueError, match=r"^logit_bias: got type bool"):
        Warp(logit_bias=np.zeros(V, bool)).validate(3, V)

    banned = np.zeros((3, V), bool)
    banned[1] = True
    with pytest.raises(ValueError, match=r"^banned: all 12 tokens of row 1"):
        Warp(banned=banned).validate(3, V)
    banned[1, 2] = False
    only = np.zeros(V)
    only[2] = -np.inf
    with pytest.raises(ValueError, match=r"^banned: all 12 tokens of row 1"):
        Warp(banned=banned, logit_bias=only).validate(3, V)
    with pytest.raises(ValueError, match=r"^logit_bias: all 12 tokens of row 0"):
        Warp(logit_bias=np.full(V, -np.inf)).validate(3, V)

    warp = Warp(banned=banned, logit_bias=np.ones(V)).validate(3, V)
    assert warp.banned.dtype == bool and warp.logit_bias.dtype == jnp.float32
    chex.assert_shape([warp.banned, warp.logit_bias], (3, V))
    chex.assert_trees_all_equal(warp.validate(3, V), warp)
    assert all(getattr(warp, name) is None for name in OFF)
    assert jax.tree.leaves(Warp().validate(3, V)) == []


def test_only_ranking_filters_compile_a_sort():
    def sorts(**knobs):
        history = History(jnp.zeros((2, V), jnp.int32), jnp.zeros((2, V), jnp.int32))
        warp = Warp(**knobs).validate(2, V)
        text = warped.lower(warp, jnp.zeros((2, V)), history).as_text()
        return text.count("stablehlo.sort")

    unranked = {name: OFF[name] for name in OFF if name not in FILTERS}
    assert sorts(**unranked, banned=np.zeros(V, bool), logit_bias=np.zeros(V)) == 0
    assert sorts(min_p=0.1, epsilon=0.1) == 0
    assert sorts(top_k=2) == sorts(**{name: OFF[name] for name in OFF if name != "typical"}) == 1
    assert sorts(**OFF) == 2


def test_changing_values_does_not_compile_again():
    fn = jax.jit(chex.assert_max_traces(lambda warp, x, h: warp.log_probs(x, h), n=1))
    rng = np.random.default_rng(11)
    logits, history = jnp.asarray(rng.normal(size=(4, V)), jnp.float32), draw_history(rng, 4)
    for _ in range(12):
        fn(Warp(**draw_knobs(rng, EVERYTHING, 4)).validate(4, V), logits, history)
    fn(
        Warp(**OFF, logit_bias=np.zeros(V), banned=np.zeros(V, bool)).validate(4, V),
        logits,
        history,
    )


@pytest.mark.parametrize("name", ["epsilon", "min_p"])
def test_a_subnormal_floor_is_none(name):
    law = log_of(1.0, 1e-38, 3e-45)
    for given in (1e-45, np.array([1e-45], np.float32)):
        warp = Warp(**{name: given}).validate(1, 3)
        np.testing.assert_array_equal(support(warped(warp, law)), support(law))
