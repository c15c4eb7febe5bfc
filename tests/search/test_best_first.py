"""A*-decoding against a frontier kept in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import search
from jaxdec.decoding import Status
from jaxdec.search.best_first import Frontier
from tests.search.rows import PLAIN, WALK, generate, rows, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
HYPOTHESES, BRANCHES = 6, 2
WEIGHT = np.array([0.9, -0.7, 0.4, -0.1, 0.8, -1.2], np.float32)


def logit(tokens, prompt_length, length):
    """A reward that rises and falls along a text."""
    place = jnp.arange(tokens.shape[1])
    inside = (place >= prompt_length[:, None]) & (place < length[:, None])
    return jnp.sum(jnp.where(inside, jnp.asarray(WEIGHT)[tokens], 0.0), axis=1)


def reward_of(row, size):
    return 1 / (1 + np.exp(-np.float64(WEIGHT[row.text[size:]].sum())))


def searched(hypotheses, size, expansions, greedy):
    """The texts at the end, and which is the answer; the frontier is a list of rows with f."""
    empty = dict(f=np.inf, drops=0.0, r=1.0, born=0)
    nodes = [dict(empty) for _ in hypotheses]
    active = set(range(BRANCHES))
    boundary = 0
    while True:
        for h in active:
            hypotheses[h].go(delimiters=[2], most=3)
        for h in active:
            node, row = nodes[h], hypotheses[h]
            r = reward_of(row, size)
            drops = node["drops"] + max(0.0, node["r"] - r)
            f = 1 - r if greedy else drops
            stuck = row.over and not row.ended
            nodes[h] = dict(f=np.inf if stuck else f, drops=drops, r=r, born=boundary)
        rank = lambda h: (nodes[h]["f"], nodes[h]["born"], h)
        best = min(range(len(nodes)), key=rank)
        ended = [h for h in range(len(nodes)) if hypotheses[h].ended and nodes[h]["f"] < np.inf]
        spent = boundary + 1 >= expansions
        if spent and ended:
            best = min(ended, key=rank)
        dead = nodes[best]["f"] == np.inf
        if hypotheses[best].ended or spent or dead:
            while not hypotheses[best].over:
                hypotheses[best].go(delimiters=[2], most=3)
            return best
        others = [h for h in range(len(nodes)) if h != best]
        others.sort(key=lambda h: (-nodes[h]["f"], -nodes[h]["born"], h))
        chosen = others[: BRANCHES - 1]
        for h in chosen:
            hypotheses[h].take(hypotheses[best])
            nodes[h] = dict(nodes[best])
        for h in (*chosen, best):
            nodes[h]["f"] = np.inf
        active = {best, *chosen}
        boundary += 1


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("inner", [PLAIN, WALK], ids=["plain", "walk"])
def test_it_is_best_first_search(inner, greedy):
    decoder = search.a_star(
        inner,
        search.scorers.of_tokens(logit),
        segment=search.until([2], most=3),
        branches=BRANCHES,
        greedy=greedy,
    )
    deepest, ways = 0, set()
    for seed, expansions in [(0, 64), (1, 64), (2, 5), (3, 2), (4, 1)]:
        key = jax.random.key(seed)
        found = generate(decoder, HYPOTHESES, key, expansions=expansions)
        ours = texts(found)
        for p, hypotheses in enumerate(rows(key, HYPOTHESES)):
            best = searched(hypotheses, [3, 2][p], expansions, greedy)
            at = slice(p * HYPOTHESES, (p + 1) * HYPOTHESES)
            weights = np.asarray(found.pool.log_weights)[at]
            assert weights.argmax() == best and (weights == 0).sum() == 1
            assert ours[at] == [row.text for row in hypotheses]
            status = found.status[at][best]
            ways.add(status)
            deepest = max(deepest, int(np.asarray(found.pool.boundaries)[at].max()))
    assert deepest > 3 and Status.EOS in ways


def test_estimates_never_fall_along_a_path():
    """f is the sum of the drops of the reward, whatever the rewards are."""
    rewards = np.random.default_rng(0).uniform(size=(200, 7))
    cost, before = np.zeros(200), np.ones(200)
    estimates = [np.zeros(200)]
    for r in rewards.T:
        cost = cost + np.maximum(0, r - before)
        estimates.append(cost + 1 - r)
        before = r
    drops = np.maximum(0, np.concatenate([np.ones((200, 1)), rewards], 1)[:, :-1] - rewards)
    np.testing.assert_allclose(np.stack(estimates[1:], 1), drops.cumsum(1), atol=1e-12)


def test_limits():
    key = jax.random.key(2)
    reward = search.scorers.of_tokens(logit)
    segment = search.of_length(2)
    alone = search.a_star(PLAIN, reward, segment=segment)
    assert texts(generate(alone, 1, key)) == texts(generate(PLAIN, 1, key))
    with pytest.raises(ValueError, match="branches must be at least 1, got 0"):
        search.a_star(PLAIN, reward, segment=segment, branches=0)
    with pytest.raises(ValueError, match="expansions must lie in"):
        generate(search.a_star(PLAIN, reward, segment=segment), 4, key, expansions=0)
    assert Frontier(2) == Frontier(2)
