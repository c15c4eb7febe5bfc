"""What a query costs where it is a whole row: rows no longer than the request, none for what is known, true counts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset
from jaxdec.diffusion import denoise, schedules, unmask
from jaxdec.model import from_nnx, masked_rows
from jaxdec.models import Transformer, TransformerConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = 11
CONFIG = TransformerConfig(
    vocab_size=12, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, hidden=8, max_length=256
)
NETWORK, PARAMS = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
PARAMS = {"target": PARAMS}


def watched():
    """The model, and the shapes of the rows that its network is given."""
    shapes = []

    def forward(params, inputs, cache):
        shapes.append(inputs.tokens.shape)
        return NETWORK.forward(params, inputs, cache)

    return masked_rows(dataclasses.replace(NETWORK, forward=forward), MASK), shapes


def test_the_joint_asks_for_masked_positions_alone():
    model, shapes = watched()
    random = np.random.default_rng(0)
    tokens, visible = random.integers(0, 11, (2, 60)), np.ones((2, 60), bool)
    visible[0, 10:21], visible[1, 50:] = False, False
    order = any_subset.lattice(visible, [60, 55])
    found = any_subset.log_prob(model, PARAMS["target"], jnp.asarray(tokens), order)
    # Eleven queries in a bucket, not sixty; the check of the model before may have traced a forward of two.
    assert shapes[-1] == max(shapes) == (2 * 16, 60)
    # One term by hand: the last masked position given all others.
    row = np.where(np.arange(60) == 20, MASK, tokens[0])
    spans = jaxdec.visibility.full(jnp.arange(60)[None])
    logits = NETWORK(
        PARAMS["target"], jaxdec.Inputs(row[None], jnp.arange(60)[None], *spans)
    ).logits
    law = jax.nn.log_softmax(logits[0, 20].at[MASK].set(-jnp.inf))
    np.testing.assert_allclose(found[0, 20], law[tokens[0, 20]], rtol=1e-5)
    assert (np.asarray(found)[visible] == 0).all() and (found[1, 55:] == 0).all()
    assert (np.asarray(found)[0, 10:21] < 0).all() and (found[1, 50:55] < 0).all()


def test_rows_of_a_canvas_are_as_long_as_the_request():
    """Prompts of 100 tokens and 24 more: rows of 128 positions, in a canvas of 168; each query counts as 124."""
    model, shapes = watched()
    decoder = denoise(model, unmask=unmask.quota(steps=2), schedule=schedules.blocks(12))
    prompt = np.random.default_rng(0).integers(0, 11, (1, 100))
    request = jaxdec.prepare(decoder, PARAMS, prompt, max_new_tokens=24)
    shapes.clear()
    assert request.capacity == 168
    result = jaxdec.generate(decoder, PARAMS, prompt, rng=jax.random.key(0), max_new_tokens=24)
    assert {width for _, width in shapes} == {128}
    # Two steps a block of twelve, with a query for every position of the block.
    assert result.stats.target_forwards.tolist() == [4]
    assert result.stats.target_rows.tolist() == [4 * 12 * 124]


@pytest.mark.parametrize("name", ["plain", "assd", "parallel"])
def test_infilling_counts_whole_rows(name):
    """Rows of 40 positions with 6 gaps, and of 21 with 4: each query is a row."""
    model, shapes = watched()
    decoder = {
        "plain": jaxdec.autoregressive,
        "assd": lambda model: any_subset.assd(model, width=2),
        "parallel": lambda model: any_subset.parallel_sampling(model, width=2),
    }[name](model)
    tokens, visible = np.ones((2, 40), int), np.ones((2, 40), bool)
    visible[0, 3:9], visible[1, 2:6] = False, False
    request = jaxdec.generation.prepare_infill(decoder, PARAMS, tokens, visible, sizes=[40, 21])
    shapes.clear()
    assert request.order.longest == 64 < request.capacity
    filled = jaxdec.infill(decoder, PARAMS, tokens, visible, sizes=[40, 21], rng=jax.random.key(0))
    assert {width for _, width in shapes} == {64} and filled.known[0].all()
    rows, forwards = (
        np.asarray(x) for x in (filled.stats.target_rows, filled.stats.target_forwards)
    )
    if name == "assd":
        # A draft asks for two; the verification for what follows both, the first draft being settled.
        assert (rows % [40, 21] == 0).all() and (rows == 2 * forwards * [40, 21]).all()
    else:
        queries = 1 if name == "plain" else 2
        np.testing.assert_array_equal(rows, queries * forwards * [40, 21])


def test_two_streams_count_tokens_and_queries():
    model = any_subset.two_stream(NETWORK, MASK)
    assert (
        model.scored_rows(3, 4, 99) == 7 and masked_rows(NETWORK, MASK).scored_rows(3, 4, 99) == 396
    )
    visible = np.arange(20)[None] < 15
    filled = jaxdec.infill(
        jaxdec.autoregressive(model), PARAMS, np.ones((1, 20), int), visible, rng=jax.random.key(0)
    )
    assert filled.stats.target_rows.tolist() == [2 * 5]
