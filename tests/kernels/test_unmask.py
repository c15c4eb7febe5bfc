import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

import jaxdec
import pallas_kernels
from jaxdec import diffusion
from jaxdec.sampling import Warp, perturbed_argmax
from jaxdec.sampling.noise import gumbel
from jaxdec.testing import oracles
from pallas_kernels.unmask import Readout, Statistics, cases, gpu, reference, tpu, unmask
from tests.kernels.interpreting import checked

pytestmark = pytest.mark.usefixtures("quick_compilation")
LOWEST = float(jnp.finfo(jnp.float32).min)


def typed(words):
    return None if words is None else jax.random.wrap_key_data(words, impl="threefry2x32")


@functools.cache
def compiled(form, fused):
    """A kernel in interpret mode, in several blocks in both directions."""
    if form == "tpu":
        call = functools.partial(tpu.unmask, blocks=(16, 256))
    else:
        call = functools.partial(gpu.unmask, blocks=(16 if fused else 2, 128), interpret=True)
    return jax.jit(lambda scores, words, *rest: call(scores, typed(words), *rest))


def run(form, scores, words, temperature, banned=None):
    with checked() if form == "tpu" else contextlib.nullcontext():
        call = compiled(form, isinstance(scores, Readout))
        return jax.block_until_ready(call(scores, words, temperature, banned))


@jax.jit
def expected(scores, words, temperature, banned=None):
    return reference.unmask(scores, typed(words), temperature, banned)


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    for law in ("own", "warped"):
        for field in Statistics._fields:
            a, b = getattr(getattr(found, law), field), getattr(getattr(wanted, law), field)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=f"{law}.{field}")


@pytest.mark.parametrize("form", ["tpu", "gpu"])
@pytest.mark.parametrize("case", cases.SMALL, ids=lambda case: case.name)
def test_kernels_agree_with_the_reference(form, case):
    arguments = case.arrays()
    found = run(form, *arguments)
    assert_same(found, expected(*arguments))
    if case.name == "ragged":
        again = run(form, *arguments)
        jax.tree.map(np.testing.assert_array_equal, found, again)


def odd_rows():
    """Rows at the edges of the rules: logits `[16, 300]`, temperatures, and bans of each row."""
    logits = np.random.default_rng(5).normal(size=(16, 300)).astype(np.float32) * 3
    logits[3, 40] = np.nan
    logits[4, 290] = np.inf
    logits[5] = -np.inf
    logits[6] = -np.inf
    logits[6, 299] = 2.0  # one token is possible
    logits[7, [20, 250, 299]] = 50.0  # three tie
    logits[8, [250, 131]] = 50.0
    logits[9] = LOWEST
    logits[9, 17] = -1.0
    logits[10] = 1e30
    logits[11] -= 1e4
    logits[12, 260] = np.nan  # banned, and the model is broken all the same
    temperature = np.array([0, 1e-39, 1, 1, 1, 1, 1, 0, 1e-30, 1, 1, 0.7, 1, 1, 0, 60], np.float32)
    banned = np.random.default_rng(6).random(logits.shape) < 0.2
    banned[6:9] = False
    banned[12, 260] = banned[13:15] = True  # nothing is left
    return jnp.asarray(logits), jnp.asarray(temperature), jnp.asarray(banned)


@functools.cache
def odd_results(form):
    logits, temperature, banned = odd_rows()
    words = jax.random.key_data(jax.random.split(jax.random.key(2), 16))
    return (expected if form == "reference" else functools.partial(run, form))(
        logits, words, temperature, banned
    )


