"""The two back-ends on a small transformer: what is cached, what is seen, and that masks are never emitted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import any_subset, visibility
from jaxdec.model import Inputs, Queries
from jaxdec.models import Transformer, TransformerConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, MASK, LENGTH = 11, 10, 18
CONFIG = TransformerConfig(
    vocab_size=VOCAB, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24, max_length=64
)
RAW, PARAMS = jaxdec.from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
# Larger weights than fresh ones: laws that depend on what is seen.
PARAMS = jax.tree.map(lambda x: 3 * x if x.ndim == 2 else x, PARAMS)
BACK_ENDS = {
    "two_stream": any_subset.two_stream(RAW, MASK),
    "masked_rows": any_subset.masked_rows(RAW, MASK),
    "recomputed": any_subset.recomputed(any_subset.two_stream(RAW, MASK)),
}
TOKENS = np.random.default_rng(0).integers(0, MASK, (3, LENGTH))
VISIBLE = np.random.default_rng(1).random((3, LENGTH)) < [[0.2], [0.5], [0.8]]
VISIBLE[:, 0], VISIBLE[:, 3] = True, False
SIZES = np.array([LENGTH, 15, 9])


def fill(decoder, **knobs):
    knobs = {"temperature": 1.0, "rng": jax.random.key(1), "sizes": SIZES, **knobs}
    return jaxdec.infill(decoder, {"target": PARAMS}, TOKENS, VISIBLE, **knobs)


@pytest.fixture(scope="module", params=BACK_ENDS)
def model(request):
    return BACK_ENDS[request.param]


@pytest.fixture(scope="module")
def sequential(model):
    return fill(jaxdec.autoregressive(model))


def test_cached_decoding_is_the_uncached_joint(model, sequential):
    """Each law that was drawn from, entry by entry of the cache, is that of one whole forward over all tokens."""
    order = any_subset.lattice(VISIBLE, SIZES)
    terms = any_subset.log_prob(model, PARAMS, jnp.asarray(sequential.tokens), order)
    np.testing.assert_allclose(terms, sequential.raw_log_probs, atol=2e-4)
    assert (np.asarray(terms)[~VISIBLE & (np.arange(LENGTH) < SIZES[:, None])] < 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda model: any_subset.assd(model, width=3),
        lambda model: any_subset.fused(model, width=3, nodes=5, outcomes=3),
    ],
)
def test_speculation_gives_the_same_tokens(model, make, sequential):
    result = fill(make(model))
    np.testing.assert_array_equal(result.tokens, sequential.tokens)
    np.testing.assert_allclose(result.raw_log_probs, sequential.raw_log_probs, atol=2e-4)


def test_a_cache_changes_no_token():
    """Entries in rank order are final: scoring every committed token again in every forward gives the same."""
    for make in (jaxdec.autoregressive, lambda model: any_subset.assd(model, width=3)):
        cached, again = fill(make(BACK_ENDS["two_stream"])), fill(make(BACK_ENDS["recomputed"]))
        np.testing.assert_array_equal(cached.tokens, again.tokens)
        np.testing.assert_allclose(cached.raw_log_probs, again.raw_log_probs, atol=2e-4)


def test_masks_are_never_emitted(model, sequential):
    inside = np.arange(LENGTH) < SIZES[:, None]
    assert (np.asarray(sequential.tokens)[inside] != MASK).all()
    hot = fill(jaxdec.autoregressive(model), temperature=50.0)
    assert (np.asarray(hot.tokens)[inside] != MASK).all()


def test_a_prompt_sees_itself_whole(model):
    """Another last visible token changes the law of the first gap, though it stands far behind it."""
    order = any_subset.lattice(VISIBLE, SIZES)
    last = [np.flatnonzero(row[:size])[-1] for row, size in zip(VISIBLE, SIZES, strict=True)]
    other = TOKENS.copy()
    other[np.arange(3), last] = (other[np.arange(3), last] + 1) % MASK
    one, two = (
        np.asarray(any_subset.log_prob(model, PARAMS, jnp.asarray(t), order))
        for t in (TOKENS, other)
    )
    first = [np.flatnonzero(~row)[0] for row in VISIBLE]
    assert (np.abs(one - two)[np.arange(3), first] > 1e-4).all()


@functools.partial(jax.jit, static_argnums=0)
def call(model, params, inputs, cache=None):
    """A forward, by one program where each operation would be one."""
    return model(params, inputs, cache)


def test_queries_do_not_change_content():
    model = BACK_ENDS["two_stream"]
    ranks = jnp.arange(5)[None]
    content, query = visibility.two_stream(ranks, 2)
    inputs = Inputs(jnp.asarray(TOKENS[:1, :5]), ranks, *content)
    queries = Queries(ranks, query.query_spans, jnp.asarray([5]))
    plain = call(RAW, PARAMS, inputs).entries
    asked = call(model, PARAMS, dataclasses.replace(inputs, queries=queries)).entries
    for one, two in zip(plain.layers, asked.layers, strict=True):
        np.testing.assert_allclose(one.keys, two.keys[:, :, :5], atol=1e-5)
        np.testing.assert_allclose(one.values, two.values[:, :, :5], atol=1e-5)


def test_masked_rows_are_canvases():
    """A query's answer is the network's at its place on a canvas with masks at all that it does not see."""
    tokens, size = TOKENS[:1, :6], 6
    ranks = jnp.asarray([[2, 0, 4, 1, 3, 5]])
    content, query = visibility.two_stream(ranks, 2)
    places = jnp.arange(6)[None]
    queries = Queries(places, query.query_spans, jnp.asarray([size]))
    inputs = Inputs(jnp.asarray(tokens), places, *content, queries)
    answers = call(BACK_ENDS["masked_rows"], PARAMS, inputs).logits
    for place in range(6):
        seen = np.asarray(ranks)[0] < int(ranks[0, place])
        canvas = np.where(seen, tokens[0], MASK)[None]
        own = call(RAW, PARAMS, Inputs(jnp.asarray(canvas), places, *visibility.full(places)))
        expected = np.asarray(own.logits)[0, place]
        np.testing.assert_allclose(answers[0, place, :MASK], expected[:MASK], atol=1e-5)


def test_refusals(model):
    with pytest.raises(ValueError, match="mask_token 11 is outside the vocabulary of 11"):
        any_subset.two_stream(RAW, VOCAB)
    with pytest.raises(ValueError, match=r"predicts no next token; use jaxdec\.infill"):
        jaxdec.generate(
            jaxdec.autoregressive(model),
            {"target": PARAMS},
            TOKENS[:1],
            rng=jax.random.key(0),
            max_new_tokens=4,
        )
    with pytest.raises(
        ValueError, match="the model is causal: it predicts next tokens, and cannot fill"
    ):
        fill(jaxdec.autoregressive(RAW))
    drafter = jaxdec.drafters.model(RAW, length=2)
    with pytest.raises(ValueError, match="the draft model is causal"):
        jaxdec.infill(
            jaxdec.speculative(model, drafter=drafter),
            {"target": PARAMS, "draft": PARAMS},
            TOKENS,
            VISIBLE,
            rng=jax.random.key(0),
        )
    lookup = jaxdec.speculative(model, drafter=jaxdec.drafters.prompt_lookup())
    with pytest.raises(ValueError, match="PromptLookup drafts left to right"):
        fill(lookup)
