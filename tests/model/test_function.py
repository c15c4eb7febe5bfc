"""Modules that never heard of the contract: an adapter without a cache, and what is said of those that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.diffusion import canvas_model
from jaxdec.model import Inputs, from_function, from_nnx, masked_rows, two_stream
from jaxdec.testing import check_model
from tests.model.learned_positions import Config, LearnedPositions

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 11


class Plain(nnx.Module):
    """An ordinary Flax model: tokens in, logits out, and a mask of its own."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(V, 16, rngs=rngs)
        self.places = nnx.Embed(24, 16, rngs=rngs)
        self.mixer = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.places(jnp.arange(tokens.shape[1]))
        x = x + self.mixer(x, mask=nnx.make_causal_mask(tokens))
        return 6 * self.embed.attend(x)


GRAPHDEF, STATE = nnx.split(Plain(nnx.Rngs(0)))
FUNCTION = lambda params, tokens: nnx.merge(GRAPHDEF, params)(tokens)
WHOLE = jax.jit(FUNCTION)
MODEL = from_function(FUNCTION, vocab_size=V, max_length=24, eos=10)
PROMPT = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0]])


def test_it_keeps_the_contract():
    check_model(MODEL, STATE)
    assert from_function(FUNCTION, vocab_size=V, max_length=24, eos=[10]) == MODEL


@pytest.mark.parametrize("drafter", [None, jaxdec.drafters.prompt_lookup(length=3)])
def test_an_ordinary_module_decodes(drafter):
    decoder = jaxdec.autoregressive(MODEL)
    if drafter is not None:
        decoder = jaxdec.speculative(MODEL, drafter=drafter)
    result = jaxdec.generate(
        decoder,
        {"target": STATE},
        PROMPT,
        lengths=[5, 3],
        rng=jax.random.key(0),
        max_new_tokens=[19, 12],
        temperature=0.0,
        eos=(),
    )
    for row, (length, new) in enumerate([(5, 19), (3, 12)]):
        text = PROMPT[row, :length].tolist()
        for _ in range(new):  # later tokens change nothing, so that one program serves all lengths
            padded = jnp.asarray([text + [0] * (24 - len(text))])
            text.append(int(WHOLE(STATE, padded)[0, len(text) - 1].argmax()))
        assert result.tokens[row, : length + new].tolist() == text


def test_a_module_that_does_not_fit_is_told_what_is_wanted():
    with pytest.raises(
        ValueError, match=r"Plain has no vocab_size and no init_cache.*from_function"
    ):
        from_nnx(Plain(nnx.Rngs(0)))
    with pytest.raises(ValueError, match="Plain has no init_cache:"):
        from_nnx(Plain(nnx.Rngs(0)), vocab_size=V)


class Bare(LearnedPositions):
    """Meets the contract, but for a config."""

    def __init__(self, rngs):
        super().__init__(Config(), rngs)
        del self.config


def test_arguments_stand_in_for_a_config():
    create = lambda batch, capacity: LearnedPositions.init_cache(Config(), batch, capacity)
    make = lambda seed: from_nnx(
        Bare(nnx.Rngs(seed)), vocab_size=V, max_length=40, init_cache=create
    )
    (model, params), (again, _) = make(0), make(1)
    assert (model.vocab_size, model.max_length) == (V, 40) and model == again
    inputs = Inputs.causal(jnp.asarray(PROMPT))
    whole, held = from_nnx(LearnedPositions(Config(), nnx.Rngs(0)))
    np.testing.assert_array_equal(model(params, inputs).logits, whole(held, inputs).logits)


def test_wrappers_refuse_models_that_say_otherwise():
    network, _ = from_nnx(LearnedPositions(Config(), nnx.Rngs(0)))
    canvas, subsets = canvas_model(network, 10), two_stream(network, 10)
    refused = {
        "was not trained in two streams; use masked_rows": lambda: two_stream(canvas, 10),
        "two_stream takes the network itself": lambda: two_stream(subsets, 10),
        "masked_rows takes the network itself": lambda: masked_rows(subsets, 10),
        "denoise takes it as it is": lambda: canvas_model(subsets, 10),
        "the model is causal: it predicts next tokens, and fills no canvas": lambda: jaxdec.denoise(
            network
        ),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert masked_rows(canvas, 10).any_subset


def test_what_a_model_is_for_is_said_truly():
    """A masked network that nobody wrapped is not called causal."""
    network, params = from_nnx(LearnedPositions(Config(), nnx.Rngs(0)))
    masked = jaxdec.model.Model(network.forward, network.init_cache, V, max_length=40, causal=False)
    params = {"target": params, "draft": params}
    lone = "neither causal nor wrapped to fill masks"
    plain = jaxdec.autoregressive(masked)
    with pytest.raises(ValueError, match=f"{lone}.*predicts no next token"):
        jaxdec.prepare(plain, params, PROMPT)
    with pytest.raises(ValueError, match=lone):
        jaxdec.denoise(masked)
    visible = np.arange(5) < np.array([[3], [2]])
    with pytest.raises(ValueError, match=f"{lone}.*cannot fill an order"):
        jaxdec.infill(plain, params, PROMPT, visible, rng=jax.random.key(0))
    drafted = jaxdec.speculative(
        two_stream(network, 10), drafter=jaxdec.drafters.model(masked, length=2)
    )
    with pytest.raises(ValueError, match=f"the draft model is {lone}"):
        jaxdec.infill(drafted, params, PROMPT, visible, rng=jax.random.key(0))
