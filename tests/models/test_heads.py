"""Draft heads: what the papers say they reduce to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec.model import Inputs, from_nnx
from jaxdec.models import HeadsConfig, Transformer, TransformerConfig, build_heads, start_heads

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, WIDTH, HEADS = 11, 8, 3
CONFIG = TransformerConfig(
    vocab_size=V, width=WIDTH, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=12
)
SIZES = HeadsConfig(V, WIDTH, HEADS)
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, V, (2, 6)), jnp.int32)
PATHS = [jnp.asarray(RNG.integers(0, V, (2, 6, d + 1)), jnp.int32) for d in range(HEADS)]


def noisy(params, seed):
    """Parameters moved at random, so that every part shows."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return tree.unflatten([x + 0.3 * rng.standard_normal(x.shape).astype("f") for x in leaves])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["medusa", "hydra"])
def test_untrained_heads_repeat_the_target(kind, tied):
    config = dataclasses.replace(CONFIG, tied=tied)
    model, target = from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
    target = noisy(target, 1)
    output = model(target, Inputs.causal(TOKENS), None)
    heads, params = build_heads(kind, SIZES)
    params = start_heads(params, target)
    for path in PATHS:
        laws = heads.law(params, output.hidden, path)
        np.testing.assert_allclose(laws, output.logits, rtol=1e-4, atol=1e-5)


def test_hydra_without_embeddings_is_medusa():
    medusa, held = build_heads("medusa", SIZES)
    hydra, params = build_heads("hydra", SIZES)
    held, params = noisy(held, 2), noisy(params, 3)
    for depth in range(HEADS):
        block = held["heads"][depth]["blocks"][0]
        zeros = jnp.zeros(((depth + 1) * WIDTH, WIDTH))
        params["heads"][depth] |= {
            "skip": {"kernel": jnp.concatenate([jnp.eye(WIDTH), zeros])},
            "gate": {"kernel": jnp.concatenate([block["kernel"], zeros]), "bias": block["bias"]},
            "lm_head": held["heads"][depth]["lm_head"],
        }
    hidden = jnp.asarray(RNG.standard_normal((2, 6, WIDTH)), jnp.float32)
    for path in PATHS:
        np.testing.assert_allclose(
            hydra.law(params, hidden, path), medusa.law(held, hidden, path), rtol=1e-4, atol=1e-5
        )


def test_the_cache_of_eagle_has_the_type_that_is_asked_for():
    for dtype, expected in ((None, jnp.float32), ("bfloat16", jnp.bfloat16)):
        eagle, params = build_heads("eagle", CONFIG, abstract=True, dtype=dtype)
        cache = jax.eval_shape(lambda eagle=eagle: eagle.init_cache(1, 4))
        assert cache.read(0).keys.dtype == expected
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


def test_hydra_reads_every_token_of_the_path_and_medusa_none():
    hidden = jnp.asarray(RNG.standard_normal((1, WIDTH)), jnp.float32)
    for kind in ("medusa", "hydra"):
        heads, params = build_heads(kind, SIZES)
        params = noisy(params, 4)
        path = jnp.zeros((1, HEADS), jnp.int32)
        before = heads.law(params, hidden, path)
        for place in range(HEADS):
            after = heads.law(params, hidden, path.at[0, place].set(1))
            assert np.array_equal(before, after) == (kind == "medusa")


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: HeadsConfig(V, WIDTH, 0), "heads must be at least 1, got 0"),
        (lambda: build_heads("medusae", SIZES), "'medusae'"),
        (lambda: build_heads("eagle", dataclasses.replace(CONFIG, layers=2)), "got 2"),
        (
            lambda: start_heads(
                build_heads("medusa", HeadsConfig(V + 1, WIDTH))[1],
                from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))[1],
            ),
            "width 8 with 11 tokens",
        ),
    ],
)
def test_sizes_that_do_not_fit(make, part):
    with pytest.raises(ValueError, match=part):
        make()
