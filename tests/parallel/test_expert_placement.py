"""Experts on devices: the best placement, networks that stay what they were, counted traffic, guesses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.layers import Mixture, guess_next, recorded
from jaxdec.parallel.expert_placement import (
    expert_affinity,
    expert_order,
    in_order,
    local_share,
    permute_experts,
    place_experts,
)
from jaxdec.parallel.expert_prediction import hit_rate, token_table
from jaxdec.parallel.expert_traffic import (
    all_reduce,
    context,
    one_all_to_all,
    two_all_to_alls,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
CONFIG = TransformerConfig(
    vocab_size=11, width=8, layers=3, heads=2, kv_heads=1, head_dim=4, hidden=8,
    mixture=Mixture(8, 2, 4, bias=True, first=1),
)  # fmt: skip


def routed(model, params, tokens):
    """Logits, experts `[L, S, K]` and guesses `[L - 1, S, K]`."""

    @jax.jit
    def ask(params):
        with recorded() as found:
            logits = model(params, Inputs.causal(tokens), None).logits
        return logits, jnp.stack([r.experts for r in found]), guess_next(found)

    return tuple(map(np.asarray, ask(params)))


def test_transitions_are_counted_as_by_a_loop():
    experts = RNG.integers(0, 4, (3, 2, 5, 2))
    expected = np.zeros((2, 4, 4))
    for layer, row, place in itertools.product(range(2), range(2), range(5)):
        for i, j in itertools.product(experts[layer, row, place], experts[layer + 1, row, place]):
            expected[layer, i, j] += 1
    np.testing.assert_array_equal(expert_affinity(experts, 4), expected)


def test_the_integer_programme_finds_the_best_of_all_placements():
    halves = [row for row in itertools.product((0, 1), repeat=4) if sum(row) == 2]
    for seed in range(3):
        counts = np.random.default_rng(seed).random((2, 4, 4)) ** 3
        every = [
            local_share(counts, np.asarray(rows)) for rows in itertools.product(halves, repeat=3)
        ]
        exact, exchange = (place_experts(counts, 2, method) for method in ("exact", "exchange"))
        assert exact.local == pytest.approx(max(every), rel=1e-9)
        assert exact.bound == pytest.approx(exact.local, rel=1e-4)
        assert exchange.local <= max(every) + 1e-12
        assert exchange.local >= np.mean(every)


@pytest.mark.parametrize("devices", [4, (2, 2)])
@pytest.mark.parametrize("method", ["exact", "exchange"])
def test_hidden_groups_are_found(devices, method):
    """Tokens that never leave a group of experts, which is scattered over the numbers."""
    groups = np.stack([RNG.permutation(8) // 2 for _ in range(3)])
    counts = (groups[:-1, :, None] == groups[1:, None, :]) * RNG.integers(1, 9, (2, 8, 8))
    found = place_experts(counts, devices, method)
    assert found.local == pytest.approx(1.0)
    assert (np.sort(found.devices, axis=1) == np.arange(8) // 2).all()
    assert local_share(counts, in_order(3, 8, 4)) < 0.8


def test_a_network_with_experts_in_another_order_computes_what_it_did():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    params = jax.tree.map(lambda x: x + 0.3 * RNG.normal(size=x.shape).astype(np.float32), params)
    tokens = jnp.asarray(RNG.integers(0, 11, (3, 7)), jnp.int32)
    logits, experts, _ = routed(model, params, tokens)
    counts = expert_affinity(experts, 8)
    found = place_experts(counts, 2, "exchange")
    order = expert_order(found.devices)
    moved = permute_experts({"target": params}, order)["target"]
    after, places, _ = routed(model, moved, tokens)
    np.testing.assert_allclose(after, logits, rtol=1e-4, atol=1e-5)
    for layer in range(2):
        np.testing.assert_array_equal(order[layer][places[layer]], experts[layer])
    # Laid out in order, device by device, they lie where the placement says.
    share = local_share(expert_affinity(places, 8), in_order(2, 8, 2))
    assert share == pytest.approx(found.local) and share > local_share(counts, in_order(2, 8, 2))
    for wrong, message in (
        (order[:1], "order is for 1 mixtures of 8 experts; the network has another"),
        (np.concatenate([order, order]), "order is for 4 mixtures, the network has 2"),
        (order[:, :4] * 0, "must be a permutation of 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            permute_experts(params, wrong)
    with pytest.raises(ValueError, match="breaks up a group of 4 experts"):
        permute_experts(params, np.asarray([[0, 4, 1, 2, 3, 5, 6, 7]] * 2), groups=2)


def test_impossible_placements():
    for counts, devices, message in (
        (np.ones((1, 4, 4)), 3, "3 devices do not divide 4 experts"),
        (np.ones((1, 4, 4)), (2, 4), "8 devices do not divide 4 experts"),
        (np.ones((4, 4)), 2, r"counts must be \[L - 1, E, E\], got \(4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            place_experts(counts, devices)
    with pytest.raises(ValueError, match="method must be one of"):
        place_experts(np.ones((1, 4, 4)), 2, "best")
    with pytest.raises(ValueError, match="experts must be 0 to 3, got 0, 4"):
        expert_affinity(np.asarray([[[0]], [[4]]]), 4)


def test_traffic_is_that_of_a_loop():
    layers, tokens, count = 3, 40, 4
    experts = np.argsort(RNG.random((layers, tokens, 8)))[:, :, :2]
    devices = np.stack([RNG.permutation(8) // 2 for _ in range(layers)])
    homes = RNG.integers(0, count, (layers, tokens))
    two = two_all_to_alls(experts, devices, count, homes)
    one, stays = one_all_to_all(experts, devices, count, homes[0])
    for token in range(tokens):
        expected, moves, stayed, at = 0, 0, 0, homes[0, token]
        for layer in range(layers):
            needed = {devices[layer, e] for e in experts[layer, token]}
            expected += 2 * len(needed - {homes[layer, token]})
            moves += len(needed - {at})
            stayed += at in needed
            at = at if at in needed else devices[layer, experts[layer, token, 0]]
            moves += len(needed - {at})
        assert (two[token], one[token], stays[token]) == (expected, moves, stayed)
    # With one expert a token: a move for each transition that is not local, and what two all-to-alls would cost.
    single, stays = one_all_to_all(experts[:, :, :1], devices, count, homes[0])
    np.testing.assert_array_equal(single, layers - stays)
    assert (all_reduce(3, 4), context(3, 4, 10)) == (18, 90)


def test_tokens_that_go_by_their_name_are_guessed():
    experts = np.argsort(RNG.random((2, 5, 8)))[:, :, :2]
    tokens = RNG.integers(0, 4, (3, 9))
    table = token_table(tokens, experts[:, tokens], 5, 8)
    guessed = table.guess(jnp.asarray(tokens), 2)
    assert float(hit_rate(guessed, jnp.asarray(experts[:, tokens])).min()) == 1.0
    assert float(hit_rate(guessed[..., :1], jnp.asarray(experts[:, tokens])).max()) == 0.5
    # A token that was never seen: what all tokens did.
    counts = np.bincount(experts[0, tokens].ravel(), minlength=8)
    assert counts[table.guess(jnp.asarray([4]), 1)[0, 0, 0]] == counts.max()
    # Its experts of all layers lie on its home, where there is such a device.
    devices = np.ones((2, 8), int)
    for layer in range(2):
        devices[layer, experts[layer, 2]] = 3
    assert int(table.home(jnp.asarray(2), devices, 4)) == 3
    with pytest.raises(ValueError, match="tokens must be 0 to 3, got"):
        token_table(tokens + 2, experts[:, tokens], 4, 8)
    with pytest.raises(ValueError, match=r"experts must be \[L, \(3, 8\), K\]"):
        token_table(tokens[:, 1:], experts[:, tokens], 5, 8)


def test_the_next_gate_is_right_where_a_layer_adds_nothing():
    model, params = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)))
    tokens = jnp.asarray(RNG.integers(0, 11, (2, 9)), jnp.int32)
    silent = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 0 if any(n in str(path) for n in ("o_proj", "down_proj")) else x, params
    )
    _, experts, guessed = routed(model, silent, tokens)
    np.testing.assert_array_equal(guessed, experts[1:])
    _, experts, guessed = routed(model, jax.tree.map(lambda x: 4 * x, params), tokens)
    assert (guessed != experts[1:]).any()
