"""Networks of which some layers run for each token: what runs, what that gives, and what it reduces to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import drafters
from jaxdec.model import (
    Inputs,
    classified_exits,
    early_exit,
    from_nnx,
    routed_layers,
    skip_decode,
    two_stream,
)
from jaxdec.model.classified_exits import CONTINUE, EXIT, STOP
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.eagle import Eagle
from jaxdec.testing import check_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

L, V, D, T = 4, 13, 16, 9
CONFIG = TransformerConfig(
    vocab_size=V, width=D, layers=L, heads=2, kv_heads=1, head_dim=8, hidden=16
)
ONE = dataclasses.replace(CONFIG, layers=1)
MODULE = Transformer(CONFIG, rngs=nnx.Rngs(2))
MODEL, NETWORK = from_nnx(MODULE, eos=[V - 1])
NETWORK = jax.tree.map(lambda x: x * (20 if x.shape == (V, D) else 1), NETWORK)
DRAWN = np.random.default_rng(0)
CLASSIFIER = {"kernel": DRAWN.normal(size=(D, 3)).astype("f"), "bias": np.array([-2.0, 0, 0], "f")}
EXITS = {
    "lm_heads": DRAWN.normal(size=(L - 1, D, V)).astype("f"),
    "classifier": CLASSIFIER,
    "exit": np.float32(0.6),
    "stop": np.float32(0.4),
}
ROUTERS = {
    "kernel": DRAWN.normal(size=(L, D)).astype("f"),
    "bias": np.zeros(L, "f"),
    "threshold": np.float32(0.5),
}
PARAMS = {"exits": EXITS, "routers": ROUTERS}
SKIPPING = skip_decode(MODEL, least=2, over=5, start=2)
EXITING, ROUTED = classified_exits(MODEL), routed_layers(MODEL)
TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5], [0, 10, 10, 5, 2, 1, 4, 9, 4]])


def given(name):
    """Parameters of the network, and those of a kind of choice."""
    return {**NETWORK, name: PARAMS[name]} if name else NETWORK


@functools.partial(jax.jit, static_argnums=0)
def call(model, params, tokens):
    inputs = Inputs.causal(tokens)
    return model(params, inputs, None).logits, getattr(model.forward, "depths", lambda *_: 0)(
        params, inputs
    )


@jax.jit
def block(params, x):
    """A layer over whole texts."""
    layer = nnx.merge(nnx.split(MODULE.layers[0])[0], params)
    return layer(x, Inputs.causal(jnp.zeros(x.shape[:2], jnp.int32)))[0]


def by_hand(tokens, runs, read):
    """Token by token: `runs(layer, place, state)` says what runs, `read(place, state)` what is said of the last state.

    States that a layer was not run on are no numbers to it, unless `runs` gives them to it (as "passes").
    """
    module = nnx.merge(nnx.split(MODULE)[0], NETWORK)
    entering = np.full((L, 1, T, D), np.nan, "f")
    laws, counts = [], []
    for place in range(T):
        x, ran = np.asarray(module.embed_tokens(jnp.asarray(tokens[place : place + 1])))[0], 0
        for layer in range(L):
            choice = runs(layer, place, x)
            if choice:
                entering[layer, 0, place] = x
            if choice is True:
                ran += 1
                seen = np.where(np.arange(T)[:, None] <= place, entering[layer, 0], 0)
                x = np.asarray(block(NETWORK["layers"][layer], jnp.asarray(seen[None])))[0, place]
        laws.append(read(place, x, module))
        counts.append(ran)
    return np.array(laws), counts


def final(place, x, module):
    return np.asarray(module.head(module.norm(jnp.asarray(x)[None])))[0]


def check(found, laws, counts):
    logits, depths = (np.asarray(x) for x in found)
    np.testing.assert_allclose(logits, laws, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(depths, counts)
    assert len(set(counts)) > 1


def test_later_tokens_run_nested_layers_alone():
    found = call(SKIPPING, NETWORK, jnp.asarray(TOKENS[:1]))
    budget = lambda t: 4 - round(2 * min(max(t - 2, 0), 5) / 5)
    runs = lambda layer, place, x: layer < 1 or layer >= L - (budget(place) - 1)
    laws, counts = by_hand(TOKENS[0], lambda *at: bool(runs(*at)), final)
    check([x[0] for x in found], laws, counts)
    assert counts == sorted(counts, reverse=True)


def classified(x):
    logits = x @ CLASSIFIER["kernel"] + CLASSIFIER["bias"]
    said = np.exp(logits - logits.max())
    return int(said.argmax()), float(said.max() / said.sum())


def test_tokens_leave_where_the_classifier_says_and_later_layers_see_what_they_left_with():
    found = call(EXITING, given("exits"), jnp.asarray(TOKENS))
    said = set()
    for row in range(2):
        left = {}

        def runs(layer, place, x, left=left):
            if layer == 0:
                left.pop(place, None)
            if layer and place not in left:
                kind, sure = classified(x)
                if (kind == STOP and sure > 0.4) or (kind == EXIT and sure > 0.6):
                    left[place] = layer, kind
            return "passes" if place in left else True

        def read(place, x, module, left=left):
            layer, kind = left.get(place, (L, CONTINUE))
            said.add(kind)
            if kind == STOP:
                return np.where(np.arange(V) == V - 1, 0, -np.inf)
            return final(place, x, module) if layer == L else x @ EXITS["lm_heads"][layer - 1]

        check([x[row] for x in found], *by_hand(TOKENS[row], runs, read))
    assert said == {STOP, EXIT, CONTINUE}


def test_prompts_choose_the_layers_of_all_that_follows():
    params = given("routers")
    logits, depths = call(ROUTED, params, jnp.asarray(TOKENS))
    kept = []
    for row in range(2):
        x, keep = np.asarray(NETWORK["embed_tokens"]["embedding"])[TOKENS[row]][None], []
        for layer in range(L):
            normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
            said = 1 / (1 + np.exp(-(normed @ ROUTERS["kernel"][layer])))
            keep.append(bool(said.mean() > 0.5))
            if keep[-1]:
                x = np.asarray(block(NETWORK["layers"][layer], jnp.asarray(x)))
        module = nnx.merge(nnx.split(MODULE)[0], NETWORK)
        np.testing.assert_allclose(
            logits[row], module.head(module.norm(jnp.asarray(x)))[0], rtol=2e-3, atol=2e-3
        )
        assert set(np.asarray(depths[row]).tolist()) == {sum(keep)}
        kept.append(tuple(keep))
    assert len(set(kept)) == 2


EVERY = {
    "skip": (skip_decode(MODEL, least=L, over=5), NETWORK),
    "exits": (EXITING, {**NETWORK, "exits": {**EXITS, "exit": np.float32(1), "stop": np.float32(1)}}),
    "routers": (ROUTED, {**NETWORK, "routers": {**ROUTERS, "threshold": np.float32(-1)}}),
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_all_layers_are_the_network(name):
    model, params = EVERY[name]
    logits, depths = call(model, params, jnp.asarray(TOKENS))
    np.testing.assert_allclose(
        logits, call(MODEL, NETWORK, jnp.asarray(TOKENS))[0], rtol=1e-4, atol=1e-4
    )
    assert (np.asarray(depths) == L).all()


CHOOSING = {"skip": (SKIPPING, ""), "exits": (EXITING, "exits"), "routers": (ROUTED, "routers")}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_drafts_chunks_and_neighbours_change_nothing(name):
    model, own = CHOOSING[name]
    decoder = jaxdec.speculative(model, drafter=drafters.prompt_lookup(length=3))
    options = dict(max_new_tokens=16, temperature=np.array([0.0, 0.8, 0.8]))
    keys = jax.random.split(jax.random.key(3), 3)
    prompts, lengths = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0], [7, 0, 0, 0, 0]]), [5, 3, 1]
    params = {"target": given(own)}
    both = [
        jaxdec.generate(each, params, prompts, lengths=lengths, rng=keys, **options)
        for each in (decoder, jaxdec.autoregressive(model))
    ]
    np.testing.assert_array_equal(both[0].tokens, both[1].tokens)
    assert int(both[0].stats.accepted.sum()) > 0
    for row in (1, 2):
        alone = jaxdec.generate(
            decoder, params, prompts[row:row + 1], lengths=lengths[row:row + 1], rng=keys[row:row + 1],
            max_new_tokens=16, temperature=0.8,
        )  # fmt: skip
        np.testing.assert_array_equal(alone.tokens[0], both[0].tokens[row])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skip", "exits"])
def test_they_keep_the_contract_of_models(name):
    model, own = CHOOSING[name]
    exits = {**EXITS, "stop": np.float32(1)}  # a law of one token has no differences to compare
    check_model(model, {**NETWORK, "exits": exits} if own else NETWORK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: skip_decode(MODEL, least=5, over=3), "first <= least <= most <= 4, got 1, 5, 4"),
        (lambda: skip_decode(MODEL, least=2, over=0), "over must be at least 1, got 0"),
        (lambda: skip_decode(MODEL, least=2, over=3, start=-1), "start must be at least 0, got -1"),
        (lambda: routed_layers(two_stream(MODEL, 0)), "before it is wrapped"),
        (lambda: routed_layers(early_exit(MODEL, 2)), "cut after 2 layers already"),
        (lambda: classified_exits(dataclasses.replace(MODEL, eos=())), "the model has no eos"),
        (
            lambda: skip_decode(from_nnx(Eagle(ONE, rngs=nnx.Rngs(0)))[0], least=1, over=1),
            "Eagle has no choice of layers",
        ),
        (
            lambda: call_with(MODEL.init_cache(2, 16)),
            "routed layers need the cache that remembers them, got KVCache",
        ),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def call_with(cache):
    return ROUTED(given("routers"), Inputs.causal(jnp.asarray(TOKENS)), cache)
