"""Continuous tokens: laws by quadrature, draws by their moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.speculative import (
    Gaussian,
    chain_volume,
    continuous_ratio,
    keeping,
    log_acceptance,
    reflected,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = np.linspace(-14, 14, 20_001)[:, None]
STEP = GRID[1, 0] - GRID[0, 0]
PAIRS = [((0.0, 1.0), (0.7, 1.0)), ((0.5, 0.6), (0.0, 1.3)), ((-1.0, 1.5), (1.0, 0.5))]


def law(mean, scale):
    return Gaussian(jnp.full((1, 1), mean, jnp.float32), jnp.full((1, 1), scale, jnp.float32))


def density(gaussian, x=GRID):
    return np.exp(np.asarray(gaussian.log_density(jnp.asarray(x, jnp.float32)), float))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_round_emits_the_density_of_the_target(pair):
    p, q = (law(*each) for each in pair)
    x = jnp.asarray(GRID, jnp.float32)
    accepted = np.exp(np.asarray(log_acceptance(x, p, q), float)) * density(q)
    kept = np.asarray(keeping(x, p, q), float) * density(p)
    share, left = accepted.sum() * STEP, kept.sum() * STEP
    overlap = np.minimum(density(p), density(q)).sum() * STEP
    assert share == pytest.approx(overlap, abs=1e-4)
    emitted = accepted + (1 - share) * kept / left
    assert np.abs(emitted - density(p)).sum() * STEP < 1e-3


def test_a_mirrored_draft_has_the_density_of_the_target():
    p, q = law(0.4, 0.9), law(-0.8, 0.9)
    x = jnp.asarray(GRID, jnp.float32)
    passing = np.exp(np.asarray(log_acceptance(x, p, q), float))
    mirror = 0.4 - 0.8 - GRID[:, 0]  # where the mirrored draft came from
    back = np.interp(mirror, GRID[:, 0], density(q) * (1 - passing))
    emitted = density(q) * passing + back
    assert np.abs(emitted - density(p)).sum() * STEP < 1e-3


def drawn(rows=40_000, same=False):
    """Drafts of two dimensions, their laws, keys and places."""
    rng = np.random.default_rng(0)
    full = lambda *values: jnp.broadcast_to(jnp.asarray(values, jnp.float32), (rows, 2))
    p = Gaussian(full(0.3, -0.5), full(1.0, 0.7))
    q = Gaussian(full(-0.2, 0.4), full(1.0, 0.7) if same else full(1.2, 0.8))
    draft = q.mean + q.scale * rng.normal(size=(rows, 2)).astype(np.float32)
    keys = jnp.broadcast_to(jax.random.key(0), (rows,))
    return keys, jnp.arange(rows, dtype=jnp.int32), draft, p, q


@pytest.mark.parametrize("judge", [continuous_ratio, reflected])
def test_draws_have_the_moments_of_the_target(judge):
    keys, place, draft, p, q = drawn(same=judge is reflected)
    judged = jax.jit(judge)(keys, place, draft, p, q)
    value = np.asarray(judged.value)
    assert judged.settled.all() and 0.3 < judged.accepted.mean() < 0.9
    assert (value[judged.accepted] == draft[judged.accepted]).all()
    for moment, expected, sure in (
        (value.mean(0), [0.3, -0.5], 0.025),
        (value.std(0), [1.0, 0.7], 0.02),
        (np.corrcoef(value.T)[0, 1], 0.0, 0.025),
    ):
        np.testing.assert_allclose(moment, expected, atol=sure)
    wrong = np.where(judged.accepted[:, None], draft, p.mean + (draft - q.mean))  # not mirrored
    assert np.abs(wrong.mean(0) - [0.3, -0.5]).max() > 0.05


def test_rows_are_alone_and_tries_are_bounded():
    keys, place, draft, p, q = drawn(64)
    far = Gaussian(p.mean + 8, p.scale * 0.1)
    judge = jax.jit(continuous_ratio, static_argnames="tries")
    whole = judge(keys, place, draft, far, q, tries=3)
    part = judge(*jax.tree.map(lambda x: x[5:7], (keys, place, draft, far, q)), tries=3)
    np.testing.assert_array_equal(whole.value[5:7], part.value)
    assert not whole.accepted.any() and (whole.tried <= 3).all()
    hopeless = judge(keys, place, draft, q, q, volume=-5.0, tries=3)
    assert (hopeless.tried == 3 * ~hopeless.accepted).all()
    assert (hopeless.settled == hopeless.accepted).all()
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        continuous_ratio(keys, place, draft, p, q, tries=0)


def test_chains_with_the_same_noise_differ_by_their_volume():
    rng = np.random.default_rng(1)
    p_scales, q_scales, noise = rng.uniform(0.5, 2, (3, 4, 5, 2))
    logs = []
    for scales in (p_scales, q_scales):
        step = Gaussian(jnp.zeros((20, 2)), jnp.asarray(scales.reshape(20, 2)))
        logs.append(np.asarray(step.log_density(scales.reshape(20, 2) * noise.reshape(20, 2))))
    apart = (logs[0] - logs[1]).reshape(4, 5).sum(1)
    np.testing.assert_allclose(chain_volume(p_scales, q_scales), apart, atol=1e-5)
    keys, place, draft, _, q = drawn(64)
    assert continuous_ratio(keys, place, draft, q, q).accepted.all()
