"""TiDAR: drafts and verification in one forward, lossless against the model's own causal decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import autoregressive, drafters, speculative, verifiers
from jaxdec.diffusion import canvas_model
from jaxdec.model import Inputs, from_nnx, mask_blocks
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.visibility import Spans
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, VOCAB, same

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE = 4
HEAT = np.array([0.0, 0.8, 1.0])


@functools.cache
def target():
    """Random weights whose laws are peaked enough that masks and tokens sometimes agree."""
    config = TransformerConfig(
        vocab_size=VOCAB + 1, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(3)))
    return mask_blocks(model, VOCAB, size=SIZE), model, params


def decode(decoder, params, **options):
    given = dict(lengths=LENGTHS, max_new_tokens=BUDGET, rng=jax.random.key(7), eos=())
    return jaxdec.generate(decoder, {"target": params}, PROMPTS, **given, **options)


@pytest.mark.parametrize(
    "verifier",
    [verifiers.SharedNoiseWalk(), pytest.param(verifiers.TokenRatio(), marks=pytest.mark.slow)],
)
def test_it_decodes_as_its_own_causal_mode(verifier):
    model, _, params = target()
    fast = speculative(model, drafter=drafters.mask_block(length=SIZE - 1), verifier=verifier)
    heat = HEAT if verifier.shares_noise else 0.0
    plain = decode(autoregressive(target()[1]), params, temperature=heat)
    found = decode(fast, params, temperature=heat)
    same(plain, found, steps=False)
    assert (
        np.asarray(found.stats.target_forwards) <= np.asarray(plain.stats.target_forwards)
    ).all()
    assert int(found.stats.accepted.sum()) > 0 and int(found.stats.draft_forwards.sum()) == 0
    rows = SIZE + SIZE**2
    np.testing.assert_array_equal(found.stats.target_rows, rows * found.stats.target_forwards)


def test_blocks_say_what_masks_behind_the_text_say():
    """Against one forward of a text and its masks, by a dense picture of who sees whom, for each token of a chain."""
    model, plain, params = target()
    tokens = jnp.asarray(PROMPTS[:1, :SIZE])
    found = jax.jit(lambda t: model(params, Inputs.causal(t), None))(tokens)
    blocks = np.asarray(found.layer_states[-1]).reshape(SIZE, SIZE - 1, VOCAB + 1)
    places = jnp.broadcast_to(jnp.arange(2 * SIZE), (SIZE, 2 * SIZE))
    end = jnp.arange(SIZE)[:, None]
    text = jnp.where(places <= end, jnp.pad(tokens, ((0, 0), (0, SIZE))), VOCAB)
    number = jnp.minimum(places, end + 1)  # the masks are one number
    there = places <= end + SIZE
    spans = Spans(jnp.stack([number, number], -1), jnp.stack([number, 0 * number + 2**20], -1))
    inputs = Inputs(text, places, *spans.where(there))
    logits = np.array(jax.jit(lambda inputs: plain(params, inputs, None).logits)(inputs))
    for row in range(SIZE):
        expected = logits[row, row + 2 : row + 1 + SIZE]
        expected[:, VOCAB] = -np.inf
        np.testing.assert_allclose(blocks[row], expected, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(found.logits[0, row], logits[row, row], rtol=2e-4, atol=2e-4)


def test_what_does_not_fit():
    model, plain, params = target()
    with pytest.raises(ValueError, match=r"mask_blocks\(size=4\), got none"):
        decode(speculative(plain, drafter=drafters.mask_block(length=3)), params)
    with pytest.raises(ValueError, match=r"mask_blocks\(size=3\), got blocks of 4"):
        decode(speculative(model, drafter=drafters.mask_block(length=2)), params)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        drafters.mask_block(length=0)
    with pytest.raises(ValueError, match="hang off a causal model; this model fills a canvas"):
        mask_blocks(canvas_model(plain, VOCAB), VOCAB)
    with pytest.raises(ValueError, match="mask_token is 9, outside the vocabulary of 9"):
        mask_blocks(plain, VOCAB + 1)
    with pytest.raises(ValueError, match="size must be at least 2, got 1"):
        mask_blocks(plain, VOCAB, size=1)
