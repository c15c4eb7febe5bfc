"""Verification of trees, proved by enumeration; each violation of the law of lossless drafting is caught."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.speculative import DraftTree, verifiers
from jaxdec.testing.enumeration import (
    Node,
    plain_law,
    random_conditional,
    total_variation,
    tree_round,
    tree_round_law,
)
from jaxdec.testing.parts.verifiers import branching, chains, without

pytestmark = pytest.mark.usefixtures("quick_compilation")
V = 3
RECURSIVE, KSEQ = verifiers.RecursiveRejection(), verifiers.KSeq()
P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.1, 0.6])


def onehot(token):
    return tuple(np.eye(V)[token])


# Draft programs. Each lists the nodes of a tree in the order in which siblings are judged.


def grown(draft, size):
    """DySpec: the slot of the highest value is drawn next; its value is known before the draw."""

    def program(chooser):
        nodes, slots = [], [(1.0, -1, (), draft(()))]
        for _ in range(size):
            turn = max(range(len(slots)), key=lambda i: slots[i][0])
            value, parent, prefix, law = slots.pop(turn)
            token = chooser.choose(law)
            nodes.append(Node(token, parent, tuple(law)))
            gained = value * law[token]
            slots.append((value - gained, parent, prefix, without(law, token)))
            slots.append((gained, len(nodes) - 1, (*prefix, token), draft((*prefix, token))))
            slots = [slot for slot in slots if slot[3].sum() > 0]
        return tuple(nodes)

    return program


KINDS = ["with replacement", "without replacement", "chosen", "greedy"]
TREES = [(2,), (3,), (2, 1), (2, 2)]
PROGRAMS = {  # name: program for the drafter's laws, tokens that a round may emit
    **{
        f"{kind} {tree}": (lambda q, t=tree, k=kind: branching(q, t, k), len(tree) + 1)
        for kind in KINDS
        for tree in TREES
    },
    **{
        f"{k} chains of {n}": (lambda q, k=k, n=n: chains(q, k, n), n + 1)
        for k, n in [(2, 1), (2, 2), (3, 1)]
    },
    **{f"grown to {n}": (lambda q, n=n: grown(q, n), n + 1) for n in (2, 3, 4)},
}
INDEPENDENT = [name for name in PROGRAMS if name.startswith("with ") or " chains " in name]
CASES = [(RECURSIVE, name) for name in PROGRAMS] + [(KSEQ, name) for name in INDEPENDENT]


def distance(verifier, program, length, seed, **options):
    target, draft = (random_conditional(V, length, s) for s in (seed, seed + 1000))
    law = tree_round_law(verifier, target, program(draft), length, **options)
    return total_variation(law, plain_law(target, length))


@pytest.mark.parametrize(("verifier", "name"), CASES)
def test_tree_rules_are_exact(verifier, name):
    for seed in range(2):
        assert distance(verifier, *PROGRAMS[name], seed) < 1e-12


def test_a_chain_is_judged_as_by_the_token_rule():
    generator = np.random.default_rng(0)
    p, q = (generator.dirichlet(np.ones(5), (4, n)).astype(np.float32) for n in (4, 3))
    mask = np.arange(3) < np.array([[3], [2], [1], [0]])
    tree = DraftTree.chain(jnp.asarray(generator.integers(0, 5, (4, 3))), mask)
    expected = jax.jit(verifiers.TokenRatio().law)(p, q, tree)
    for verifier in (RECURSIVE, KSEQ):
        chex.assert_trees_all_close(jax.jit(verifier.law)(p, q, tree), expected, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------------
# Acceptance: how often one of the drafts is emitted, in the worked example and against the best possible.


def one_level(draft, count, kind):
    return branching(lambda prefix: draft, (count,), kind)


def acceptance(verifier, p, q, count, kind):
    return tree_round(verifier, lambda prefix: p, one_level(q, count, kind))[1]


@pytest.mark.parametrize(
    ("verifier", "kind", "expected"),
    [
        (RECURSIVE, "with replacement", [3 / 5, 19 / 25, 107 / 125]),
        (KSEQ, "with replacement", [3 / 5, 0.785330, 0.875]),
        (RECURSIVE, "without replacement", [3 / 5, 9 / 10, 1]),
        (RECURSIVE, "greedy", [3 / 5, 19 / 20]),
    ],
)
def test_acceptance_in_the_worked_example(verifier, kind, expected):
    for count, value in enumerate(expected, start=1):
        assert acceptance(verifier, P, Q, count, kind) == pytest.approx(value, abs=1e-6)


BOUND = jax.jit(verifiers.optimal_acceptance, static_argnames=("n", "replacement"))


@pytest.mark.parametrize("count", [2, 3])
def test_no_verifier_beats_the_bound(count):
    for seed in range(4):
        p, q = np.random.default_rng(seed).dirichlet(np.ones(V), 2)
        for kind in ("with replacement", "without replacement"):
            replacement = kind == "with replacement"
            with jax.enable_x64(True):
                bound = BOUND(p, q, n=count, replacement=replacement)
            for verifier in (RECURSIVE, KSEQ) if replacement else (RECURSIVE,):
                assert acceptance(verifier, p, q, count, kind) <= float(bound) + 1e-8
        best = np.argsort(-q)[: count - 1]
        reached = p[best].sum() + np.minimum(p, without(q, *best)).sum()
        assert acceptance(RECURSIVE, p, q, count, "greedy") == pytest.approx(reached, abs=1e-12)


def as_chosen(program):
    """The same drafts, as if they had been chosen."""
    return lambda chooser: tuple(n and n._replace(q=onehot(n.token)) for n in program(chooser))


def test_drawn_drafts_may_be_judged_as_chosen_ones():
    """Exact, as the walk to the child that equals a draw of the target is, but fewer are accepted."""
    for kind, expected in (("with replacement", 12 / 25), ("without replacement", 93 / 140)):
        _, mean = tree_round(RECURSIVE, lambda prefix: P, as_chosen(one_level(Q, 2, kind)))
        assert mean == pytest.approx(expected, abs=1e-12)
        make = lambda q, kind=kind: as_chosen(branching(q, (2, 1), kind))
        assert distance(RECURSIVE, make, 3, seed=0) < 1e-12


def test_rho_of_k_seq_in_the_worked_example():
    for count, rho, closing in ((2, 1.463325, [0.284169, 0.715831, 0]), (3, 1.75, [0, 1, 0])):
        p, q = (np.tile(law, (1, n, 1)) for law, n in ((P, count + 1), (Q, count)))
        tokens, parents = np.full((1, count), 2), np.full((1, count), -1)
        with jax.enable_x64(True):
            law = jax.jit(verifiers.kseq_law)(p, q, tokens, parents, np.ones((1, count), bool))
            law = jax.tree.map(np.asarray, law)
        np.testing.assert_allclose(law.denominator / Q[2], rho, atol=1e-6)
        np.testing.assert_allclose(law.closing[0, 0], closing, atol=1e-6)
        np.testing.assert_allclose(law.closing[0, 1:], p[0, 1:], atol=1e-12)  # leaves


# ------------------------------------------------------------------------------------------------------------------
# Violations. Each must show a distance far above rounding.


def dropped_after_the_draw(draft, floor=0.3):
    """Keeps a drawn sibling only if its law gave it some probability."""
    program = branching(draft, (2, 1), "without replacement")

    def keep(chooser):
        nodes = program(chooser)
        first = draft(())
        gone = [n < 2 and first[node.token] < floor for n, node in enumerate(nodes)]
        gone = [
            g or (node.parent >= 0 and gone[node.parent])
            for g, node in zip(gone, nodes, strict=True)
        ]
        return tuple(None if g else node for g, node in zip(gone, nodes, strict=True))

    return keep


def ranked_again(draft):
    """Draws three siblings and keeps the two most likely."""
    program = branching(draft, (3,), "without replacement")
    likely = lambda node: -draft(())[node.token]
    relisted = lambda kept: (
        Node(kept[0].token, -1, tuple(draft(()))),
        Node(kept[1].token, -1, tuple(without(draft(()), kept[0].token))),
    )
    return lambda chooser: relisted(sorted(program(chooser), key=likely)[:2])


def in_the_wrong_order(draft):
    """Judges the last sibling first, with the law of the first."""

    def program(chooser):
        first, second = branching(draft, (2,), "without replacement")(chooser)
        law = draft(())
        return (
            Node(second.token, -1, tuple(law)),
            Node(first.token, -1, tuple(without(law, second.token))),
        )

    return program


def best_with_soft_laws(draft):
    """Takes the most likely tokens and claims to have drawn them."""

    def program(chooser):
        law = draft(())
        best, second = np.argsort(-law)[:2]
        return (
            Node(int(best), -1, tuple(law)),
            Node(int(second), -1, tuple(without(law, best))),
        )

    return program


def one_law_for_all(draft):
    """Draws without replacement and claims the law of draws with replacement."""
    program = branching(draft, (2,), "without replacement")
    return lambda chooser: tuple(n._replace(q=tuple(draft(()))) for n in program(chooser))


def one_uniform(passing):
    """All tests of a round share a uniform: a test passes below its bar."""
    bars = np.sort(passing, axis=1)
    edges = np.concatenate([np.zeros_like(bars[:, :1]), bars, np.ones_like(bars[:, :1])], axis=1)
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    return middle.T[:, :, None] < passing, np.diff(edges, axis=1).T


@dataclasses.dataclass(frozen=True)
class ClosesWithTarget(verifiers.RecursiveRejection):
    """Closes a rejected tree with the target's own law."""

    def law(self, p, q, tree):
        return dataclasses.replace(super().law(p, q, tree), closing=p)


