"""Cautious next-token prediction against trials run one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import search
from jaxdec.model import Inputs
from tests.search.rows import MODEL, PLAIN, TARGET, generate, rows, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
HYPOTHESES, DELIMITERS = 4, [2, 5]
LOW, HIGH, MOST = 0.6, 1.5, 4


@jax.jit
def law(tokens, length):
    inputs = Inputs.causal(tokens[None], valid=(jnp.arange(len(tokens)) < length)[None])
    return jax.nn.log_softmax(MODEL(TARGET, inputs, None).logits[0])[length - 1]


def wanted(text):
    """Trials that the law after a text asks for."""
    padded = np.zeros(24, np.int32)
    padded[: len(text)] = text
    log_probs = np.asarray(law(padded, len(text)))
    entropy = -np.sum(np.exp(log_probs) * log_probs)
    share = np.clip((entropy - LOW) / np.float32(HIGH - LOW), 0, 1)
    return int(np.floor(1 + (MOST - 1) * share))


def decoded(hypotheses):
    """The text of one prompt, and how many trials there were of each size."""
    first, sizes = hypotheses[0], []
    while not first.over:
        n = wanted(first.text)
        sizes.append(n)
        if n == 1:
            first.go(most=1)
            for other in hypotheses[1:]:
                other.text, other.over, other.ended = list(first.text), first.over, first.ended
                other.log_prob = first.log_prob
            continue
        length, before = len(first.text), first.log_prob
        for trial in hypotheses[:n]:
            trial.go(delimiters=DELIMITERS)
        means = [(t.log_prob - before) / (len(t.text) - length) for t in hypotheses[:n]]
        best = hypotheses[int(np.argmax(means))]
        for other in hypotheses:
            other.take(best)
    return first.text, sizes


def test_it_is_trials_one_by_one():
    decoder = search.cautious(MODEL, delimiters=DELIMITERS)
    knobs = dict(trials_most=MOST, entropy_low=LOW, entropy_high=HIGH)
    seen = set()
    for seed in range(3):
        key = jax.random.key(seed)
        found = generate(decoder, HYPOTHESES, key, **knobs)
        ours, weights = texts(found), np.asarray(found.pool.log_weights)
        for p, hypotheses in enumerate(rows(key, HYPOTHESES)):
            text, sizes = decoded(hypotheses)
            seen |= set(sizes)
            own = range(p * HYPOTHESES, (p + 1) * HYPOTHESES)
            assert {tuple(ours[b]) for b in own if weights[b] == 0} == {tuple(text)}
            assert all(ours[b] == text for b in own) or (weights[list(own)] == -np.inf).any()
    assert {1, 2} < seen


def test_limits():
    decoder, key = search.cautious(MODEL, delimiters=DELIMITERS), jax.random.key(4)
    plain = texts(generate(PLAIN, 1, key))
    assert texts(generate(decoder, 1, key)) == plain
    sure = generate(decoder, 3, key, trials_most=1)
    assert texts(sure) == [text for text in plain for _ in range(3)]
    assert (np.asarray(sure.pool.moves) == 0).all()
    with pytest.raises(ValueError, match="a delimiter of a trial is one token"):
        search.cautious(MODEL, delimiters=[[1, 2]])
