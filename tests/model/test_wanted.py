"""Laws of the new tokens that are wanted alone: the same as out of the laws of all, and the rest is not computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import visibility
from jaxdec.model import Inputs, canvas_model, from_nnx, next_token, shifted
from jaxdec.models import Eagle, Transformer, TransformerConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZES = TransformerConfig(
    vocab_size=31, width=16, layers=1, heads=2, kv_heads=2, head_dim=8, hidden=24
)
TARGET, PARAMS = from_nnx(Transformer(SIZES, rngs=nnx.Rngs(0)), layer_states=(0,))
EAGLE, HEADS = from_nnx(Eagle(SIZES, rngs=nnx.Rngs(0)))
AT = jnp.array([[4, 1, 1], [0, 5, 2]], jnp.int32)
CANVAS = canvas_model(TARGET, 30)
MODELS = {
    "causal": (TARGET, PARAMS),
    "shifted": (shifted(CANVAS), PARAMS),
    "next_token": (next_token(CANVAS), PARAMS),
    "eagle": (EAGLE, HEADS),
}


def inputs(at=None):
    tokens = np.random.default_rng(0).integers(0, 30, (2, 6))
    positions = jnp.broadcast_to(jnp.arange(6, dtype=jnp.int32), (2, 6))
    features = jax.random.normal(jax.random.key(1), (2, 6, SIZES.width))
    spans = visibility.causal(positions)
    return Inputs(jnp.asarray(tokens, jnp.int32), positions, *spans, features=features, at=at)


def test_wanted_laws_are_those_of_all():
    """By networks that pick, and by the same where they are said not to."""
    both = jax.jit(
        lambda held: {
            name: [
                model(held[name], inputs(at))
                for model, at in (
                    (model, None),
                    (model, AT),
                    (dataclasses.replace(model, picks=False), AT),
                )
            ]
            for name, (model, _) in MODELS.items()
        }
    )
    for name, (whole, *picked) in both({name: held for name, (_, held) in MODELS.items()}).items():
        assert MODELS[name][0].picks
        for found in picked:
            assert found.logits.shape == (2, 3, SIZES.vocab_size)
            for all_, some in (
                (whole.logits, found.logits),
                (whole.hidden, found.hidden),
                *zip(whole.layer_states, found.layer_states, strict=True),
            ):
                expected = np.take_along_axis(np.asarray(all_), np.asarray(AT)[..., None], axis=1)
                np.testing.assert_allclose(some, expected, rtol=1e-5, atol=1e-5, err_msg=name)
            for all_, same in zip(
                jax.tree.leaves(whole.entries), jax.tree.leaves(found.entries), strict=True
            ):
                np.testing.assert_array_equal(all_, same, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_no_law_of_another_token_is_computed(name):
    model, held = MODELS[name]
    text = str(jax.make_jaxpr(lambda held: model(held, inputs(AT)))(held))
    assert f"[2,3,{SIZES.vocab_size}]" in text
    assert f",6,{SIZES.vocab_size}]" not in text and f",12,{SIZES.vocab_size}]" not in text
