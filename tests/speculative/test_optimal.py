"""The best possible acceptance: against every set of tokens, and against the verifiers."""

import itertools

import jax
import numpy as np
import pytest

from jaxdec.speculative.verifiers import optimal_acceptance

pytestmark = pytest.mark.usefixtures("quick_compilation")
P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.1, 0.6])
BEST = jax.jit(optimal_acceptance, static_argnames=("n", "replacement"))


def optimal(p, q, n, replacement):
    with jax.enable_x64(True):
        return np.asarray(BEST(p, q, n=n, replacement=replacement))


def inside(q, tokens, n, replacement):
    """The probability that n drafts are all among some tokens."""
    if replacement:
        return q[tokens].sum() ** n
    total = 0.0
    for drafts in itertools.permutations(tokens, n):
        chance, left = 1.0, 1.0
        for token in drafts:
            chance, left = chance * q[token] / left, left - q[token]
        total += chance
    return total


@pytest.mark.parametrize("replacement", [True, False])
def test_the_worked_example(replacement):
    expected = [3 / 5, 0.84, 0.971] if replacement else [3 / 5, 139 / 140, 1]
    for n, value in enumerate(expected, start=1):
        assert optimal(P, Q, n, replacement) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("replacement", [True, False])
def test_the_best_of_all_sets(replacement):
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.full(5, 0.5), (2, 20))
    sets = [list(s) for size in range(6) for s in itertools.combinations(range(5), size)]
    for n in (2, 3, 4):
        best = [
            1 + min(p[s].sum() - inside(q, s, n, replacement) for s in sets)
            for p, q in zip(p, q, strict=True)
        ]
        np.testing.assert_allclose(optimal(p, q, n, replacement), best, atol=1e-9)


def test_a_law_of_one_token_proposes_no_other():
    assert optimal(np.array([0.3, 0.7]), np.array([1.0, 0.0]), 2, False) == pytest.approx(0.3)


def test_limits():
    with pytest.raises(ValueError, match="at least 1 draft, got 0"):
        optimal_acceptance(P, Q, 0, replacement=True)
    with pytest.raises(ValueError, match="3 tokens give at most as many distinct drafts, got 4"):
        optimal_acceptance(P, Q, 4, replacement=False)
