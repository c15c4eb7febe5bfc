"""Acceptance rules of chains, proved by enumeration; each violation of the law of lossless drafting is caught."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.speculative import verifiers
from jaxdec.testing.enumeration import (
    Chooser,
    chain,
    complete,
    law_of,
    plain_law,
    random_conditional,
    total_variation,
    tree_round,
    tree_round_law,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
RULES = {"token": verifiers.TokenRatio(), "block": verifiers.BlockVerification()}
V = 3


def distance(verifier, drafts, seed, **options):
    target = random_conditional(V, drafts + 1, seed)
    draft = random_conditional(V, drafts + 1, seed + 1000)
    law = tree_round_law(verifier, target, chain(draft, drafts, **options), drafts + 1)
    return total_variation(law, plain_law(target, drafts + 1))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("drafts", [1, 2, 3])
@pytest.mark.parametrize("chosen", [False, True])
def test_chain_rules_are_exact(name, drafts, chosen):
    for seed in range(3):
        assert distance(RULES[name], drafts, seed, chosen=chosen) < 1e-12


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("real", [0, 1, 2])
def test_chain_rules_are_exact_on_short_drafts(name, real):
    assert distance(RULES[name], 3, 5, real=real) < 1e-12


def test_worked_example_of_the_token_rule():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.1, 0.6])
    with jax.enable_x64(True):
        for token, accepted in [(0, 1.0), (1, 1.0), (2, 1 / 3)]:
            law = verifiers.token_law(
                jnp.asarray([[p, p]]),
                jnp.asarray([[q]]),
                jnp.asarray([[token]]),
                jnp.ones((1, 1), bool),
            )
            assert float(law.passing[0, 0]) == pytest.approx(accepted, abs=1e-12)
            np.testing.assert_allclose(law.closing[0, 0], [0.5, 0.5, 0], atol=1e-12)
            np.testing.assert_allclose(law.closing[0, 1], p, atol=1e-12)


def test_equal_laws_accept_everything_and_fall_back_to_p():
    p = jnp.asarray([[[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]])
    law = verifiers.token_law(p, p[:, :1], jnp.asarray([[1]]), jnp.ones((1, 1), bool))
    assert float(law.passing[0, 0]) == 1
    np.testing.assert_allclose(law.closing[0, 0], p[0, 0])  # nothing is left of p - q


@pytest.mark.parametrize(
    ("drafts", "token", "block"), [(1, 2 / 3, 2 / 3), (2, 10 / 9, 11 / 9), (3, 38 / 27, 5 / 3)]
)
def test_expected_acceptance_of_the_toy_pair(drafts, token, block):
    target, draft = (lambda prefix: np.array([1, 2]) / 3), (lambda prefix: np.array([2, 1]) / 3)
    for name, expected in (("token", token), ("block", block)):
        _, mean = tree_round(RULES[name], target, chain(draft, drafts))
        assert mean == pytest.approx(expected, abs=1e-12)


def test_block_verification_accepts_at_least_as_much():
    for seed in range(3):
        target, draft = random_conditional(V, 3, seed), random_conditional(V, 3, seed + 50)
        means = [tree_round(RULES[name], target, chain(draft, 2))[1] for name in RULES]
        assert means[1] >= means[0] - 1e-12
        assert means[1] > means[0]  # strictly on random tables


def test_a_token_of_probability_zero_never_passes():
    p = jnp.asarray([[[0.0, 1.0], [0.5, 0.5]]])
    q = jnp.asarray([[[1.0, 0.0]]])
    for rule in (verifiers.token_law, verifiers.block_law):
        law = rule(p, q, jnp.asarray([[0]]), jnp.ones((1, 1), bool))
        assert not bool(0.0 * law.denominator[0, 0] < law.numerator[0, 0])  # u = 0 exactly


# ------------------------------------------------------------------------------------------------------------------
# Violations. Each is one round written out as a program; each must show a distance far above rounding.


def residual(p, q):
    left = np.maximum(p - q, 0)
    return left / left.sum() if left.sum() > 0 else p


def token_round(
    chooser, target, draft, drafts, *, stop=lambda law, x: False, stop_after=lambda law, x: False
):
    """The token rule; `stop` drops a drawn draft and ends drafting, `stop_after` ends it after keeping the draft."""
    x = ()
    for _ in range(drafts):
        token = chooser.choose(draft(x))
        if stop(draft(x), token):
            break
        x = (*x, token)
        if stop_after(draft(x[:-1]), token):
            break
    for i, token in enumerate(x):
        p, q = target(x[:i]), draft(x[:i])
        if not chooser.flip(p[token] / q[token]):
            return (*x[:i], chooser.choose(residual(p, q)))
    return (*x, chooser.choose(target(x)))


def far(program, seeds=range(4), length=3):
    worst = 0.0
    for seed in seeds:
        target, draft = (
            random_conditional(V, length, seed),
            random_conditional(V, length, seed + 77),
        )

        def complete_round(chooser: Chooser, target=target, draft=draft):
            return complete(chooser, program(chooser, target, draft), target, length)

        worst = max(worst, total_variation(law_of(complete_round), plain_law(target, length)))
    return worst


def test_the_program_without_a_violation_is_exact():
    assert far(lambda c, p, q: token_round(c, p, q, 2)) < 1e-12


def test_stopping_after_a_low_confidence_draft_is_exact():
    stop_after = lambda law, x: law[x] < 0.4
    assert far(lambda c, p, q: token_round(c, p, q, 2, stop_after=stop_after)) < 1e-12


def soft_q_for_argmax(c, p, q):
    token = int(np.argmax(q(())))
    if c.flip(p(())[token] / q(())[token]):
        return (token,)
    return (c.choose(residual(p(()), q(()))),)


def retest_of_an_accepted_token(c, p, q):
    x = (c.choose(q(())),)
    for _ in range(2):
        if not c.flip(p(())[x[0]] / q(())[x[0]]):
            return (c.choose(residual(p(()), q(()))),)
    return (*x, c.choose(p(x)))


def one_uniform_for_two_tests(c, p, q):
    x = (c.choose(q(())),)
    x = (*x, c.choose(q(x)))
    bars = [min(1.0, p(x[:i])[x[i]] / q(x[:i])[x[i]]) for i in range(2)]
    edges = [0.0, *sorted(bars), 1.0]
    interval = c.choose(np.diff(edges))  # where the single uniform falls
    u = (edges[interval] + edges[interval + 1]) / 2
    for i in range(2):
        if u >= bars[i]:
            return (*x[:i], c.choose(residual(p(x[:i]), q(x[:i]))))
    return (*x, c.choose(p(x)))


def bonus_from_a_residual(c, p, q):
    x = (c.choose(q(())),)
    if c.flip(p(())[x[0]] / q(())[x[0]]):
        return (*x, c.choose(residual(p(x), q(()))))  # a clamped index: the last q again
    return (c.choose(residual(p(()), q(()))),)


VIOLATIONS = {
    "drop a draft because q is small": lambda c, p, q: token_round(
        c, p, q, 2, stop=lambda law, x: law[x] < 0.4
    ),
    "argmax draft with soft q": soft_q_for_argmax,
    "re-test of an accepted token": retest_of_an_accepted_token,
    "one uniform for two tests": one_uniform_for_two_tests,
    "bonus token from a residual": bonus_from_a_residual,
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations_are_caught(name):
    assert far(VIOLATIONS[name]) > 0.01


@dataclasses.dataclass(frozen=True)
class ContiguousBlock(verifiers.BlockVerification):
    def last(self, passed, tree):
        return verifiers.first_failure(passed)


def test_block_verification_as_a_contiguous_scan_is_caught():
    assert max(distance(ContiguousBlock(), 3, seed) for seed in range(3)) > 0.05


@dataclasses.dataclass(frozen=True)
class SoftLaw(verifiers.TokenRatio):
    """Ignores that the draft was chosen."""

    def law(self, p, q, tree):
        return super().law(p, jnp.broadcast_to(jnp.asarray([0.6, 0.3, 0.1]), q.shape), tree)


def test_a_one_hot_draft_with_the_draft_law_as_q_is_caught():
    target, draft = (
        (lambda prefix: np.array([0.3, 0.5, 0.2])),
        (lambda prefix: np.array([0.6, 0.3, 0.1])),
    )
    law = tree_round_law(SoftLaw(), target, chain(draft, 1, chosen=True), 2)
    first = np.zeros(V)
    for tokens, probability in law.items():
        first[tokens[0]] += probability
    np.testing.assert_allclose(first, [0.5, 1 / 3, 1 / 6], atol=1e-12)  # not (.3, .5, .2)
