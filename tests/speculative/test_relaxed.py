"""Relaxed acceptance: the law that each rule emits, its distance from the target's, and what it reduces to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters, growth
from jaxdec.speculative import RankTree, verifiers
from jaxdec.testing.enumeration import (
    chain,
    completed,
    plain_law,
    random_conditional,
    total_variation,
    tree_round,
)
from jaxdec.testing.oracles import hash_oracle
from jaxdec.testing.parts.verifiers import branching, chains
from tests.speculative.contexts import context, propose

pytestmark = pytest.mark.usefixtures("quick_compilation")
V, SEEDS = 4, range(3)


def laws(seed, depth=1, size=V):
    return random_conditional(size, depth, seed), random_conditional(size, depth, seed + 100)


def first_token(emitted, size=V):
    law = np.zeros(size)
    for tokens, probability in emitted.items():
        law[tokens[0]] += probability
    return law


def distance(p, q):
    return 0.5 * np.abs(p - q).sum()


# ------------------------------------------------------------------------------------------------------------------
# Mixed target.

INNER = {
    "token": (verifiers.TokenRatio(), lambda q: chain(q, 2), False),
    "block": (verifiers.BlockVerification(), lambda q: chain(q, 2), False),
    "chosen": (verifiers.TokenRatio(), lambda q: chain(q, 2, chosen=True), True),
    "tree": (
        verifiers.RecursiveRejection(),
        lambda q: branching(q, (2, 1), "without replacement"),
        False,
    ),
    "k-seq": (verifiers.KSeq(), lambda q: chains(q, 2, 2), False),
}


@pytest.mark.parametrize("name", INNER)
def test_a_mixed_target_is_decoded_exactly(name):
    rule, program, chosen = INNER[name]
    for seed, mix in zip(SEEDS, (0.0, 0.3, 1.0), strict=True):
        target, draft = random_conditional(3, 3, seed), random_conditional(3, 3, seed + 100)

        def mixed(prefix, target=target, draft=draft, mix=mix):
            q = draft(prefix)
            q = np.eye(3)[np.argmax(q)] if chosen else q
            return (1 - mix) * target(prefix) + mix * q if len(prefix) < 2 else target(prefix)

        emitted, _ = tree_round(verifiers.MixedTarget(rule, mix), target, program(draft))
        law = completed(emitted, mixed, 3)
        assert total_variation(law, plain_law(mixed, 3)) < 1e-12
        if not chosen:
            moved = distance(first_token(emitted, 3), target(()))
            assert moved == pytest.approx(mix * distance(target(()), draft(())), abs=1e-12)


# ------------------------------------------------------------------------------------------------------------------
# Groups.


@pytest.mark.parametrize("groups", [(0, 1, 0, 1), (0, 0, 1, 2), (0, 0, 0, 0), (3, 1, 0, 2)])
def test_groups_have_the_law_of_the_target(groups):
    table = np.asarray(groups)
    sums = lambda law: np.bincount(table, law, minlength=V)
    for seed in SEEDS:
        target, draft = laws(seed, 2)
        emitted, _ = tree_round(verifiers.GroupRatio(groups), target, chain(draft, 1))
        law, p, q = first_token(emitted), target(()), draft(())
        np.testing.assert_allclose(sums(law), sums(p), atol=1e-12)
        within = lambda law: law / np.where(sums(law) > 0, sums(law), 1)[table]
        apart = np.bincount(table, np.abs(within(p) - within(q)), minlength=V) / 2
        bound = (np.minimum(sums(p), sums(q)) * apart).sum()
        assert distance(law, p) == pytest.approx(bound, abs=1e-12)
        if groups == (0, 0, 0, 0):
            np.testing.assert_allclose(law, q, atol=1e-12)


def by_hand(p, q, below, above, gap):
    """How often each draft passes, and the law of a token."""
    order = sorted(range(V), key=lambda v: -p[v])
    passing = np.zeros(V)
    for x in range(V):
        rank = order.index(x)
        near = order[max(rank - above, 0) : rank + below + 1]
        near = [y for y in near if y == x or abs(p[y] - p[x]) < gap]
        passing[x] = min(1, p[near].sum() / q[near].sum())
    left = np.maximum(p - q, 0)
    return passing, q * passing + (1 - q @ passing) * left / left.sum()


@pytest.mark.parametrize(("below", "above", "gap"), [(1, 1, 0.2), (3, 0, 0.5), (7, 6, 1.0)])
def test_clusters_against_a_twin(below, above, gap):
    for seed in SEEDS:
        target, draft = laws(seed, 2)
        rule = verifiers.ClusterRatio(below, above, gap)
        law = first_token(tree_round(rule, target, chain(draft, 1))[0])
        p, q = target(()), draft(())
        passing, expected = by_hand(p, q, below, above, gap)
        np.testing.assert_allclose(law, expected, atol=1e-12)
        excess = (q * np.abs(passing - np.minimum(1, p / q))).sum()
        assert distance(law, p) <= excess + 1e-12
        exact = verifiers.ClusterRatio(below, above, 0.0)
        np.testing.assert_allclose(
            first_token(tree_round(exact, target, chain(draft, 1))[0]), p, atol=1e-12
        )


# ------------------------------------------------------------------------------------------------------------------
# Near tokens.

SIZE = 6
NEIGHBOURS = tuple(tuple((token + step) % SIZE for step in (1, 2, 3)) for token in range(SIZE))


@dataclasses.dataclass(frozen=True)
class Tabled(verifiers.NearTokens):
    """With a table that stands in no parameters."""

    def law(self, p, q, tree):
        table = jnp.asarray(NEIGHBOURS)
        return verifiers.near_law(p, q, tree, table, self.near_mass, self.relative)


@pytest.mark.parametrize("relative", [False, True])
def test_one_chosen_child_moves_the_mass_of_its_neighbours(relative):
    for seed in SEEDS:
        target, draft = laws(seed, 2, SIZE)
        p, mass, x = target(()), 0.4, int(np.argmax(draft(())))
        rule = Tabled(mass, relative)
        law = first_token(tree_round(rule, target, chain(draft, 1, chosen=True))[0], SIZE)
        bar, taken, expected = mass * p[x] if relative else mass, 0.0, p.copy()
        for near in NEIGHBOURS[x]:
            if taken + p[near] > bar:
                break
            taken, expected[near] = taken + p[near], 0
        expected[x] += taken
        np.testing.assert_allclose(law, expected, atol=1e-12)
        assert distance(law, p) == pytest.approx(taken, abs=1e-12) and taken <= bar


def test_several_chosen_children_move_at_most_their_masses():
    moved = []
    for seed in range(8):
        target, draft = laws(seed, 2, SIZE)
        program = branching(draft, (2,), "chosen")
        moved.append(
            distance(first_token(tree_round(Tabled(0.15), target, program)[0], SIZE), target(()))
        )
    assert 0 < max(moved) <= 2 * 0.15


@pytest.mark.parametrize("kind", ["chosen", "without replacement"])
def test_no_mass_is_recursive_rejection(kind):
    target, draft = laws(3, 2, SIZE)
    emitted, _ = tree_round(Tabled(0.0), target, branching(draft, (3,), kind))
    assert total_variation(completed(emitted, target, 2), plain_law(target, 2)) < 1e-12


def test_the_nearest_tokens():
    vectors = np.random.default_rng(0).normal(size=(1500, 3))
    found = verifiers.nearest(vectors, 4)
    for token in (0, 1, 1023, 1024, 1499):
        order = np.argsort(((vectors - vectors[token]) ** 2).sum(1))
        assert found[token].tolist() == order[1:5].tolist()
    with pytest.raises(ValueError, match="count must be 1 to 1499, got 1500"):
        verifiers.nearest(vectors, 1500)


# ------------------------------------------------------------------------------------------------------------------
# In the loop: knobs of each row are read.

MODEL, PARAMS = hash_oracle(8, seed=1)
OTHER = hash_oracle(8, seed=2)[1]
DRAFTER = drafters.model(MODEL, length=3)
PROMPTS = np.array([[1, 2, 3], [4, 5, 6], [1, 1, 1], [7, 7, 7]])
TABLE = jnp.asarray([[(t + s) % 8 for s in range(1, 8)] for t in range(8)], jnp.int32)


def decode(verifier, drafter=DRAFTER, **options):
    decoder = jaxdec.speculative(MODEL, drafter=drafter, verifier=verifier)
    given = {"target": PARAMS, "draft": OTHER, "neighbours": TABLE}
    options = {"temperature": 0.9, "rng": 0, "max_new_tokens": 24, **options}
    return jaxdec.generate(decoder, given, PROMPTS, **options)


KNOBS = {
    "mix": verifiers.MixedTarget(verifiers.TokenRatio()),
    "cluster_gap": verifiers.ClusterRatio(),
    "near_mass": verifiers.NearTokens(),
}


@pytest.mark.parametrize(
    "knob", ["cluster_gap", "near_mass", pytest.param("mix", marks=pytest.mark.slow)]
)
def test_a_row_without_slack_is_decoded_exactly_beside_others(knob):
    result = decode(KNOBS[knob], **{knob: np.array([0.0, 1.0, 0.0, 1.0])})
    plain = decode(verifiers.TokenRatio())
    for row in (0, 2):
        np.testing.assert_array_equal(result.tokens[row], plain.tokens[row])
    accepted, before = (np.asarray(r.stats.accepted) for r in (result, plain))
    forwards = np.asarray(result.stats.target_forwards)
    assert (accepted[[1, 3]] > before[[1, 3]]).all()
    if knob != "cluster_gap":  # all that is drafted passes
        assert (forwards[[1, 3]] == 6).all()


def test_nearly_greedy_drafts_pass():
    tree = drafters.model(MODEL, growth=growth.ranked(RankTree.of((-1, -1, 0, 1))))
    rule = verifiers.NearGreedy()
    options = dict(temperature=0.0, beta=np.array([1, 3, 1, 8]), tau=np.array([9.0, 1, 0, 1e9]))
    result = decode(rule, tree, **options)
    plain = jaxdec.generate(
        jaxdec.autoregressive(MODEL), {"target": PARAMS}, PROMPTS, rng=0, max_new_tokens=24,
        temperature=0.0,
    )  # fmt: skip
    for row in (0, 2):  # the best alone
        np.testing.assert_array_equal(result.tokens[row], plain.tokens[row])
    assert int(result.stats.target_forwards[3]) == 8  # everything passes: 2 drafts and 1 token
    drafted, gaps = np.asarray(result.drafted[1]), []
    for place in np.flatnonzero(drafted):
        before = result.tokens[1, :place]
        inputs = jaxdec.Inputs.causal(jnp.asarray(before)[None])
        law = np.asarray(jax.nn.log_softmax(MODEL(PARAMS, inputs, None).logits[0, -1]))
        token = int(result.tokens[1, place])
        assert (law > law[token]).sum() < 3
        gaps.append(law.max() - law[token])
    assert 0 < max(gaps) <= 1 + 1e-5


# ------------------------------------------------------------------------------------------------------------------
# Reflection: what the target says after it read the drafts and a question.

QUESTION = jnp.asarray([6, 3], jnp.int32)


@jax.jit
def logits_after(tokens, length):
    return MODEL(PARAMS, jaxdec.Inputs.causal(tokens[None]), None).logits[0, length - 1]


def best(text):
    padded = np.zeros(64, np.int32)
    padded[: len(text)] = text
    return int(np.argmax(logits_after(padded, len(text))))


def reflected(text, budget, drafts=3):
    """Greedy decoding by the second opinion alone, on drafts of prompt lookup; with the forwards that it took."""
    text, start, forwards = list(text), len(text), 0
    while len(text) < start + budget:
        seen = context([text], 8, drafts)
        tree, _ = propose(drafters.prompt_lookup(length=drafts), None, None, seen)
        drafted = tree.tokens[0][tree.mask[0]].tolist()
        for i in range(len(drafted) + 1):
            asked = [*text, *drafted, *QUESTION.tolist(), *drafted[:i]]
            token = best(asked) if i < len(drafted) else best([*text, *drafted])
            if i == len(drafted) or token != drafted[i]:
                break
        text, forwards = [*text, *drafted[:i], token], forwards + 1
    return text[: start + budget], forwards


def test_the_second_opinion_is_of_text_drafts_question_and_drafts():
    drafter = drafters.prompt_lookup(length=3)
    decoder = jaxdec.speculative(MODEL, drafter=drafter, verifier=verifiers.Reflective())
    options = dict(rng=0, max_new_tokens=20, temperature=0.0)
    given = {"target": PARAMS, "reflection": QUESTION}
    share = np.array([0.0, 1.0, 1.0, 0.0])
    result = jaxdec.generate(decoder, given, PROMPTS, **options, reflection=share)
    plain = jaxdec.generate(jaxdec.autoregressive(MODEL), {"target": PARAMS}, PROMPTS, **options)
    other = False
    for row in range(4):
        text, forwards = (
            reflected(PROMPTS[row].tolist(), 20) if share[row] else (plain.tokens[row], 0)
        )
        np.testing.assert_array_equal(result.tokens[row, :23], text[:23])
        if share[row]:
            assert int(result.stats.target_forwards[row]) == forwards
            other |= bool((plain.tokens[row, :23] != np.asarray(text)).any())
    assert other  # than the target's own tokens


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: verifiers.Reflective(1.5), "reflection must lie in .0, 1., got 1.5"),
        (
            lambda: decode(verifiers.Reflective(name="neighbours")),
            "'neighbours' must be the tokens of a question, int32 .M., got .8, 7.",
        ),
        (lambda: verifiers.MixedTarget(mix=1.5), "mix must lie in .0, 1., got 1.5"),
        (lambda: verifiers.GroupRatio((0, 3)), "token 1 is in group 3, but groups are 0 to 1"),
        (lambda: verifiers.ClusterRatio(below=-1), "below must be at least 0, got -1"),
        (lambda: decode(verifiers.GroupRatio((0, 0))), "groups are those of 2 tokens, the target"),
        (lambda: decode(verifiers.NearTokens(name="draft")), "'draft' must be int32 .V, K., got"),
        (lambda: decode(verifiers.NearGreedy(), beta=0), "beta must lie in .1, .*, got 0"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