VIOLATIONS = {
    "drop after the draw": (RECURSIVE, dropped_after_the_draw, 3, {}),
    "rank again after the draw": (RECURSIVE, ranked_again, 2, {}),
    "siblings in the wrong order": (RECURSIVE, in_the_wrong_order, 2, {}),
    "argmax with soft laws": (RECURSIVE, best_with_soft_laws, 2, {}),
    "without replacement, claimed with": (RECURSIVE, one_law_for_all, 2, {}),
    "without replacement, by K-SEQ": (KSEQ, one_law_for_all, 2, {}),
    "one uniform": (
        RECURSIVE,
        PROGRAMS["without replacement (2, 1)"][0],
        3,
        dict(tests=one_uniform),
    ),
    "one uniform, K-SEQ": (KSEQ, PROGRAMS["2 chains of 2"][0], 3, dict(tests=one_uniform)),
    "the target's law to close with": (ClosesWithTarget(), PROGRAMS["chosen (2,)"][0], 2, {}),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations_are_caught(name):
    verifier, make, length, options = VIOLATIONS[name]
    worst = max(distance(verifier, make, length, seed, **options) for seed in range(6))
    assert worst > 0.01


# ------------------------------------------------------------------------------------------------------------------
# The walk: which node is reached, for every outcome of the tests.


def by_hand(tokens, parents, mask, passed):
    """The scored token where a walk ends: the first child that passes, at the first sibling of its token."""
    at, moved = 0, True
    while moved:
        moved = False
        children = [n for n in range(len(tokens)) if mask[n] and parents[n] + 1 == at]
        for n in children:
            if passed[n]:
                at = 1 + next(m for m in children if tokens[m] == tokens[n])
                moved = True
                break
    return at


def test_the_walk_takes_the_first_child_that_passes():
    tokens = np.array([[0, 1, 0, 2, 2, 1, 0], [0, 0, 0, 1, 1, 1, 2]])
    parents = np.array([[-1, -1, -1, 0, 0, 1, 3], [-1, -1, -1, 0, 0, 3, 3]])
    mask = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 1]], bool)
    tree = DraftTree(*(jnp.asarray(x) for x in (tokens, parents, mask)), None, depth=3)
    passed = (np.arange(2**7)[:, None] >> np.arange(7)) & 1 == 1
    ends = jax.jit(jax.vmap(lambda p: RECURSIVE.last(jnp.stack([p, p]), tree)))(passed)
    for outcome, end in zip(passed, np.asarray(ends), strict=True):
        assert [
            by_hand(*row, outcome) for row in zip(tokens, parents, mask, strict=True)
        ] == end.tolist()
