"""Training ADJUST's network: what a step asks, what it teaches, and what stays as it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdec import visibility
from jaxdec.diffusion import canvas_model
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig, build_heads, start_heads
from jaxdec.training import joint
from jaxdec.training.joint import JointTraining

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = dict(vocab_size=12, width=16, heads=2, kv_heads=1, head_dim=8, hidden=16)
MASK = 11
CONFIG = JointTraining(
    TransformerConfig(**SIZES, layers=1),
    steps=2,
    batch=3,
    rows_at_once=3,
    length=16,
    tokens=3,
    group=6,
)
STREAM = np.random.default_rng(0).integers(0, 11, 200)


@functools.cache
def target():
    model, params = from_nnx(Transformer(TransformerConfig(**SIZES, layers=2), rngs=nnx.Rngs(3)))
    return canvas_model(model, MASK), jax.tree.map(lambda x: 4 * x if x.ndim == 2 else x, params)


def drawn(step=0):
    return joint.draw(STREAM, batch=3, length=16, seed=1, step=step, group=6, least=3)


@functools.cache
def one():
    """The steps of a batch, and the gradient of their loss, for a network that was not trained."""
    network, params = build_heads("adjust", CONFIG.model)
    params = start_heads(params, target()[1])

    def loss(params, fixed, batch):
        steps = joint.unroll(CONFIG, network, joint.frozen(params), (target()[0], fixed), batch)
        return sum(map(joint.divergence, steps)), steps

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, steps), slope = grad(params, target()[1], jax.tree.map(jnp.asarray, drawn()))
    return value, steps, slope


def test_windows_are_masked_in_a_group():
    batch, again, other = drawn(), drawn(), drawn(1)
    jax.tree.map(np.testing.assert_array_equal, batch, again)
    assert (batch.tokens != other.tokens).any()
    assert batch.tokens.shape == (3, 16) and (batch.masked.sum(1) >= 3).all()
    assert (batch.start >= 8).all() and (batch.start <= 10).all()


def test_each_step_fills_the_surest_mask_and_the_model_says_what_it_would_see():
    model, params = target()
    batch = drawn()
    _, steps, _ = one()
    masked = np.asarray(batch.masked)
    for step in steps:
        law = np.asarray(step.stale)  # an untrained network repeats the forward
        np.testing.assert_allclose(step.student[..., :MASK], law[..., :MASK], atol=1e-4)
        entropy = -np.where(law > -np.inf, np.exp(law) * np.where(law > -np.inf, law, 0), 0).sum(-1)
        surest = np.where(masked, entropy, np.inf).argmin(1)
        masked = masked & (np.arange(6) != surest[:, None])
        np.testing.assert_array_equal(step.masked, masked)
        assert np.isneginf(np.asarray(step.teacher)[..., MASK]).all()
    # The first law, of the model itself.
    places = np.arange(16)
    group = (places >= batch.start[:, None]) & (places < batch.start[:, None] + 6)
    known = (places < batch.start[:, None]) | group
    fed = np.where(known, batch.tokens, MASK)
    for row in range(3):
        fed[row, batch.start[row] : batch.start[row] + 6][batch.masked[row]] = MASK
    positions = jnp.broadcast_to(jnp.arange(16, dtype=jnp.int32), fed.shape)
    inputs = Inputs(jnp.asarray(fed, jnp.int32), positions, *visibility.full(positions))
    logits = np.array(jax.jit(lambda p: model(p, inputs, None).logits)(params))
    logits[..., MASK] = -np.inf
    expected = np.asarray(jax.nn.log_softmax(logits))[group].reshape(3, 6, -1)
    np.testing.assert_allclose(steps[0].stale, expected, atol=1e-4)


def test_the_loss_is_the_divergence_and_only_the_layer_learns():
    value, steps, slope = one()
    expected = 0.0
    for step in steps:
        teacher, student = (
            np.asarray(x, np.float64)[..., :MASK] for x in (step.teacher, step.student)
        )
        apart = (np.exp(teacher) * (teacher - student)).sum(-1)
        expected += apart[np.asarray(step.masked)].mean()
        far = np.abs(np.exp(teacher) - np.exp(student)).sum(-1)[np.asarray(step.masked)].mean() / 2
        np.testing.assert_allclose(joint.distances(step), [far, far], rtol=1e-3)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert expected > 1e-3
    sizes = {
        name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(part))
        for name, part in slope.items()
    }
    assert sizes.pop("embed_tokens") == sizes.pop("lm_head") == 0
    assert np.isfinite(list(sizes.values())).all() and sizes["change"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(tokens=1), "tokens must be at least 2, got 1"),
        (dict(group=2), "group must be 3 to 16 positions, got 2"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        JointTraining(CONFIG.model, **{**dict(steps=2, length=16, tokens=3, group=6), **changes})
