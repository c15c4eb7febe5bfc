"""Entries that are states: recurrent models decode plainly, in chains and in trees, token for token the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import growth, visibility
from jaxdec.cache import Cache, Entries, RecurrentCache
from jaxdec.diffusion import denoise
from jaxdec.model import Inputs
from jaxdec.speculative import RankTree
from jaxdec.testing import battery, check, oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, PARAMS = oracles.recurrent_oracle(7, seed=0, scale=1.5)
TREE = growth.fixed(RankTree.of((-1, -1, 0, 0, 1, 2)))
DECODERS = {
    "plain": lambda target, draft: jaxdec.autoregressive(target),
    "chain": lambda target, draft: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(draft, length=3)
    ),
    "tree": lambda target, draft: jaxdec.speculative(
        target, drafter=jaxdec.drafters.model(draft, growth=TREE)
    ),
}


def pair(seed=2, weight=0.35):
    """As the battery's own, of recurrent oracles; of a seed with which rows end in every way that it asks for."""
    model, target = oracles.recurrent_oracle(battery.VOCAB, seed=seed, scale=1.5)
    _, other = oracles.recurrent_oracle(battery.VOCAB, seed=seed + 1, scale=1.5)
    return model, {"target": target, "draft": oracles.blend(target, other, weight)}


@pytest.mark.parametrize("name", DECODERS)
def test_battery(name):
    checks = battery.PARTS
    if name == "tree":  # its loop is that of a chain, and plain decoding is a tree of no nodes
        checks += battery.ENDS + battery.LOOPS
    check(DECODERS[name], models=pair, checks=checks, read_left=False)


@jax.jit
def forward(tokens):
    return MODEL(PARAMS, Inputs.causal(tokens)).logits


def logits_after(tokens):
    padded = np.zeros((1, 16), int)
    padded[0, : len(tokens)] = tokens
    return np.asarray(forward(padded)[0, len(tokens) - 1])


def test_the_order_of_tokens_matters():
    assert (logits_after([1, 2, 3]) != logits_after([2, 1, 3])).any()
    assert (logits_after([1, 2, 3]) == logits_after([1, 2, 3])).all()


def test_a_tree_continues_the_state_of_the_cache():
    """Each node is what its path is in a sequence of its own; a commit keeps the state at the end of one."""
    prompt, tokens = [4, 0, 6], [[1, 2, 3, 4, 5, 6]]
    parents = np.array([-1, 0, 0, 1, 2, -1])
    first = Inputs.causal(jnp.asarray(prompt)[None])
    cache = MODEL.init_cache(1, 9)
    call, store = jax.jit(MODEL), jax.jit(lambda cache, *given: cache.commit(*given))
    commit = lambda cache, output, path: store(
        cache,
        output.entries,
        jnp.asarray([path]),
        jnp.asarray([len(path)]),
        jnp.zeros((1, len(path), 2)),
    )
    cache = commit(cache, call(PARAMS, first), [0, 1, 2])
    spans = visibility.tree(jnp.asarray(parents), jnp.asarray([3]))
    output = call(PARAMS, Inputs(jnp.asarray(tokens), jnp.zeros((1, 6), jnp.int32), *spans), cache)
    paths = {}
    for node, parent in enumerate(parents):
        paths[node] = [*paths.get(parent, []), node]
        text = prompt + [tokens[0][at] for at in paths[node]]
        np.testing.assert_array_equal(output.logits[0, node], logits_after(text))
        after = commit(cache, output, paths[node])
        follows = call(PARAMS, Inputs.causal(jnp.asarray([[2]]), 9), after).logits[0, 0]
        np.testing.assert_array_equal(follows, logits_after([*text, 2]))
        assert after.length.tolist() == [3 + len(paths[node])]


def test_a_cache_of_states_meets_the_contract():
    cache = MODEL.init_cache(2, 4)
    output = MODEL(PARAMS, Inputs.causal(jnp.asarray([[1, 2, 3], [4, 5, 6]])))
    assert isinstance(cache, Cache) and isinstance(output.entries, Entries) and cache.layers == 1
    states = output.entries.states[0]
    assert output.entries.first(2).states[0].shape == (2, 2)
    index, spans = jnp.asarray([[0, 1], [0, 1]]), jnp.zeros((2, 2, 2), jnp.int32)
    cache = cache.commit(output.entries, index, jnp.asarray([2, 0]), spans)
    assert cache.read(0).tolist() == [int(states[0, 1]), 0] and cache.length.tolist() == [2, 0]
    wide = jnp.broadcast_to(jnp.arange(3), (2, 3))
    cache = cache.commit(output.entries, wide, jnp.asarray([1, 3]), jnp.zeros((2, 3, 2)))
    assert cache.length.tolist() == [2, 3], "the first row lacks room for 3"
    assert cache.rows(jnp.asarray([1, 1, 0])).length.tolist() == [3, 3, 2]
    for refused in (
        lambda: cache.hide(jnp.zeros((2, 4), bool)),
        lambda: cache.renumber(lambda spans: spans),
        lambda: cache.write(output.entries, index, spans),
        lambda: cache.back_to(jnp.asarray([1, 1])),
    ):
        with pytest.raises(ValueError, match="a recurrent state sums up all tokens"):
            refused()


def test_states_of_several_arrays():
    """A layer's state is any pytree, in any type."""
    shape = lambda *lead: {"a": jnp.zeros((*lead, 2, 3)), "b": jnp.zeros(lead, jnp.bfloat16)}
    cache = RecurrentCache.create((shape(2), shape(2)), 8)
    entries = jaxdec.cache.RecurrentEntries(
        jax.tree.map(
            lambda x: x + jnp.arange(5.0).reshape(1, 5, *(1,) * (x.ndim - 2)),
            (shape(2, 5), shape(2, 5)),
        )
    )
    index = jnp.asarray([[3, 4], [1, 0]])
    after = cache.commit(entries, index, jnp.asarray([2, 1]), jnp.zeros((2, 2, 2)))
    for layer in range(2):
        assert after.read(layer)["a"][:, 1, 2].tolist() == [4, 1]
        assert after.read(layer)["b"].tolist() == [4, 1]
        assert after.read(layer)["b"].dtype == jnp.bfloat16


def test_a_causal_model_fills_no_canvas():
    with pytest.raises(ValueError, match="causal"):
        denoise(MODEL)
