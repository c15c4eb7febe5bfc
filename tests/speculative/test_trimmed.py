"""Trimmed vocabularies: what is drafted, and by which law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import drafters
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import HeadsConfig, Transformer, TransformerConfig, build_heads
from jaxdec.testing.oracles import blend, hash_oracle
from tests.speculative.contexts import context, propose, randoms, request, start

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 6
MODEL, TARGET = hash_oracle(V, seed=1)
PARAMS = {"target": TARGET, "draft": blend(TARGET, hash_oracle(V, seed=2)[1], 0.3)}
KEEP = (4, 0, 3, 3)


def decode(drafter):
    decoder = jaxdec.speculative(MODEL, drafter=drafter)
    options = dict(rng=jax.random.key(0), max_new_tokens=40, temperature=1.0)
    return jaxdec.generate(decoder, PARAMS, [[1, 2, 3], [4, 5, 1]], **options)


def test_the_stated_law_is_that_of_the_kept_tokens():
    drafter = drafters.model(MODEL, length=2)
    texts = [[1, 2, 3], [4, 5, 1]]
    noise = jnp.asarray(randoms(0).gumbel(size=(2, 3, V)), jnp.float32)
    seen = context(texts, V, 2, noise=noise)

    def draft(drafter):
        own = drafter.own(PARAMS)
        state = start(drafter, own, request(texts, V))
        return propose(drafter, own, state, seen)[0]

    whole, part = draft(drafter), draft(drafters.trimmed(drafter, KEEP))
    kept = np.isin(np.arange(V), KEEP)
    assert np.isin(part.tokens, KEEP).all()
    assert (np.asarray(part.q)[..., ~kept] == -np.inf).all()
    first = np.asarray(whole.q)[:, 0][:, kept]
    expected = first - np.log(np.exp(first).sum(-1, keepdims=True))
    np.testing.assert_allclose(np.asarray(part.q)[:, 0][:, kept], expected, rtol=1e-4, atol=1e-5)


def test_other_tokens_are_still_emitted_and_all_tokens_kept_change_nothing():
    drafter = drafters.model(MODEL, length=3)
    whole, part, all_kept = (
        decode(d)
        for d in (drafter, drafters.trimmed(drafter, KEEP), drafters.trimmed(drafter, range(V)))
    )
    np.testing.assert_array_equal(whole.tokens, part.tokens)
    assert not np.isin(np.asarray(part.tokens)[:, 3:43], KEEP).all()
    assert int(part.stats.accepted.sum()) < int(whole.stats.accepted.sum())
    jax.tree.map(np.testing.assert_array_equal, whole.stats, all_kept.stats)


def test_drafters_with_equal_tokens_are_equal():
    drafter = drafters.model(MODEL, length=2)
    assert drafters.trimmed(drafter, KEEP) == drafters.trimmed(drafter, (3, 4, 0))
    assert drafters.trimmed(drafter, KEEP) != drafters.trimmed(drafter, (3, 4))


def test_frequent_tokens():
    texts = [[1, 1, 5, 2], np.array([[5, 1], [5, 9]])]
    assert drafters.frequent_tokens(texts, 3) == (1, 5, 2)
    assert drafters.frequent_tokens(texts, 3, always=(7,)) == (7, 1, 5)
    assert drafters.frequent_tokens(texts, 9) == (1, 5, 2, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: drafters.trimmed(d, ()), "at least 1 token, got none"),
        (lambda d: drafters.trimmed(d, (1, 6)), "token 6, outside of a vocabulary of 6"),
        (lambda d: drafters.trimmed(d, (-1, 2)), "token -1, outside"),
        (lambda d: drafters.trimmed(drafters.prompt_lookup(), (1,)), "got PromptLookup"),
        (lambda d: drafters.frequent_tokens([[1]], 0), "size must be at least 1, got 0"),
        (lambda d: drafters.frequent_tokens([[1]], 1, (3, 4)), "the 2 tokens of always, got 1"),
    ],
)
def test_impossible_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(drafters.model(MODEL, length=2))


@pytest.mark.parametrize("kind", ["causal", "heads", "features"])
def test_fewer_logits_are_computed(kind):
    """Products with the output matrix have as many columns as tokens are kept; laws are those of the whole, cut."""
    size, tokens = 48, jnp.array([[1, 2, 3]])
    config = TransformerConfig(
        vocab_size=size, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8
    )
    if kind == "heads":
        heads, params = build_heads("medusa", HeadsConfig(size, 8, 2))
        drafter = drafters.heads(heads)
        states = jnp.ones((1, 3, 8))
        read = lambda drafter: lambda params: drafter.heads.law(params, states, tokens[..., None])
    else:
        if kind == "causal":
            model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
            drafter = drafters.model(model)
        else:
            model, params = build_heads("eagle", config)
            drafter = drafters.eagle(model)
        features = jnp.ones((1, 3, 8)) if kind == "features" else None
        inputs = Inputs.causal(tokens, features=features)
        read = lambda drafter: lambda params: drafter.model(params, inputs, None).logits
    keep = (4, 9, 40)
    part, whole = read(drafters.trimmed(drafter, keep)), read(drafter)
    flops = lambda call, params: jax.jit(call).lower(params).compile().cost_analysis()["flops"]
    saved = 2 * 3 * 8 * (size - len(keep))
    assert flops(whole, params) - flops(part, params) > 0.9 * saved
    narrow = drafters.trimmed_params(params, keep, size)
    law = np.asarray(whole(params))
    for held in (params, narrow):
        found = np.asarray(part(held))
        np.testing.assert_allclose(found[..., keep], law[..., keep], rtol=1e-5, atol=1e-6)
        assert np.isneginf(np.delete(found, keep, axis=-1)).all()
    if kind != "causal":
        assert all(x.shape[-1] != size for x in jax.tree.leaves(narrow))
