"""Layers against NumPy, and a network of unusual forms against the model contract."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec.model import from_nnx
from jaxdec.models import LayerKind, Transformer, TransformerConfig
from jaxdec.models.layers import Experts, Mixture, Norm, Rotary, Scaling, choose
from jaxdec.testing import check_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=19, width=8, layers=2, heads=2, kv_heads=1, head_dim=4, hidden=12, max_length=40
)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_norms(norm):
    config = dataclasses.replace(CONFIG, norm=norm, norm_bias=True, norm_offset=1.0)
    module = Norm(config, rngs=nnx.Rngs(0))
    x, scale, bias = RNG.normal(size=(3, 8)), RNG.normal(size=8), RNG.normal(size=8)
    module.scale[...], module.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    centred = x - x.mean(-1, keepdims=True) if norm == "layer" else x
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_epsilon)
    expected = centred / deviation * (1 + scale) + bias
    np.testing.assert_allclose(module(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5, atol=1e-6)
    assert module(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("width", [None, 4])
def test_rotary_turns_pairs_of_halves_and_leaves_the_rest(width):
    x, position = RNG.normal(size=8), 7
    turned = x.copy()
    half = (width or 8) // 2
    for i in range(half):
        angle = position * 100.0 ** (-i / half)
        a, b = x[i], x[i + half]
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + half] = b * math.cos(angle) + a * math.sin(angle)
    given = jnp.asarray(x, jnp.float32)[None, None, None]
    got = Rotary(100.0, width)(given, jnp.asarray([[position]]))[0, 0, 0]
    np.testing.assert_allclose(got, turned, rtol=1e-5, atol=1e-6)


def test_scaled_frequencies():
    """Fast ones are left alone, slow ones divided, and those between lie between."""
    plain = 1e4 ** (-np.arange(32) / 32)
    turns = 64 * plain / (2 * math.pi)
    for scaling, low, high in [
        (Scaling("llama3", 8.0, 64, low=1.0, high=4.0), 1.0, 4.0),
        (Scaling("yarn", 8.0, 64, slow=0.5, fast=4.0, truncate=False), 0.5, 4.0),
    ]:
        ratio = scaling.scaled(plain, 1e4, 64) / plain
        np.testing.assert_allclose(ratio[turns > high], 1.0, rtol=1e-12)
        np.testing.assert_allclose(ratio[turns < low], 1 / 8, rtol=1e-12)
        between = ratio[(turns > low) & (turns < high)]
        assert len(between) and ((between > 1 / 8) & (between < 1)).all()
        assert (np.diff(ratio) <= 1e-12).all()
    np.testing.assert_allclose(Scaling("linear", 2.0).scaled(plain, 1e4, 64), plain / 2)
    assert Scaling("yarn", 8.0, 64).magnitude == pytest.approx(0.1 * math.log(8) + 1)


def test_experts_are_chosen_as_by_a_loop():
    """A sigmoid gate with groups: the bias decides who is chosen, and not with what weight."""
    mixture = Mixture(
        8, 3, 4, gate="sigmoid", normalised=True, scale=2.5, bias=True, groups=4, groups_kept=2
    )
    logits, bias = RNG.normal(size=(16, 8)), RNG.normal(size=8)
    experts, weights = choose(jnp.asarray(logits, jnp.float32), mixture, jnp.asarray(bias))
    for row in range(16):
        scores = 1 / (1 + np.exp(-logits[row]))
        ranked = scores + bias
        groups = [sorted(ranked[2 * g : 2 * g + 2])[::-1] for g in range(4)]
        kept = np.argsort([-sum(group[:2]) for group in groups], kind="stable")[:2]
        allowed = [e for e in range(8) if e // 2 in kept]
        chosen = sorted(allowed, key=lambda e: -ranked[e])[:3]
        assert experts[row].tolist() == chosen
        share = scores[chosen] / scores[chosen].sum() * 2.5
        np.testing.assert_allclose(weights[row], share, rtol=1e-5)


def test_few_tokens_and_many_are_mixed_alike():
    config = dataclasses.replace(CONFIG, mixture=Mixture(6, 2, 5, shared_hidden=3))
    experts = Experts(config, rngs=nnx.Rngs(1))
    x = jnp.asarray(RNG.normal(size=(1, 12, 8)), jnp.float32)
    many = experts(x)
    few = jnp.concatenate([experts(x[:, t : t + 1]) for t in range(12)], axis=1)
    np.testing.assert_allclose(many, few, rtol=1e-4, atol=1e-5)
    gate, up, down = (
        np.asarray(p[...]) for p in (experts.gate_proj, experts.up_proj, experts.down_proj)
    )
    token = np.asarray(x)[0, 3]
    logits = token @ np.asarray(experts.gate.kernel[...])
    share = np.exp(logits) / np.exp(logits).sum()
    expected = np.asarray(experts.shared(x[:, 3]))[0]
    for e in np.argsort(-share)[:2]:
        inner = token @ gate[e]
        expected = expected + share[e] * (
            (inner / (1 + np.exp(-inner)) * (token @ up[e])) @ down[e]
        )
    np.testing.assert_allclose(many[0, 3], expected, rtol=1e-4, atol=1e-5)


FORMS = {
    "post-norm, learned positions": {
        "layers": 1,
        "positions": "learned", "placement": "post", "norm": "layer", "norm_bias": True, "gated": False,
        "activation": "gelu", "attention_bias": True, "output_bias": True, "mlp_bias": True, "head_bias": True,
    },
    "sandwich, layers that differ, a mixture": {
        "placement": "sandwich", "norm_offset": 1.0, "embedding_scale": 3.0, "qk_norm": "head",
        "layer_kinds": (LayerKind(3, Rotary(100.0)), LayerKind(None, None)), "attention_scale": 0.3,
        "logit_scale": 0.5, "logit_softcap": 4.0, "mixture": Mixture(4, 2, 5, first=1), "tied": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_networks_of_other_forms_keep_the_contract(form):
    config = dataclasses.replace(CONFIG, **FORMS[form])
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
    check_model(model, jax.tree.map(lambda x: 2 * x, params))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": "after"}, "placement must be one of"),
        ({"layer_kinds": (LayerKind(),)}, "1 layer_kinds for 2 layers"),
        ({"rotary_width": 3}, "rotary_width must be even"),
        ({"rotary_width": 6}, "rotary_width must be 2 to head_dim 4, got 6"),
    ],
)
def test_impossible_forms(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 5, 2), "per_token must be at most 4, got 5"),
        ((4, 0, 2), "per_token must be at least 1, got 0"),
        ((4, 2, 2, "hard"), "gate must be one of"),
    ],
)
def test_impossible_mixtures(sizes, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*sizes)
