"""Joint rules: the law of several tokens a forward by enumeration, and what the network and its bounds do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec.decoding import Scored
from jaxdec.diffusion import adjust, denoise, energy, schedules, unmask
from jaxdec.diffusion.joint import Revealed
from jaxdec.diffusion.joint.adjust import bounded
from jaxdec.models import TransformerConfig
from jaxdec.models.heads import build_heads, start_heads
from jaxdec.testing import oracles
from jaxdec.testing.battery import FALSE_POSITIVE_RATE
from jaxdec.testing.draws import count_draws, distance
from jaxdec.testing.statistics import g_test
from tests.diffusion.canvases import VOCAB, decode, oracle, same, transformer

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE, TOKENS, DRAWS = 3, 3, 20_000


@functools.cache
def table():
    """A canvas of a joint law of three tokens that does not depend on the prompt: the network sees the group alone."""
    model, params = oracles.joint_oracle(TOKENS, SIZE + 1, seed=3, concentration=0.3)
    law = params[1] / params[1].sum()
    params = jnp.broadcast_to(law / TOKENS, params.shape)
    return oracles.canvas(model), {"target": params, "joint": params}, np.asarray(law, np.float64)


@functools.cache
def drawn(tokens):
    """Texts of a decoder whose network is the model itself."""
    model, params, law = table()
    rule = adjust(model, mask_token=TOKENS, tokens=SIZE)
    decoder = denoise(model, unmask=unmask.quota("entropy"), joint=rule)
    return count_draws(decoder, params, law.shape, draws=DRAWS, batch=DRAWS, joint_tokens=tokens)


def test_a_network_that_knows_the_law_draws_from_it_in_one_forward():
    """The total variation of the joint law from independent draws is the control."""
    model, params, law = table()
    assert g_test(drawn(SIZE).reshape(-1), law.reshape(-1)) > FALSE_POSITIVE_RATE
    at_once = denoise(model, unmask=unmask.quota("entropy", steps=1))
    counts = count_draws(at_once, {"target": params["target"]}, law.shape, draws=DRAWS, batch=DRAWS)
    far, expected = distance(counts, law)
    assert far > 0.2 and distance(drawn(SIZE), law)[0] < 3 * expected


def canvas_pair():
    """A canvas model, a network that is another model of the same tokens, and their parameters."""
    model, params = oracle(canvas=True)
    return model, {"target": params, "joint": params}


@pytest.mark.slow
def test_one_token_a_forward_is_the_decoder_without_it_and_rows_have_their_own_number():
    model, params = canvas_pair()
    parts = dict(unmask=unmask.quota("max_prob"), schedule=schedules.blocks(6))
    plain = decode(denoise(model, **parts), params, temperature=0.8)
    rule = adjust(model, mask_token=VOCAB, tokens=3)
    decoder = denoise(model, **parts, joint=rule)
    found = decode(decoder, params, temperature=0.8, joint_tokens=np.array([1, 2, 3]))
    alone = [np.asarray(x.tokens)[0].tolist() for x in (plain, found)]
    assert alone[0] == alone[1]
    budget = np.array([24, 17, 30])
    blocks = lambda n, k: sum(-(-min(6, n - i) // k) for i in range(0, n, 6))
    expected = [blocks(n, k) for n, k in zip(budget, (1, 2, 3), strict=True)]
    np.testing.assert_array_equal(found.stats.target_forwards, expected)
    np.testing.assert_array_equal(found.stats.draft_forwards, budget - expected)
    same(plain, decode(decoder, params, temperature=0.8, joint_tokens=1))


def revealed(new):
    tokens = jnp.array([[1, 0, 2, 1]])
    places = jnp.arange(4)[None]
    there = jnp.ones((1, 4), bool)
    return Revealed(places, there, tokens, jnp.asarray([new]), jnp.asarray([new]))


def test_bounds_hold_the_conditionals_of_every_joint_law():
    """Given one token, those of random joint laws lie within the bounds of their marginals and are left alone."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        law = rng.dirichlet(np.full(TOKENS**3, 0.3)).reshape((TOKENS,) * 3)
        sides = [law.sum(tuple(j for j in range(3) if j != i)) for i in range(3)]
        first = jnp.log(jnp.asarray([[*sides, sides[0]]], jnp.float32))
        after = law[1].sum(0) / law[1].sum()
        logits = first.at[0, 2].set(jnp.log(jnp.asarray(after, jnp.float32)))
        found = np.exp(np.asarray(bounded(logits, first, revealed([True, False, False, False]))))
        np.testing.assert_allclose(found[0, 2], after, atol=2e-5)
    # Where one token is certain, marginals leave no choice.
    sure = jnp.log(jnp.array([[[0, 1.0, 0], [0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]]))
    found = np.exp(np.asarray(bounded(jnp.zeros_like(sure), sure, revealed([True] + [False] * 3))))
    np.testing.assert_allclose(found, np.exp(np.asarray(sure)), atol=1e-6)


@functools.cache
def network():
    config = TransformerConfig(
        vocab_size=VOCAB + 1, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16
    )
    return build_heads("adjust", config, seed=1)


def test_an_untrained_network_changes_nothing_and_a_changed_one_sees_new_tokens():
    model, target = transformer()
    layer, params = network()
    params = start_heads(params, target)
    rule = adjust(layer, mask_token=VOCAB, tokens=2)
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(1, 4, 16)), jnp.float32)
    kernel = (
        target["lm_head"]["kernel"]
        if "lm_head" in target
        else target["embed_tokens"]["embedding"].T
    )
    first = Scored(hidden @ kernel, hidden)
    step = jax.jit(lambda params, seen: rule.further(params, first, first, seen, {}))
    some = revealed([True, False, False, False])
    np.testing.assert_allclose(step(params, some).logits, first.logits, rtol=1e-4, atol=1e-4)
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.5 if "'change'" in str(path) else x, params
    )
    one = step(params, some)
    other = step(params, some._replace(tokens=some.tokens.at[0, 0].set(3)))
    masked = step(params, some._replace(tokens=some.tokens.at[0, 1].set(3)))
    assert np.abs(np.asarray(one.logits - other.logits)[0, 1:]).max() > 1e-3
    np.testing.assert_array_equal(one.logits, masked.logits)  # what stands at masks means nothing
    assert one.hidden.shape == hidden.shape and nnx is not None and model.canvas


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: adjust(c, mask_token=VOCAB, tokens=0), "at least 1 token a forward, got 0"),
        (
            lambda c: denoise(c, joint=adjust(oracle()[0], mask_token=VOCAB)),
            f"has {VOCAB + 1} tokens, the network of adjust {VOCAB}",
        ),
        (
            lambda c: denoise(c, joint=adjust(c, mask_token=VOCAB), branches=2),
            "one branch, got 2",
        ),
        (lambda c: denoise(c, joint=unmask.threshold()), "kind Joint, got Threshold"),
        (
            lambda c: denoise(oracle()[0], joint=adjust(oracle()[0], mask_token=0)),
            "goes on from states of masks, and the model answers queries",
        ),
    ],
)
def test_bad_settings(make, message):
    model, _ = canvas_pair()
    with pytest.raises(ValueError, match=message):
        make(model)
    assert energy is not None
