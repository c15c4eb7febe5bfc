"""Grown models say what the small one says, with more parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.models import Transformer, TransformerConfig, grow

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=23, width=16, layers=1, heads=4, kv_heads=2, head_dim=4, hidden=24
)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 23, (2, 9)), jnp.int32)


@functools.cache
def build(config):
    return jaxdec.from_nnx(Transformer(config, rngs=nnx.Rngs(1)))


def model_of(config):
    return jaxdec.from_nnx(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))))


def size(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(("layers", "hidden"), [(3, None), (1, 40), (2, 32), (1, None)])
def test_the_same_logits_from_more_parameters(layers, hidden):
    model, params = build(CONFIG)
    config, grown = grow(CONFIG, params, layers, hidden=hidden)
    assert (config.layers, config.hidden) == (layers, hidden or 24)
    big, shapes = model_of(config)
    assert jax.tree.map(jnp.shape, grown) == jax.tree.map(jnp.shape, shapes)
    assert (size(grown) > size(params)) == (layers > 1 or hidden is not None)

    inputs = jaxdec.Inputs.causal(TOKENS)
    before = jax.jit(model.forward)(params, inputs, None).logits
    after = jax.jit(big.forward)(grown, inputs, None).logits
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_the_same_tokens_through_generate():
    model, params = build(CONFIG)
    config, grown = grow(CONFIG, params, 2, hidden=32)
    rng = jax.random.key(0)
    for temperature in (0.0, 1.0):
        small, big = (
            jaxdec.generate(
                jaxdec.autoregressive(m),
                {"target": p},
                TOKENS,
                rng=rng,
                max_new_tokens=20,
                temperature=temperature,
            )
            for m, p in [(model, params), (model_of(config)[0], grown)]
        )
        np.testing.assert_array_equal(small.tokens, big.tokens)


def test_added_layers_cost_what_layers_cost():
    """Only the output projections are zero: everything before them is computed from random weights."""
    _, params = build(CONFIG)
    _, grown = grow(CONFIG, params, 3, hidden=30)
    added = grown["layers"][2]
    for name, kernel in [
        *added["self_attn"].items(),
        *added["mlp"].items(),
    ]:
        share = float(jnp.mean(kernel["kernel"] != 0))
        assert share == (0 if name in ("o_proj", "down_proj") else 1), name
    old = grown["layers"][0]["mlp"]
    assert not old["down_proj"]["kernel"][24:].any()
    assert (old["gate_proj"]["kernel"][:, 24:] != 0).all()


def test_growth_is_deterministic_and_leaves_its_argument_alone():
    _, params = build(CONFIG)
    before = jax.tree.map(np.array, params)
    first, second = (grow(CONFIG, params, 3, hidden=32)[1] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_impossible_sizes():
    _, params = build(CONFIG)
    with pytest.raises(ValueError, match="layers must be at least the model's own 1, got 0"):
        grow(CONFIG, params, 0)
    with pytest.raises(ValueError, match="hidden must be at least the model's own 24, got 8"):
        grow(CONFIG, params, 1, hidden=8)
    wrong = {**params, "layers": dict.fromkeys(range(2), params["layers"][0])}
    with pytest.raises(ValueError, match="params has 2 layers, config has 1"):
        grow(CONFIG, wrong, 3)
