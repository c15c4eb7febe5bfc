"""Settings that a call of `generate` or `infill` turns into those of the pipeline and of the record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Status
from jaxdec.diffusion import unmask
from jaxdec.sampling import as_key, row_keys
from jaxdec.testing import oracles, parts

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB = 6
MODEL, TABLE = oracles.hash_oracle(VOCAB, seed=2, eos=(0,))
PARAMS = {"target": TABLE}
PLAIN = jaxdec.autoregressive(MODEL)
CANVAS = jaxdec.denoise(oracles.canvas(MODEL), unmask=unmask.threshold(0.4))
PROMPT = np.array([[1, 2, 3], [4, 5, 1]])
VISIBLE = np.array([[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], bool)


def test_a_seed_of_its_own_is_that_of_the_prompt_alone():
    decode = lambda prompt, rng: jaxdec.generate(PLAIN, PARAMS, prompt, rng=rng, max_new_tokens=9)
    both = decode(PROMPT, [3, 2**32 - 1])
    for row, seed in enumerate((3, 2**32 - 1)):
        alone = decode(PROMPT[row : row + 1], seed)
        np.testing.assert_array_equal(both.tokens[row], alone.tokens[0])


def test_seeds():
    data = jax.random.key_data
    wanted = data(jnp.stack([row_keys(seed, 1)[0] for seed in (3, 8)]))
    for seeds in ([3, 8], (3, 8), np.array([3, 8]), jnp.array([3, 8])):
        np.testing.assert_array_equal(data(row_keys(seeds, 2)), wanted)
    np.testing.assert_array_equal(data(jax.jit(as_key)(jnp.array([3, 8]))), wanted)
    many = row_keys([3, 8], 4, 2)
    np.testing.assert_array_equal(data(many[::2]), wanted)
    for seeds, message in (
        ([1, -1], r"seeds in \[0, 4294967296\), got -1"),
        ([1 << 32, 2], "got 4294967296"),
        ([0.5, 1.0], "integer seeds, got dtype float64"),
        ([1, 2, 3], "one key or 2 keys"),
        (jax.random.PRNGKey(0), "rng must be a key"),  # of the old kind: its numbers are no seeds
    ):
        with pytest.raises(ValueError, match=message):
            row_keys(seeds, 2)


def test_the_most_probable_tokens():
    options = dict(rng=0, max_new_tokens=9, temperature=[0.0, 1.5], banned=np.arange(VOCAB) == 2)
    plain = jaxdec.generate(PLAIN, PARAMS, PROMPT, **options)
    ranked = jaxdec.generate(PLAIN, PARAMS, PROMPT, top_log_probs=VOCAB, **options)
    assert plain.top is None
    np.testing.assert_array_equal(plain.tokens, ranked.tokens)
    tokens, laws = np.asarray(ranked.top.tokens), np.asarray(ranked.top.log_probs)
    assert tokens.dtype == np.int32 and laws.dtype == np.float32
    for row in range(2):
        for i in range(3, int(ranked.lengths[row])):
            # All tokens of the law, the banned one too, under the model's own law.
            assert sorted(tokens[row, i]) == list(range(VOCAB))
            np.testing.assert_allclose(np.exp(laws[row, i]).sum(), 1, rtol=1e-5)
            own = laws[row, i][tokens[row, i] == ranked.tokens[row, i]]
            np.testing.assert_allclose(own, ranked.raw_log_probs[row, i], atol=1e-6)
        assert not laws[row, :3].any() and not laws[row, int(ranked.lengths[row]) :].any()


def test_the_most_probable_tokens_by_position():
    fill = jaxdec.infill(PLAIN, PARAMS, np.ones((2, 6), int), VISIBLE, rng=0, top_log_probs=VOCAB)
    own = np.asarray(fill.top.tokens) == np.asarray(fill.tokens)[..., None]
    raw = np.where(own, fill.top.log_probs, 0).sum(-1)
    np.testing.assert_allclose(raw[~VISIBLE], fill.raw_log_probs[~VISIBLE], atol=1e-6)
    assert not np.asarray(fill.top.log_probs)[VISIBLE].any()


def test_what_is_not_asked_for_is_not_computed():
    def operations(**options):
        request = jaxdec.prepare(PLAIN, PARAMS, PROMPT, **options)
        step = lambda state, keys: PLAIN.step(PARAMS, state, keys)
        state = jax.eval_shape(lambda: PLAIN.init(PARAMS, request))
        return str(jax.make_jaxpr(step)(state, row_keys(0, 2)))

    assert "top_k" in operations(top_log_probs=2)
    assert "top_k" not in operations()


def test_the_ends_are_those_that_end_a_row():
    least = [0, 30]
    run = lambda **more: jaxdec.generate(
        PLAIN,
        PARAMS,
        PROMPT,
        rng=5,
        max_new_tokens=40,
        logit_bias=2.0 * (np.arange(VOCAB) == 0),
        **more,
    )
    short, long = run(), run(min_new_tokens=least)
    assert short.status == [Status.EOS] * 2 and (np.asarray(short.lengths) < 30).all()
    assert long.status == [Status.EOS] * 2
    assert long.lengths[0] == short.lengths[0] and long.lengths[1] >= 33
    free = run(eos=(), min_new_tokens=least)  # no token ends a row: nothing is banned
    assert free.status == [Status.LENGTH] * 2 and (np.asarray(free.tokens)[:, 3:33] == 0).any()


def test_given_tokens_come_first():
    result = jaxdec.generate(
        PLAIN, PARAMS, PROMPT, rng=1, max_new_tokens=5, forced_prefix=[[2, 2], [4, 5, 3]], eos=()
    )
    assert np.asarray(result.tokens)[0, 3:5].tolist() == [2, 2]
    assert np.asarray(result.tokens)[1, 3:6].tolist() == [4, 5, 3]
    assert not np.asarray(result.log_probs)[0, 3:5].any()
    assert (np.asarray(result.raw_log_probs)[0, 3:5] < 0).all()


def test_rows_that_nothing_is_left_to_end():
    result = jaxdec.generate(
        PLAIN, PARAMS, PROMPT, rng=1, max_new_tokens=12, no_repeat_ngram=[0, 1], eos=()
    )
    assert result.status == [Status.LENGTH, Status.NONFINITE]
    assert sorted(np.asarray(result.tokens)[1, : int(result.lengths[1])]) == list(range(VOCAB))


@pytest.mark.parametrize("name, value", [("no_repeat_ngram", 2), ("bad_words", [[1, 2]])])
def test_what_reads_the_tokens_to_the_left_is_refused_where_they_may_be_unknown(name, value):
    with pytest.raises(ValueError, match=f"^{name} reads the tokens before a place"):
        jaxdec.infill(PLAIN, PARAMS, np.ones((2, 6), int), VISIBLE, rng=0, **{name: value})
    with pytest.raises(ValueError, match=f"^{name} reads the tokens before a place"):
        jaxdec.prepare(CANVAS, PARAMS, PROMPT, **{name: value})


@pytest.mark.parametrize("count", [-1, VOCAB + 1, 1.5])
def test_counts_of_reported_tokens(count):
    with pytest.raises(ValueError, match="top_log_probs must"):
        jaxdec.prepare(PLAIN, PARAMS, PROMPT, top_log_probs=count)


def test_bans_hold_on_canvases():
    """By place: the law of a place knows how many tokens are generated before it."""
    parts.check_bans_on_canvases()
