"""Masked sets of training windows, and the diffusion objectives over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import visibility
from jaxdec.diffusion import canvas_model, next_token, shifted
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.testing import oracles
from jaxdec.training import noising, objectives
from jaxdec.training.noising import Noised, Noising

pytestmark = pytest.mark.usefixtures("quick_compilation")
STREAM = np.arange(4000) % 250
BLOCKS = Noising(blocks=(1, 4, 8), shares=(0.25, 0.25, 0.5))


def draw(kind, **given):
    options = {"batch": 8, "length": 32, "seed": 0, "step": 3, **given}
    return noising.draw(STREAM, kind, **options)


@pytest.fixture(scope="module")
def tiny():
    config = TransformerConfig(
        vocab_size=260, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    return from_nnx(Transformer(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("kind", [BLOCKS, Noising()])
def test_the_two_uses_of_a_window_are_complements(kind):
    batch = draw(kind)
    assert not (batch.first & batch.second).any()
    used = batch.first | batch.second
    if kind.blocks:
        assert used.all()
    else:  # a prefix may be kept clean
        assert (np.diff(used.astype(int), axis=1) >= 0).all() and used[:, 16:].all()
        assert 0 < (~used[:, 0]).sum() < 8


def test_batches_are_a_function_of_the_seed_and_the_step():
    for one, two in zip(draw(BLOCKS), draw(BLOCKS), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (draw(BLOCKS, step=4).tokens != draw(BLOCKS).tokens).any()
    assert (draw(BLOCKS, seed=1).first != draw(BLOCKS).first).any()


def test_blocks_have_their_shares_and_rates_are_uniform():
    sizes = np.concatenate([draw(BLOCKS, step=step).blocks[:, 0] for step in range(50)])
    shares = [np.mean(sizes == size) for size in (1, 4, 8)]
    np.testing.assert_allclose(shares, (0.25, 0.25, 0.5), atol=0.01)
    batch = draw(Noising(blocks=(8,), shares=(1.0,)), batch=64, length=64)
    rates = batch.rates.reshape(64, 8, 8)
    assert (rates == rates[..., :1]).all()  # one rate a block
    counts, _ = np.histogram(rates[..., 0], bins=8, range=(0, 1))
    assert abs(counts - 64).max() <= 2  # stratified
    np.testing.assert_allclose(batch.first.mean(), 0.5, atol=0.02)


@pytest.mark.slow
def test_the_block_objective_is_the_forward_that_decoding_makes(tiny):
    model, params = tiny
    forward, batch = jax.jit(model), draw(BLOCKS)
    logits, tokens, weights = objectives.block_diffusion(model, params, batch)
    np.testing.assert_array_equal(tokens, np.tile(batch.tokens, (1, 2)))
    np.testing.assert_array_equal(weights, np.concatenate([batch.first, batch.second], axis=1))
    for row in (0, 3, 7):
        size = int(batch.blocks[row, 0])
        for copy, masked in enumerate((batch.first, batch.second)):
            for place in (0, 9, 31):
                start = place // size * size
                window = np.where((np.arange(32) >= start) & masked[row], 259, batch.tokens[row])
                places = jnp.arange(32)[None]
                spans = visibility.block_causal(places // size).where(places < start + size)
                inputs = Inputs(jnp.asarray(window)[None], places, *spans)
                expected = forward(params, inputs, None).logits[0, place]
                np.testing.assert_allclose(logits[row, copy * 32 + place], expected, atol=1e-4)


def test_the_canvas_objective_sees_the_whole_window(tiny):
    model, params = tiny
    batch = draw(Noising())
    logits, _, _ = objectives.masked_diffusion(model, params, batch)
    noised = jnp.where(batch.second, 259, batch.tokens)
    places = jnp.broadcast_to(jnp.arange(32), noised.shape)
    expected = model(params, Inputs(noised, places, *visibility.full(places)), None).logits
    np.testing.assert_allclose(logits[:, 32:], expected, atol=1e-5)


def test_blocks_of_one_give_the_likelihood(tiny):
    """Masked at rate one, each token is predicted from the clean ones before it: the law of `next_token`."""
    model, params = tiny
    tokens = draw(BLOCKS).tokens
    everything = np.ones(tokens.shape, bool)
    ones = np.ones((8, 1), np.int32)
    batch = Noised(tokens, everything, ~everything, everything.astype(np.float32), ones)
    logits = objectives.block_diffusion(model, params, batch).logits[:, :32]
    causal = next_token(canvas_model(model, 259))
    found = causal(params, Inputs.causal(jnp.asarray(tokens)), None).logits
    real = jnp.arange(260) != 259
    np.testing.assert_allclose(
        jax.nn.log_softmax(jnp.where(real, logits[:, 1:], -jnp.inf))[..., :259],
        jax.nn.log_softmax(found[:, :-1])[..., :259],
        atol=1e-4,
    )


@pytest.mark.parametrize("block", [None, 8])
def test_the_bound_of_a_uniform_model_is_the_size_of_its_alphabet(tiny, block):
    model, params = tiny
    zero = jax.tree.map(jnp.zeros_like, params)
    found = objectives.diffusion_bound(model, zero, STREAM, length=32, block=block, windows=125)
    np.testing.assert_allclose(found, np.log2(260), rtol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(blocks=(4,)), "needs a share"),
        (dict(blocks=(4,), shares=(0.5,)), "sum to 1"),
        (dict(blocks=(0,), shares=(1.0,)), "at least 1"),
        (dict(rates=(0.5, 0.2)), "in order, got 0.5 and 0.2"),
        (dict(prompts=2.0), "got 2.0"),
    ],
)
def test_impossible_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Noising(**options)


def test_windows_that_are_too_short(tiny):
    with pytest.raises(ValueError, match="a window of 1 tokens"):
        draw(BLOCKS, length=1)
    with pytest.raises(ValueError, match="no window of 9999"):
        objectives.diffusion_bound(*tiny, STREAM, length=9999)


def test_a_shifted_model_reads_a_block_off_the_clean_one_before_it():
    """As it decodes: position p of a block sees what its row before sees, and a first one nothing of its block."""
    oracle, params = oracles.hash_oracle(20, seed=1)
    model = shifted(oracles.canvas(oracle, mask_token=19, lead=1))
    rng, length, block = np.random.default_rng(5), 12, 4
    tokens, first = rng.integers(0, 19, (1, length)), rng.random((1, length)) < 0.5
    rates = np.full((1, length), 0.5, np.float32)
    batch = Noised(tokens, first, ~first, rates, np.array([[block]]))
    found = np.asarray(objectives.block_diffusion(model, params, batch, mask_token=19).logits)
    found = found[0, :length]
    for start in range(0, length, block):
        window = np.where(first & (np.arange(length) >= start), 19, tokens)
        places = jnp.arange(length)[None]
        inputs = Inputs(jnp.asarray(window), places, *visibility.block_causal(places // block))
        own = np.asarray(model(params, inputs).logits)[0, start : start + block]
        np.testing.assert_array_equal(found[start : start + block], own, f"block from {start}")