@pytest.mark.parametrize("form", ["reference", "tpu", "gpu"])
def test_odd_rows(form):
    found = odd_results(form)
    assert_same(found, odd_results("reference"))
    broken = np.isin(np.arange(16), [3, 4, 5, 12])
    np.testing.assert_array_equal(np.isnan(found.own.entropy), broken)
    broken[[13, 14]] = True
    for field in found.warped:
        np.testing.assert_array_equal(np.isnan(field), broken)
    np.testing.assert_array_equal(np.isnan(found.own.log_prob), broken)
    assert not np.asarray(found.tokens)[broken].any()
    assert found.tokens[6] == 299 and found.own.second[6] == -np.inf
    assert found.tokens[7] == 20 and found.own.second[7] == found.own.top[7]
    assert found.tokens[8] in (131, 250)
    np.testing.assert_allclose(found.warped.top[8], -np.log(2), rtol=1e-6)
    np.testing.assert_allclose(found.warped.entropy[7], 0)  # greedy among equals
    np.testing.assert_allclose(found.own.entropy[10], np.log(300), rtol=1e-5)


def test_the_reference_is_the_law_and_the_draw_of_the_decoders():
    logits, temperature, banned = odd_rows()
    keys = jax.random.split(jax.random.key(2), 16)
    warp = Warp(temperature=temperature, banned=banned)
    law = warp.log_probs(logits)
    tokens = perturbed_argmax(law, gumbel(keys, 300))
    found = odd_results("reference")
    np.testing.assert_array_equal(found.tokens, tokens)
    for result, of in ((found.warped, law), (found.own, jax.nn.log_softmax(logits))):
        of = np.asarray(of, np.float64)
        two = -np.sort(-of, axis=1)[:, :2]
        chance = np.exp(of)
        with np.errstate(invalid="ignore"):
            entropy = -np.where(chance > 0, chance * of, chance * 0).sum(1)
        good = ~np.isnan(result.log_prob)
        at = of[np.arange(16), tokens]
        for a, b in zip(result[:4], (at, *two.T, entropy), strict=True):
            np.testing.assert_allclose(a[good], b[good], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found.own.logsumexp[15], jax.nn.logsumexp(logits[15]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("form", ["reference", "tpu", "gpu"])
def test_greedy_rows_do_not_look_at_noise(form):
    logits, temperature, banned = odd_rows()
    logits, banned = jnp.roll(logits, 1, axis=1)[13:], banned[:1].repeat(3, 0)
    logits, banned = jnp.tile(logits, (6, 1))[:16], jnp.tile(banned, (6, 1))[:16]
    words = jax.random.key_data(jax.random.split(jax.random.key(2), 16))
    call = expected if form == "reference" else functools.partial(run, form)
    found = call(logits, words, temperature, banned)
    other = call(logits, words[::-1], temperature, banned)
    greedy = np.asarray(temperature) < 1e-38
    best = np.argmax(np.where(banned, -np.inf, logits), 1)
    np.testing.assert_array_equal(found.tokens[greedy], best[greedy])
    np.testing.assert_array_equal(found.tokens[greedy], other.tokens[greedy])
    assert (found.tokens != other.tokens).any()
    without = call(logits, None, jnp.ones(16))
    np.testing.assert_array_equal(without.tokens, np.argmax(logits, 1))
    np.testing.assert_array_equal(without.warped.log_prob, np.zeros(16))


def test_temperature_and_keys_have_defaults_and_two_forms():
    logits, words, _, _ = cases.Case("defaults", 3, 40).arrays()
    call = jax.jit(unmask)
    plain = call(logits, typed(words), None)
    jax.tree.map(np.testing.assert_array_equal, plain, call(logits, words, jnp.ones(3)))
    np.testing.assert_allclose(plain.own.top, plain.warped.top, rtol=1e-6)
    np.testing.assert_allclose(plain.own.max_prob, jax.nn.softmax(logits).max(1), rtol=1e-5)
    two = -np.sort(-np.asarray(jax.nn.softmax(logits)), axis=1)
    np.testing.assert_allclose(plain.own.margin, two[:, 0] - two[:, 1], rtol=1e-5)


def test_impossible_calls_are_refused():
    logits, words, heat, _ = cases.Case("refused", 4, 40).arrays()
    with pytest.raises(ValueError, match=r"\[N, V\], got \(4,\)"):
        unmask(heat, words, heat)
    with pytest.raises(ValueError, match="there must be a row"):
        unmask(logits[:0], words, heat)
    with pytest.raises(ValueError, match=r"temperature must be of shape \(4,\), got \(3,\)"):
        unmask(logits, words, heat[:3])
    with pytest.raises(ValueError, match="uint32"):
        unmask(logits, words.astype(jnp.int32), heat)
    with pytest.raises(ValueError, match=r"keys must be of shape \(4,\), got \(2,\)"):
        unmask(logits, jax.random.split(jax.random.key(0), 2), heat)
    with pytest.raises(ValueError, match=r"a divisor of 4, got \(3, 40\)"):
        unmask(logits, words, heat, jnp.zeros((3, 40), bool))
    with pytest.raises(ValueError, match="bool"):
        unmask(logits, words, heat, jnp.zeros((4, 40)))
    with pytest.raises(ValueError, match="no common D"):
        unmask(Readout(logits, logits.T), words, heat)
    with pytest.raises(ValueError, match="vocab_axis"):
        unmask(Readout(logits, logits, 2), words, heat)
    rbg = jax.random.split(jax.random.key(0, impl="rbg"), 4)
    assert jax.eval_shape(unmask, logits, rbg, heat).tokens.shape == (4,)
    with pytest.raises(ValueError, match="rbg"):
        unmask(logits, rbg, heat, implementation="tpu")
    with pytest.raises(ValueError, match="float16"), pallas_kernels.use("gpu"):
        unmask(logits.astype(jnp.float16), words, heat)


@pytest.mark.parametrize("case", cases.REAL, ids=lambda case: case.name)
def test_gpu_kernels_lower_at_real_sizes(case):
    with pallas_kernels.use("gpu"):
        traced = jax.jit(lambda *arguments: unmask(*arguments)).trace(*case.shapes())
    assert "unmask" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("rows", [1, 64, 512])
@pytest.mark.parametrize("width", [None, 1024, 4096, 8192])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_tpu_blocks_fit(rows, width, itemsize):
    row_block, columns = tpu.block_sizes(rows, 151936, itemsize, width)
    assert row_block % (32 // itemsize) == 0 and columns % 128 == 0
    held = 2 * itemsize * (width * (row_block + columns) if width else row_block * columns)
    assert held <= 12 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    "decode",
    [
        {"unmask": diffusion.unmask.threshold(0.6), "stop": diffusion.prophet()},
        {"unmask": diffusion.unmask.quota("warped_token_prob", steps=3), "branches": 2},
        {"unmask": diffusion.unmask.saber(), "remask": diffusion.backtracking()},
    ],
    ids=["threshold", "token_prob", "saber"],
)
def test_canvases_are_decoded_alike(decode):
    model, params = oracles.hash_oracle(7, scale=1.5)
    decoder = jaxdec.denoise(oracles.canvas(model), **decode)
    banned = np.zeros(8, bool)
    banned[[2, 7]] = True
    options = dict(
        prompt=np.array([[1, 2, 3], [4, 0, 0], [5, 5, 0]]),
        lengths=np.array([3, 1, 2]),
        max_new_tokens=6,
        rng=jax.random.key(1),
        temperature=np.array([0, 0.8, 1.5]),
        banned=banned,
    )
    with pallas_kernels.use("reference"):
        wanted = jaxdec.generate(decoder, {"target": params}, **options)
    quick = pltpu.InterpretParams(out_of_bounds_reads="raise", uninitialized_memory="nan")
    with pallas_kernels.use("tpu"), pltpu.force_tpu_interpret_mode(quick):
        found = jaxdec.generate(decoder, {"target": params}, **options)
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.steps, wanted.steps)
    np.testing.assert_allclose(found.log_probs, wanted.log_probs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.raw_log_probs, wanted.raw_log_probs, rtol=1e-5, atol=1e-5)
    assert not np.isin(np.asarray(found.tokens)[:, 3:], [2, 7]).any()
