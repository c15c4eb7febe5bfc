"""What searches spend, which answers count as right, and the case of searches run small."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxdec
from benchmarks import report
from benchmarks.cases import CASES, search
from benchmarks.choosing import RULES, switched
from benchmarks.metered import spend
from benchmarks.setting import QUICK, Setting
from benchmarks.solutions import Found
from jaxdec import search as searches
from jaxdec.testing import oracles
from jaxdec.training.corpus import python_sources

MODEL, TABLE = oracles.hash_oracle(6, seed=2)
PARAMS = {"target": TABLE}
PROMPT = np.array([[1, 2, 3], [4, 5, 1]])


def test_what_is_spent_stays_where_it_was_spent():
    """Rows that take another's past keep what they spent themselves, so nothing is lost or counted twice."""
    potential = searches.scorers.of_tokens(lambda tokens, start, length: 3.0 * tokens[:, 5])
    decoder = searches.smc(
        jaxdec.autoregressive(MODEL), segment=searches.of_length(2), potential=potential
    )
    options = dict(max_new_tokens=6, eos=(), ess_threshold=1.0)
    run = spend(decoder, PARAMS, PROMPT, rng=0, hypotheses=4, **options)
    plain = jaxdec.generate(decoder, PARAMS, PROMPT, rng=0, hypotheses=4, **options)
    np.testing.assert_array_equal(run.result.tokens, plain.tokens)
    assert np.asarray(plain.pool.moves).sum() > 0
    assert run.target.tolist() == [4 * 6] * 2 and run.steps.tolist() == [6] * 2
    ends = spend(
        searches.first_finish(jaxdec.autoregressive(MODEL)),
        PARAMS,
        PROMPT,
        rng=0,
        hypotheses=4,
        max_new_tokens=12,
        eos=(0, 1),
    )
    lengths = np.asarray(ends.result.lengths - ends.result.prompt_lengths).reshape(2, 4)
    np.testing.assert_array_equal(ends.target, lengths.sum(1))
    np.testing.assert_array_equal(ends.steps, lengths.max(1))


def pool(answers, lengths, correct, scores):
    answers, lengths, correct = np.array(answers), np.array(lengths), np.array(correct, bool)
    none = np.zeros(answers.shape)
    tokens = np.broadcast_to(answers[..., None] + 2, (*answers.shape, 3))
    return Found(
        answers=answers,
        correct=correct,
        lengths=lengths,
        finished=np.ones(answers.shape, bool),
        weights=none,
        scores=np.array(scores, np.float32),
        mean_log_probs=none - 1,
        log_probs=none - 1,
        texts=np.broadcast_to(np.arange(answers.shape[1]), answers.shape),
        tokens=tokens,
        target=lengths.sum(1),
        draft=lengths.sum(1),
        steps=lengths.max(1),
    )


def test_rules_of_choice_and_their_costs():
    held = pool(
        [[0, 1, 1, 2], [0, 0, 1, 2]],
        [[3, 9, 8, 2], [7, 5, 4, 6]],
        [[1, 0, 0, 0], [0, 0, 1, 0]],
        [[2, 0, 0, 1], [9, 0, 3, 0]],
    )
    said = {name: rule(held) for name, rule in RULES.items()}
    assert said["vote"].correct.tolist() == [False, False]
    assert said["best of n by reward"].correct.tolist() == [True, False]
    assert said["vote"].target.tolist() == [22, 22] and said["vote"].steps.tolist() == [9, 7]
    # The first two to finish have 2 and 3 tokens; the other two stop with the second of them.
    assert said["short vote"].target.tolist() == [2 + 3 + 3 + 3, 5 + 5 + 4 + 5]
    assert said["short vote"].steps.tolist() == [3, 5]
    assert said["first verified (checker)"].correct.tolist() == [True, True]
    assert said["first verified (checker)"].target.tolist() == [3 + 3 + 3 + 2, 4 * 4]
    easy = pool([[0], [0]], [[4], [4]], [[0], [1]], [[-1], [1]])
    choice = switched(easy, held)
    assert choice.correct.tolist() == [False, True] and choice.target.tolist() == [4 + 22, 4]
    one = held.groups(2)
    assert one.target.tolist() == [12, 10, 12, 10]


@pytest.mark.slow
def test_rows_of_searches():
    scale = dataclasses.replace(QUICK)
    rows = search.run(Setting(None, None, python_sources(), scale, 1.0))
    tasks = {row["task"] for row in rows}
    assert tasks == {"arithmetic", "countdown", "sudoku"}
    labels = [tuple(row[name] for name in CASES["search"].labels) for row in rows]
    assert len(set(labels)) == len(labels)
    alone = {row["task"]: row for row in rows if row["method"] == search.SINGLE}
    for row in rows:
        if row.get("accuracy_error") is not None and "over_single" in row:
            gain = row["accuracy"] - alone[row["task"]]["accuracy"]
            assert row["over_single"] == pytest.approx(gain, abs=1e-6)
    assert report.table(rows, CASES["search"].columns).count("\n") == len(rows) + 2
    assert search.chart(rows) is not None
    jax.clear_caches()
