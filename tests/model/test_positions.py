"""Positions past the end of a model: what padding and drafts ask there harms nobody."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import visibility
from jaxdec.decoding import Status
from jaxdec.diffusion import canvas_model
from jaxdec.model import Inputs, Queries, from_nnx, masked_rows, two_stream
from tests.model.learned_positions import Config, LearnedPositions

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, TARGET = from_nnx(LearnedPositions(Config(), nnx.Rngs(0)))
PARAMS = {"target": TARGET, "draft": TARGET}
END = MODEL.max_length
PROMPT = np.random.default_rng(0).integers(0, 10, (2, 33))
DECODERS = {
    "plain": jaxdec.autoregressive(MODEL),
    "prompt lookup": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.prompt_lookup(length=5)),
    "model": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=3)),
}


@jax.jit
def likeliest(text):
    """The token that is likeliest after each of a sequence, without a cache and without padding: `[L]`."""
    return MODEL.forward(TARGET, Inputs.causal(text[None]), None).logits[0].argmax(-1)


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())
def test_rows_fill_the_model_to_its_last_position(decoder):
    """The prompt is padded past the end, and drafts reach past it."""
    result = jaxdec.generate(
        decoder,
        PARAMS,
        PROMPT,
        lengths=[33, 30],
        rng=jax.random.key(0),
        max_new_tokens=[4, 10],
        temperature=0.0,
        eos=(),
    )
    assert result.status == [Status.LENGTH] * 2
    for row, (start, end) in enumerate([(33, 37), (30, 40)]):
        text = result.tokens[row, :end]
        np.testing.assert_array_equal(text[:start], PROMPT[row, :start])
        np.testing.assert_array_equal(text[start:], likeliest(text[:-1])[start - 1 :])


def test_attention_keeps_what_is_not_finite_to_itself():
    """A model that does not say where it ends gives NaN there, and nothing that is emitted sees it."""
    endless = dataclasses.replace(MODEL, max_length=None)
    assert not jnp.isfinite(
        jax.jit(endless)(TARGET, Inputs.causal(jnp.zeros((1, 41), jnp.int32))).logits[0, 40]
    ).any()
    results = [
        jaxdec.generate(
            jaxdec.autoregressive(model),
            PARAMS,
            PROMPT,
            rng=jax.random.key(0),
            max_new_tokens=7,
            eos=(),
        )
        for model in (MODEL, endless)
    ]
    np.testing.assert_array_equal(results[0].tokens[:, :40], results[1].tokens[:, :40])
    assert results[1].status == [Status.LENGTH] * 2


@pytest.mark.parametrize("wrap", [two_stream, masked_rows])
def test_infilling_to_the_last_position(wrap):
    model = wrap(MODEL, 10)
    visible = np.arange(END)[None] % 3 > 0
    tokens = np.resize(PROMPT, (1, END))
    filled = jaxdec.infill(
        jaxdec.any_subset.assd(model, width=3),
        PARAMS,
        tokens,
        visible,
        rng=jax.random.key(0),
    )
    assert filled.status == [Status.LENGTH] and filled.known.all()


def test_a_canvas_to_the_last_position():
    decoder = jaxdec.denoise(canvas_model(MODEL, 10))
    result = jaxdec.generate(
        decoder, PARAMS, PROMPT, rng=jax.random.key(0), max_new_tokens=7, eos=()
    )
    assert result.status == [Status.LENGTH] * 2


def test_a_model_clamps_positions_in_one_place():
    asked = []

    def forward(params, inputs, cache):
        asked.append((inputs.positions, inputs.queries and inputs.queries.positions))
        return MODEL.forward(params, dataclasses.replace(inputs, queries=None), cache)

    model = dataclasses.replace(MODEL, forward=forward)
    positions = jnp.asarray([[-1, 0, 39, 40, 99]])
    inputs = dataclasses.replace(Inputs.causal(jnp.zeros((1, 5), jnp.int32)), positions=positions)
    model(TARGET, inputs, None)
    queries = Queries(positions, visibility.causal(positions).query_spans, jnp.asarray([40]))
    model(TARGET, dataclasses.replace(inputs, queries=queries), None)
    dataclasses.replace(model, max_length=None)(TARGET, inputs, None)
    clamped = [0, 0, 39, 39, 39]
    assert asked[0][0][0].tolist() == clamped and asked[0][1] is None
    assert [x[0].tolist() for x in asked[1]] == [clamped] * 2
    np.testing.assert_array_equal(asked[2][0], positions)
