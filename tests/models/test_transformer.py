"""The transformer: what a token sees decides its logits, and how the tokens were fed does not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import visibility
from jaxdec.cache import KVCache
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=19, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, hidden=24
)
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, 19, (3, 14)), jnp.int32)
commit = jax.jit(KVCache.commit)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@functools.cache
def build(layer_states=(), **changes):
    """A jitted forward, its model and parameters large enough that every part shows in the logits."""
    config = dataclasses.replace(CONFIG, **changes)
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(0)), layer_states=layer_states)
    params = jax.tree.map(lambda x: 2 * x, params)
    return functools.partial(jax.jit(model.forward), params), model, params


def prefix(forward, model, tokens, lengths, capacity=32):
    """A cache that holds the first `lengths` tokens of each row."""
    inputs = Inputs.causal(tokens, valid=jnp.arange(tokens.shape[1]) < lengths[:, None])
    index = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    cache = model.init_cache(len(tokens), capacity)
    return commit(cache, forward(inputs, None).entries, index, lengths, inputs.key_spans)


@pytest.mark.parametrize("window", [None, 3])
def test_ragged_chunks_give_the_logits_of_one_pass(window):
    forward, model, _ = build(window=window)
    whole = np.asarray(forward(Inputs.causal(TOKENS), None).logits)
    counts = np.array([[4, 1, 2], [1, 4, 0], [3, 0, 4], [4, 4, 1], [2, 4, 4], [0, 1, 3]])
    np.testing.assert_array_equal(counts.sum(0), [14, 14, 14])
    width = 4
    index = jnp.broadcast_to(jnp.arange(width), (3, width))
    cache = model.init_cache(3, 20)
    for count in jnp.asarray(counts):
        places = cache.length[:, None] + index
        chunk = jnp.take_along_axis(TOKENS, places, axis=1, mode="clip")
        inputs = Inputs.causal(chunk, cache.length, valid=index < count[:, None])
        output = forward(inputs, cache)
        for b in range(3):
            n, at = int(count[b]), int(cache.length[b])
            np.testing.assert_allclose(output.logits[b, :n], whole[b, at : at + n], **CLOSE)
        cache = commit(cache, output.entries, index, count, visibility.causal(places).key_spans)
    np.testing.assert_array_equal(cache.length, [14] * 3)


@pytest.mark.parametrize("window", [None, 3])
def test_tree_rows_equal_each_path_alone(window):
    forward, model, _ = build(window=window)
    lengths = jnp.asarray([6, 3, 9])
    cache = prefix(forward, model, TOKENS, lengths)
    parents = np.array([[-1, 0, 0, 1, 1, 2, 3], [-1, -1, 1, 0, 2, 4, 1], [-1, 0, 1, 2, 3, 4, 5]])
    drafts = RNG.integers(0, 19, parents.shape)
    paths = [[[] for _ in range(7)] for _ in range(3)]
    for b in range(3):
        for n in range(7):
            above = paths[b][parents[b, n]] if parents[b, n] >= 0 else []
            paths[b][n] = [*above, n]
    depths = np.array([[len(path) for path in row] for row in paths])
    positions = jnp.asarray(lengths[:, None] + depths - 1, jnp.int32)
    spans = visibility.tree(jnp.asarray(parents), lengths)
    tree = forward(Inputs(jnp.asarray(drafts), positions, *spans), cache).logits

    alone = np.zeros((3, 7, 16), np.int32)
    ends = np.zeros((3, 7), np.int32)
    for b in range(3):
        for n, path in enumerate(paths[b]):
            text = [*np.asarray(TOKENS)[b, : lengths[b]], *drafts[b, path]]
            alone[b, n, : len(text)] = text
            ends[b, n] = len(text) - 1
    logits = forward(Inputs.causal(jnp.asarray(alone.reshape(21, 16))), None).logits
    expected = np.asarray(logits)[np.arange(21), ends.reshape(-1)].reshape(tree.shape)
    np.testing.assert_allclose(tree, expected, **CLOSE)


def test_padding_and_empty_slots_change_nothing():
    forward, model, _ = build()
    lengths = jnp.asarray([6, 0, 9])
    cache = prefix(forward, model, TOKENS, lengths)
    used = jnp.arange(cache.capacity) < lengths[:, None]
    fill = lambda x: jnp.where(used[:, None, :, None], x, 1e6)
    garbage = dataclasses.replace(
        cache,
        stored=jax.tree.map(fill, cache.stored),
        positions=jnp.where(used, cache.positions, 777),
    )
    valid = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    chunk = TOKENS[:, :5]
    other = jnp.where(valid, chunk, (chunk + 7) % 19)
    first = forward(Inputs.causal(chunk, lengths, jnp.asarray(valid)), cache).logits
    second = forward(Inputs.causal(other, lengths, jnp.asarray(valid)), garbage).logits
    np.testing.assert_array_equal(np.asarray(first)[valid], np.asarray(second)[valid])
    assert (np.asarray(first)[~valid] != np.asarray(second)[~valid]).any()


def test_a_row_does_not_depend_on_its_neighbours():
    forward, _, _ = build()
    batch = forward(Inputs.causal(TOKENS), None).logits
    alone = forward(Inputs.causal(TOKENS[1:2]), None).logits
    np.testing.assert_allclose(batch[1], alone[0], **CLOSE)


def test_a_query_that_sees_nothing_is_finite():
    forward, model, _ = build()
    inputs = Inputs.causal(TOKENS[:, :5], valid=jnp.zeros((3, 5), bool))
    for cache in (None, model.init_cache(3, 8)):
        output = forward(inputs, cache)
        assert np.isfinite(output.logits).all()
        assert np.isfinite(jnp.stack(jax.tree.leaves(output.entries.layers))).all()


def test_a_window_in_the_model_is_the_window_of_spans():
    narrow, _, _ = build(window=3)
    wide, _, _ = build()
    inputs = Inputs.causal(TOKENS)
    spans = visibility.window(inputs.positions, 3)
    through_spans = wide(
        dataclasses.replace(inputs, query_spans=spans.query_spans, key_spans=spans.key_spans), None
    )
    np.testing.assert_allclose(narrow(inputs, None).logits, through_spans.logits, **CLOSE)
    assert np.abs(narrow(inputs, None).logits - wide(inputs, None).logits).max() > 1e-2


def test_only_distances_between_positions_matter():
    forward, _, _ = build()
    near, far = (forward(Inputs.causal(TOKENS, start), None).logits for start in (0, 100))
    np.testing.assert_allclose(near, far, rtol=1e-3, atol=1e-4)
    inputs = Inputs.causal(TOKENS)
    apart = dataclasses.replace(inputs, positions=inputs.positions * 2)
    assert np.abs(forward(apart, None).logits - near).max() > 1e-2


@pytest.mark.parametrize("tied", [True, False])
def test_the_head(tied):
    forward, _, params = build(tied=tied)
    output = forward(Inputs.causal(TOKENS), None)
    assert ("lm_head" in params) == (not tied)
    head = params["embed_tokens"]["embedding"].T if tied else params["lm_head"]["kernel"]
    np.testing.assert_allclose(output.logits, output.hidden @ head, **CLOSE)
    assert output.logits.dtype == jnp.float32


def test_embeddings_in_place_of_tokens():
    forward, _, params = build()
    inputs = Inputs.causal(TOKENS)
    embedded = dataclasses.replace(inputs, tokens=params["embed_tokens"]["embedding"][TOKENS])
    np.testing.assert_allclose(
        forward(embedded, None).logits, forward(inputs, None).logits, **CLOSE
    )


def test_taps():
    forward, _, params = build(layer_states=(2, 0, 1))
    plain, _, _ = build()
    output = forward(Inputs.causal(TOKENS), None)
    last, embedded, middle = output.layer_states
    np.testing.assert_allclose(embedded, params["embed_tokens"]["embedding"][TOKENS], **CLOSE)
    scale = params["norm"]["scale"] / jnp.sqrt((last**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(output.hidden, last * scale, **CLOSE)
    assert np.abs(middle - embedded).max() > 1e-2 and np.abs(middle - last).max() > 1e-2
    without = plain(Inputs.causal(TOKENS), None)
    assert without.layer_states == ()
    np.testing.assert_allclose(without.logits, output.logits, **CLOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, "kv_heads 3 must divide heads 4"),
        ({"head_dim": 5}, "head_dim must be even for rotary positions, got 5"),
        ({"kv_heads": 0}, "kv_heads must be at least 1, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"mixture": []}, r"mixture must be a Mixture or None, got \[\]"),
        ({"mixture": {"expert": 3}}, "Mixture: .*'expert'"),
        ({"layer_kinds": 3}, "layer_kinds must be several"),
        ({"layer_kinds": [3, 3]}, "layer_kinds must be several"),
        ({"rope_scaling": {"kind": "linear", "factor": "2"}}, "factor must be a finite number"),
        ({"tied": 1}, "tied must be True or False, got 1"),
        ({"norm_epsilon": "small"}, "norm_epsilon must be a finite number, got 'small'"),
    ],
)
def test_impossible_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
