"""Samples that repel one another: against finite differences, and what stays as it is."""

import jax
import numpy as np
import pytest

from jaxdec.diffusion import denoise, orthogonal_repulsion, unmask
from jaxdec.testing.parts import policy_twins as twins
from jaxdec.testing.parts.group_states import scored, standing
from tests.diffusion.canvases import BUDGET, LENGTHS, PROMPTS, decode, oracle, same, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
H, WIDTH, V = 3, 4, 5
STRENGTH = np.array([16.0, 5.0, 2.0, 3.0, 0.0, 7.0], np.float32)


def features(logits, masked, tokens):
    """The vector of one sample and how sure it is."""
    law = np.exp(logits - logits.max(-1, keepdims=True))
    law /= law.sum(-1, keepdims=True)
    pooled = np.where(masked[:, None], law, np.eye(V)[tokens]).max(0)
    sure = law.max(-1)[masked].mean() if masked.any() else 0.0
    return pooled / np.linalg.norm(pooled), sure


def twin(logits, masked, tokens, strength):
    """New logits of the samples of one prompt."""
    found, basis = logits.copy(), []
    for k in range(H):
        own, _ = features(logits[k], masked[k], tokens[k])
        for way in basis:
            own = own - (own @ way) * way
        if np.linalg.norm(own) <= 1e-6:
            continue
        way = own / np.linalg.norm(own)
        basis.append(way)
        if not k:
            continue

        def loss(at, k=k, way=way):
            vector, sure = features(at, masked[k], tokens[k])
            return -(vector @ way) * sure

        force = np.zeros((WIDTH, V))
        for place in np.ndindex(WIDTH, V):
            step = np.zeros((WIDTH, V))
            step[place] = 1e-5
            force[place] = (loss(logits[k] + step) - loss(logits[k] - step)) / 2e-5
        force[:, twins.END] = 0
        largest = np.linalg.norm(force, axis=-1).max()
        if largest > 0:
            found[k] -= strength[k] * masked[k].sum() / WIDTH * force / largest
    return found


def test_finite_differences():
    """Two prompts of three samples; one sample is another's twin, one has no masks left."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, WIDTH, V), scale=1.5).astype(np.float32)
    tokens = rng.integers(0, V, (6, WIDTH))
    masked = rng.random((6, WIDTH)) < 0.7
    masked[1] = True
    logits[5], tokens[5], masked[5] = logits[4], tokens[4], masked[4]
    masked[2] = False
    part = orthogonal_repulsion()
    fuse = jax.jit(part.fuse)
    given = (scored(logits), standing(masked, tokens, H))
    found, _ = fuse(None, *given, None, {"repulsion": STRENGTH})
    found = np.asarray(found)
    for prompt in range(2):
        rows = slice(3 * prompt, 3 * prompt + 3)
        expected = twin(logits[rows].astype(float), masked[rows], tokens[rows], STRENGTH[rows])
        np.testing.assert_allclose(found[rows], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(found[[0, 2, 3, 4, 5]], logits[[0, 2, 3, 4, 5]])
    assert np.abs(found[1] - logits[1]).max() > 1
    # Samples whose laws are no numbers push nobody.
    broken = logits.copy()
    broken[3] = np.nan
    other, _ = fuse(None, scored(broken), given[1], None, {"repulsion": STRENGTH})
    np.testing.assert_array_equal(np.asarray(other)[:3], found[:3])
    assert np.isfinite(np.asarray(other)[4:]).all()


@pytest.mark.slow
def test_prompts_know_nothing_of_one_another():
    model, params = oracle()
    decoder = denoise(model, unmask=unmask.quota("max_prob"), fuse=orthogonal_repulsion())
    plain = denoise(model, unmask=unmask.quota("max_prob"))
    options = dict(temperature=1.0, hypotheses=3, steps=6)
    free = decode(plain, {"target": params}, **options)
    same(free, decode(decoder, {"target": params}, **options, repulsion=0.0))
    found = decode(decoder, {"target": params}, **options, repulsion=[9.0, 4.0, 2.0])
    first = [texts(found)[row] == texts(free)[row] for row in range(9)]
    assert all(first[::3]) and not any(first[1::3]) and not any(first[2::3])
    turn = lambda x: np.roll(np.asarray(x), 1, axis=0)
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(7), row))(np.arange(3))
    others = decode(
        decoder,
        {"target": params},
        **options,
        rng=keys[turn(np.arange(3))],
        prompt=turn(PROMPTS),
        lengths=turn(LENGTHS),
        max_new_tokens=turn(BUDGET),
        repulsion=[2.0, 9.0, 4.0],
    )
    assert texts(others) == [texts(found)[row] for row in (6, 7, 8, 0, 1, 2, 3, 4, 5)]
