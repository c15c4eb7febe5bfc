"""Mixtures: sums over a part of the experts, who asks where tokens went, and where tokens begin on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.layers import (
    Bank,
    Mixture,
    balance_loss,
    recorded,
    use_experts,
    weighted_sum,
)
from jaxdec.models.layers.expert_parallel import by_device, devices_of, form_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
CONFIG = TransformerConfig(
    vocab_size=11, width=8, layers=2, heads=2, kv_heads=1, head_dim=4, hidden=8,
    mixture=Mixture(4, 2, 4),
)  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 9])
def test_sums_over_parts_of_the_experts_add_up(tokens):
    """Few tokens and many; an expert of another part adds nothing, not even a NaN."""
    shapes = ((8, 6, 5), (8, 6, 5), (8, 5, 6))
    bank = Bank(*(jnp.asarray(RNG.normal(size=s), jnp.float32) for s in shapes))
    x = jnp.asarray(RNG.normal(size=(tokens, 6)), jnp.float32)
    experts = jnp.asarray(np.argsort(RNG.random((tokens, 8)))[:, :3], jnp.int32)
    weights = jnp.asarray(RNG.random((tokens, 3)), jnp.float32)
    whole = weighted_sum(x, experts, weights, bank, "silu")
    parts = 0.0
    for first in (0, 4):
        held = Bank(*(proj[first : first + 4] for proj in bank))
        own = jnp.where(experts < first, 4, experts - first)
        parts += weighted_sum(x, own, jnp.where(own < 4, weights, jnp.nan), held, "silu")
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)


def test_all_nodes_of_a_draft_tree_are_routed_together():
    """One call of every mixture a forward, with the pending token and all nodes of every row."""
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    nodes = 5
    drafter = jaxdec.drafters.lookup_tree(nodes=nodes, max_ngram=2)
    decoder = jaxdec.speculative(model, drafter=drafter)
    request = jaxdec.prepare(decoder, {"target": params}, np.ones((3, 4), int), max_new_tokens=4)
    state = jax.eval_shape(decoder.init, {"target": params}, request)
    keys = jax.random.split(jax.random.key(0), 3)
    with recorded() as found:
        jax.eval_shape(decoder.step, {"target": params}, state, keys)
    shapes = [routed.experts.shape for routed in found]
    assert shapes == [(3 * (nodes + 1), 2)] * CONFIG.layers
    with recorded() as empty:
        pass
    assert empty == []


def test_the_balance_loss_is_one_where_tokens_are_spread_evenly():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    tokens = jnp.asarray(RNG.integers(0, 11, (2, 6)), jnp.int32)
    with recorded() as found:
        model(params, jaxdec.model.Inputs.causal(tokens), None)
    even = [r._replace(logits=jnp.zeros_like(r.logits)) for r in found]
    assert balance_loss(even) == pytest.approx(1.0)
    # One choice for all: E / K of it where the gate is sure.
    crowd = [
        r._replace(
            experts=jnp.tile(jnp.asarray([[1, 2]], jnp.int32), (12, 1)),
            logits=jnp.tile(jnp.asarray([[0, 50, 50, 0]], jnp.float32), (12, 1)),
        )
        for r in found
    ]
    assert balance_loss(crowd) == pytest.approx(2.0)


@pytest.mark.parametrize(("tokens", "devices"), [(8, 4), (11, 4), (3, 4)])
def test_every_token_begins_on_one_device_most_of_them_at_home(tokens, devices):
    place = jax.jit(by_device, static_argnums=1)
    share = -(-tokens // devices)
    for seed in range(8):
        homes = np.random.default_rng(seed).integers(0, devices, tokens)
        order = np.asarray(place(jnp.asarray(homes, jnp.int32), devices))
        assert sorted(order[order < tokens]) == list(range(tokens))
        at = np.full(tokens, -1)
        at[order[order < tokens]] = np.flatnonzero(order < tokens) // share
        full = np.minimum(np.bincount(homes, minlength=devices), share)
        assert (at == homes).sum() == full.sum()


def test_without_a_mesh_experts_lie_on_one_device():
    assert devices_of(8) == 1
    assert form_of(4, 2, 8) == "replicated"
    assert form_of(100_000, 8, 8) == "replicated"  # 2 K / G + 1 vectors are more than 2
    assert form_of(100_000, 2, 8) == "dispatch"
    with use_experts("dispatch"):
        assert form_of(4, 2, 8) == "dispatch"
    with (
        pytest.raises(ValueError, match="form must be one of replicated, dispatch, spec"),
        use_experts("x"),
    ):
        pass
