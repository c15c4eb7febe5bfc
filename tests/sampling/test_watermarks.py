"""Watermarks: laws are unchanged over secrets, the same tokens whoever decodes, and found again by a valid test."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters, watermarks
from jaxdec.sampling import Warp, row_keys
from jaxdec.sampling.watermarks import Exponential, GreenList, InverseTransform
from jaxdec.sampling.watermarks.contract import secret_keys
from jaxdec.sampling.watermarks.green_list import is_green
from jaxdec.testing import oracles
from jaxdec.testing.statistics import g_test

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 11
MODEL, TABLE = oracles.hash_oracle(V, seed=1)
PARAMS = {"target": TABLE, "draft": oracles.blend(TABLE, oracles.hash_oracle(V, seed=2)[1], 0.3)}
PLAIN = jaxdec.autoregressive(MODEL)
WALK = jaxdec.speculative(MODEL, drafter=drafters.model(MODEL, length=3))
PROMPT = np.array([[1, 2, 3], [4, 5, 0], [6, 1, 0], [7, 8, 9]])
LENGTHS = np.array([3, 2, 1, 3])
ASKED = dict(rng=5, lengths=LENGTHS, max_new_tokens=20, temperature=[0.0, 0.7, 1.0, 1.6])
SLOW = pytest.mark.slow
KEYED = pytest.mark.parametrize("kind", [Exponential, InverseTransform])
MOSTLY_INVERSE = pytest.mark.parametrize(
    "kind", [pytest.param(Exponential, marks=SLOW), InverseTransform]
)
MOSTLY_EXPONENTIAL = pytest.mark.parametrize(
    "kind", [Exponential, pytest.param(InverseTransform, marks=SLOW)]
)
LAW = np.array([0.5, 0.0, 0.3, 0.15, 0.05])


def generated(result, row):
    return np.asarray(result.tokens)[
        row, int(result.prompt_lengths[row]) : int(result.lengths[row])
    ]


def test_intervals_are_as_long_as_tokens_are_probable():
    orders = np.array(list(itertools.permutations(range(5))))
    with jax.enable_x64(True):
        sums = np.cumsum(LAW[orders], axis=1)
        edges = np.sort(np.concatenate([np.zeros((120, 1)), sums, np.ones((120, 1))], axis=1))
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        law = jnp.broadcast_to(jnp.asarray(LAW), (120, 6, 5))
        found = watermarks.inverse_transform(
            law, jnp.asarray(orders)[:, None], jnp.asarray(middles)
        )
    length = (np.asarray(found)[..., None] == np.arange(5)) * np.diff(edges)[..., None]
    np.testing.assert_allclose(length.sum(1), np.broadcast_to(LAW, (120, 5)), atol=1e-12)


def test_the_first_of_exponential_clocks_has_the_law():
    """Token v wins where E_v / p_v = t and all others are later: the sum over t is exact by Gauss-Laguerre."""
    t, weight = np.polynomial.laguerre.laggauss(40)
    for v in np.flatnonzero(LAW):
        others = np.exp(-t * np.delete(LAW, v).sum())
        density = LAW[v] * np.exp(-t * LAW[v]) * others
        assert abs((weight * np.exp(t) * density).sum() - LAW[v]) < 1e-9


def test_exponential_draws_the_first_clock():
    warp = Warp(watermark=Exponential(secret=3, length=40)).validate(6, 5)
    places = jnp.arange(200).reshape(1, 200) + jnp.zeros((6, 1), jnp.int32)
    noise = np.asarray(warp.token_noise(row_keys(0, 6), places, 5), np.float64)
    law = jnp.log(jnp.asarray(LAW, jnp.float32))
    drawn = np.asarray(warp.draw(jnp.broadcast_to(law, noise.shape), jnp.asarray(noise)))
    clocks = np.exp(-noise) / np.where(LAW > 0, LAW, 1e-200)
    assert (drawn == clocks.argmin(-1)).all() and (drawn != 1).all()
    np.testing.assert_array_equal(noise[:, :40], noise[:, 40:80])  # rows come again, and no sooner
    assert len(np.unique(noise[0, :40])) == 200


@KEYED
def test_two_tokens_have_their_joint_law_over_secrets(kind):
    rows = 20_000
    warp = Warp(watermark=kind(secret=np.arange(rows), length=7)).validate(rows, 3)
    law = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])

    @jax.jit
    def draw(warp):
        places = jnp.broadcast_to(jnp.array([4, 5]), (rows, 2))
        keys = jnp.broadcast_to(row_keys(9, 1), (rows,))  # one text key: only secrets differ
        noise = warp.token_noise(keys, places, 3)
        return warp.draw(
            jnp.broadcast_to(jnp.log(jnp.asarray(law, jnp.float32)), noise.shape), noise
        )

    drawn = np.asarray(draw(warp))
    counts = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9)
    assert g_test(counts, np.outer(*law).reshape(-1)) > 1e-4


@KEYED
def test_speculative_tokens_are_those_of_plain_decoding(kind):
    mark = kind(secret=jax.random.key(7), length=16)
    plain = jaxdec.generate(PLAIN, PARAMS, PROMPT, watermark=mark, **ASKED)
    walk = jaxdec.generate(WALK, PARAMS, PROMPT, watermark=mark, **ASKED)
    np.testing.assert_array_equal(plain.tokens, walk.tokens)
    assert int(walk.stats.accepted[2]) > 5
    free = jaxdec.generate(PLAIN, PARAMS, PROMPT, **ASKED)
    same = [(generated(plain, row) == generated(free, row)).all() for row in range(4)]
    assert same == [True, False, False, False]  # a certain law carries nothing
    # A drafter of the target's own law, with its noise, is always right.
    sure = jaxdec.generate(WALK, {**PARAMS, "draft": TABLE}, PROMPT, watermark=mark, **ASKED)
    np.testing.assert_array_equal(plain.tokens, sure.tokens)
    np.testing.assert_array_equal(sure.stats.target_forwards, [5, 5, 5, 5])


@MOSTLY_INVERSE
def test_gaps_are_filled_with_the_same_tokens(kind):
    """Where a drafter draws for the target, too: the first self-draft is never verified."""
    visible = np.arange(14) % 5 < 1
    decode = lambda decoder: jaxdec.infill(
        decoder,
        PARAMS,
        np.ones((2, 14), int),
        np.stack([visible, visible[::-1]]),
        rng=3,
        watermark=kind(secret=4),
    )
    drafted = jaxdec.speculative(MODEL, drafter=jaxdec.any_subset.self_draft(MODEL, width=3))
    np.testing.assert_array_equal(decode(PLAIN).tokens, decode(drafted).tokens)


@MOSTLY_INVERSE
def test_a_row_is_what_it_is_alone_and_its_shift_is_its_own(kind):
    asked = {**ASKED, "temperature": 1.0, "rng": [1, 2, 3, 4]}
    secrets = np.array([8, 8, 9, 8])
    both = jaxdec.generate(PLAIN, PARAMS, PROMPT, watermark=kind(secret=secrets), **asked)
    for row in (0, 2):
        alone = {**asked, "lengths": LENGTHS[row : row + 1], "rng": asked["rng"][row]}
        mark = kind(secret=jax.random.key(int(secrets[row])), length=256)
        one = jaxdec.generate(PLAIN, PARAMS, PROMPT[row : row + 1], watermark=mark, **alone)
        np.testing.assert_array_equal(one.tokens[0], both.tokens[row])
    shifts = kind(secret=0, length=97).validated(4, V).rows(row_keys(0, 4), jnp.zeros(4, jnp.int32))
    assert len(np.unique(jax.random.key_data(shifts), axis=0)) == 4


def test_a_secret_compiles_nothing():
    @jax.jit
    def decode(secret, length):
        mark = InverseTransform(secret=secret, length=length)
        return jaxdec.generate(PLAIN, PARAMS, PROMPT, watermark=mark, **ASKED).tokens

    first, second = decode(np.int32(3), np.int32(9)), decode(np.int32(4), np.int32(300))
    assert decode._cache_size() == 1 and (np.asarray(first) != np.asarray(second)).any()
    known = jaxdec.generate(
        PLAIN, PARAMS, PROMPT, watermark=InverseTransform(secret=4, length=300), **ASKED
    )
    np.testing.assert_array_equal(second, known.tokens)


def alignment(costs, block, gap=None):
    """The statistic as it is defined, by loops."""
    (rows, size), found = costs.shape, []
    block = min(block, size)
    for i, j in itertools.product(range(size - block + 1), range(rows)):
        own = lambda a, b, i=i, j=j: costs[(j + b) % rows, i + a]
        if gap is None:
            found.append(sum(own(a, a) for a in range(block)))
            continue
        table = np.zeros((block + 1, block + 1))
        table[0], table[:, 0] = np.arange(block + 1) * gap, np.arange(block + 1) * gap
        for a, b in itertools.product(range(block), range(block)):
            table[a + 1, b + 1] = min(
                table[a, b + 1] + gap, table[a + 1, b] + gap, table[a, b] + own(a, b)
            )
        found.append(table[block, block])
    return min(found)


def test_alignments_are_those_of_loops():
    rng, width = np.random.default_rng(0), 7
    aligned = jax.jit(watermarks.aligned, static_argnums=2)
    edited = jax.jit(watermarks.edited, static_argnums=2)
    with jax.enable_x64(True):
        for block, gap in ((7, 0.4), (3, 0.0)):
            for size in (0, 2, 5, 7):
                costs = rng.normal(size=(5, width))
                costs[:, size:] = np.nan  # is not read
                own = costs[:, :size]
                found = float(aligned(jnp.asarray(costs), jnp.int32(size), block))
                assert abs(found - (alignment(own, block) if size else 0)) < 1e-12
                found = float(edited(jnp.asarray(costs), jnp.int32(size), block, gap))
                assert abs(found - (alignment(own, block, gap) if size else 0)) < 1e-12


@pytest.mark.parametrize(
    "kind, gap",
    [
        (Exponential, None),
        (InverseTransform, 0.3),
        pytest.param(Exponential, 0.3, marks=SLOW),
        pytest.param(InverseTransform, None, marks=SLOW),
    ],
)
def test_p_values_of_foreign_texts_are_not_too_small(kind, gap):
    """P(p <= a) <= a over secrets, for any text; here over 400, for a = 1/4, where the share has a spread of 0.022."""
    texts = np.random.default_rng(1).choice(V, p=np.arange(V) / 55, size=(2, 5))
    read = lambda secret: (
        watermarks.detect(
            kind(secret=secret, length=8),
            texts,
            vocab_size=V,
            rng=1000 + secret,
            nulls=19,
            gap=gap,
            lengths=[4, 5],
            block=3,
        ).p_value
    )
    found = np.asarray([read(secret) for secret in range(400)])
    assert found.min() >= 0.05
    for rate in (found <= 0.25).mean(0):
        assert 0.15 < rate < 0.25 + 3 * 0.022, rate


@MOSTLY_EXPONENTIAL
def test_texts_are_found_after_edits(kind):
    mark = kind(secret=12, length=32)
    written = jaxdec.generate(
        PLAIN,
        PARAMS,
        np.ones((4, 1), int),
        rng=0,
        max_new_tokens=32,
        temperature=4.0,
        watermark=mark,
    )
    texts = np.stack([generated(written, row) for row in range(4)])
    rng = np.random.default_rng(0)
    texts[1] = np.where(rng.random(32) < 0.2, rng.integers(V, size=32), texts[1])
    texts[2] = np.concatenate([texts[2][:6], texts[2][8:19], texts[2][20:], [0, 0, 0]])
    texts[3, :12] = rng.integers(V, size=12)
    read = lambda **options: np.asarray(
        watermarks.detect(mark, texts, vocab_size=V, rng=1, nulls=99, lengths=[32, 32, 29, 32], **options).p_value
    )  # fmt: skip
    low = 2 / 100
    blocks, edits = read(block=16), read(gap=mark.gap)
    assert blocks[0] <= low and blocks[1] <= low
    assert edits[0] <= low and edits[2] <= low
    assert blocks[3] <= low
    other = kind(secret=13, length=32)
    assert (
        np.asarray(watermarks.detect(other, texts, vocab_size=V, rng=1, nulls=99, block=16).p_value)
        > low
    ).all()


@jax.jit
def green_after(mark, before, row):
    view = jnp.broadcast_to(before, (4, *before.shape))
    return is_green(secret_keys(mark.secret), view, 0.25, V)[row]


def test_green_tokens_are_raised_and_counted():
    mark = GreenList(secret=3, bias=[0.0, 3.0, 3.0, 3.0], context=2)
    asked = {**ASKED, "temperature": [1.0, 0.0, 0.7, 1.6]}
    plain = jaxdec.generate(PLAIN, PARAMS, PROMPT, watermark=mark, **asked)
    walk = jaxdec.generate(WALK, PARAMS, PROMPT, watermark=mark, **asked)
    np.testing.assert_array_equal(plain.tokens, walk.tokens)
    free = jaxdec.generate(PLAIN, PARAMS, PROMPT, **asked)
    np.testing.assert_array_equal(plain.tokens[0], free.tokens[0])
    np.testing.assert_array_equal(plain.log_probs[0], free.log_probs[0])

    tokens, lengths = np.asarray(plain.tokens), np.asarray(plain.lengths)
    count = watermarks.count_green(
        GreenList(secret=3, context=2), tokens, vocab_size=V, lengths=lengths
    )
    one = mark.validated(4, V)
    for row in range(4):
        text = tokens[row, : lengths[row]].tolist()
        runs = dict.fromkeys(tuple(text[i - 2 : i + 1]) for i in range(2, len(text)))
        before = np.array([[b, a] for a, b, _ in runs])
        green = np.asarray(green_after(one, np.pad(before, ((0, 32 - len(before)), (0, 0))), row))
        hits = sum(green[i, run[-1]] for i, run in enumerate(runs))
        assert (int(count.hits[row]), int(count.count[row])) == (hits, len(runs))
        m, tail = len(runs), 0.0
        for h in range(hits, m + 1):
            tail += math.comb(m, h) * 0.25**h * 0.75 ** (m - h)
        np.testing.assert_allclose(count.p_value[row], tail, rtol=1e-3)
        np.testing.assert_allclose(count.z[row], (hits - m / 4) / math.sqrt(m * 3 / 16), rtol=1e-5)
    assert (np.asarray(count.p_value)[[1, 2]] < 0.01).all() and float(count.p_value[0]) > 0.01


def test_what_is_refused():
    generate = lambda mark, decoder=PLAIN, **asked: jaxdec.generate(
        decoder, PARAMS, PROMPT, rng=0, max_new_tokens=2, watermark=mark, **asked
    )
    ratio = jaxdec.speculative(
        MODEL, drafter=drafters.model(MODEL, length=2), verifier=jaxdec.verifiers.TokenRatio()
    )
    detect = lambda mark, tokens=PROMPT, **options: watermarks.detect(
        mark, tokens, vocab_size=V, rng=0, **options
    )
    canvas = jaxdec.denoise(oracles.canvas(MODEL))
    infill = lambda mark: jaxdec.infill(
        PLAIN, PARAMS, PROMPT, np.arange(12).reshape(4, 3) % 3 < 2, rng=0, watermark=mark
    )
    good = Exponential(secret=1)
    for call, message in (
        (lambda: generate(7), "must be one of `jaxdec.watermarks`"),
        (lambda: generate(Exponential(secret=-1)), "out of range, must be a key"),
        (lambda: generate(Exponential(secret="me")), "got str, must be a key"),
        (lambda: generate(Exponential(secret=[1, 2, 3])), r"got shape \(3,\), must be one key or seed, or 4"),
        (lambda: generate(Exponential(secret=1.5)), "got type dtype.*float64"),
        (lambda: generate(InverseTransform(secret=1, length=0)), r"watermark length: got 0, must be an integer in \[1"),
        (lambda: generate(GreenList(secret=1, fraction=1.0)), r"fraction: got 1.0, must be in \(0, 1\)"),
        (lambda: generate(GreenList(secret=1, context=0)), r"context: got 0, must be an integer in \[1, 8\]"),
        (lambda: generate(good, ratio), "got Exponential with TokenRatio"),
        (lambda: generate(good, canvas), "for a canvas"),
        (lambda: infill(GreenList(secret=1)), "watermark reads the tokens before"),
        (lambda: detect(GreenList(secret=1)), "count_green reads a GreenList"),
        (lambda: watermarks.count_green(good, PROMPT, vocab_size=V), "detect reads the others"),
        (lambda: detect(good, PROMPT + 4), "got 11, must lie in"),
        (lambda: detect(good, PROMPT, lengths=[1, 2, 3, 4]), r"must lie in \[0, 3\]"),
        (lambda: detect(good, PROMPT, nulls=0), "nulls: got 0"),
        (lambda: detect(good, PROMPT, gap=math.inf), "gap: got inf"),
        (lambda: detect(good, PROMPT, block=0), "block: got 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message) as raised:
            call()
        assert "secret: got 1" not in str(raised.value)
    assert "1" not in repr(good).replace("length=256", "")  # a secret is in no description
    generate(GreenList(secret=1), ratio)


@pytest.mark.slow
def test_requests_of_an_engine_have_secrets_of_their_own():
    engine = jaxdec.requests.Engine(
        PLAIN, PARAMS, slots=2, max_prompt=8, max_new_tokens=8, watermark=InverseTransform(secret=0)
    )
    marks = [InverseTransform(secret=secret, length=20) for secret in (1, 2, 3)]
    calls = [
        jaxdec.requests.Call([1, 2], rng=4, max_new_tokens=8, knobs={"watermark": mark}, tag=i)
        for i, mark in enumerate(marks)
    ]
    for done in engine.serve(calls):
        mark = marks[done.call.tag]
        alone = jaxdec.generate(PLAIN, PARAMS, [[1, 2]], rng=[4], max_new_tokens=8, watermark=mark)
        np.testing.assert_array_equal(done.tokens, np.asarray(alone.tokens)[0, :10])
    other = jaxdec.requests.Call([1], rng=0, knobs={"watermark": Exponential(secret=1)})
    refused = list(engine.serve([other]))
    assert "of the kind that the engine was made with, InverseTransform" in str(refused[0])
