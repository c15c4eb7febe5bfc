"""Settings that differ between the samples of a prompt, and a vote in the same program as the samples."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Knob
from jaxdec.sampling import Warp, row_keys
from jaxdec.search import answers, selection
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, H = 6, 3
MODEL, TABLE = oracles.hash_oracle(VOCAB, seed=3, eos=(0,))
PARAMS = {"target": TABLE}
PLAIN = jaxdec.autoregressive(MODEL)
PROMPT = np.array([[1, 2, 3], [4, 5, 1]])
KEY = jax.random.key(5)


def test_each_sample_has_its_own_settings():
    """As if each were a prompt of its own with the same key."""
    own = dict(
        temperature=selection.hedged_temperatures(2, H, [0.9, 1.4]),
        frequency_penalty=selection.of_samples([0.0, 0.5, -0.5], 2),
        banned=np.eye(VOCAB, dtype=bool)[[5, 4, 3, 2, 1, 5]],
        forced_prefix=selection.prefix_ensemble([[2, 2], [], [4]], H, 2),
        bad_words=[[[1, 1]], [], [[2, 3], [4]], [], [[5]], [[1]]],
    )
    both = dict(top_k=[4, 5], max_new_tokens=[9, 7], rng=KEY)
    many = jaxdec.generate(PLAIN, PARAMS, PROMPT, hypotheses=H, **own, **both)
    each = {name: np.repeat(value, H) for name, value in both.items() if name != "rng"}
    alone = jaxdec.generate(
        PLAIN, PARAMS, np.repeat(PROMPT, H, 0), rng=row_keys(KEY, 2 * H, H), **own, **each
    )
    np.testing.assert_array_equal(many.tokens, alone.tokens)
    np.testing.assert_array_equal(many.log_probs, alone.log_probs)
    assert many.tokens[0, 3:5].tolist() == [2, 2]
    new = np.asarray(many.log_probs)[:, 3:]
    assert not new[::H].any() and new[1::H].any()  # the greedy one, beside those that are drawn


def test_settings_are_traced_and_checked():
    options = dict(hypotheses=H, max_new_tokens=4, rng=KEY)
    run = jax.jit(lambda t: jaxdec.generate(PLAIN, PARAMS, PROMPT, temperature=t, **options).tokens)
    pool = selection.hedged_temperatures(2, H, 1.2)
    plain = jaxdec.generate(PLAIN, PARAMS, PROMPT, temperature=pool, **options)
    np.testing.assert_array_equal(run(pool), plain.tokens)
    before = jaxdec.decoding.loop._run._cache_size()
    for temperature in (0.3, [0.3, 0.9], selection.of_samples([0.1, 0.2, 0.3], 2)):
        jaxdec.generate(PLAIN, PARAMS, PROMPT, temperature=temperature, **options)
    assert jaxdec.decoding.loop._run._cache_size() == before
    for wrong, message in (
        (
            dict(temperature=[1.0] * 5),
            r"^temperature: got shape \(5,\), must be a scalar or \(2,\) or \(6,\)",
        ),
        (dict(banned=np.zeros((4, VOCAB), bool)), r"must be \(6,\) or \(2, 6\) or \(6, 6\)"),
        (dict(forced_prefix=[[1]] * 5), "^forced_prefix: got 5 sequences, must be 1 or 2 or 6"),
        (dict(forced_prefix=np.ones((5, 1), int)), "2 or 6 rows first"),
        (dict(bad_words=[[[1]]] * 5), "^bad_words: got words of 5 rows, must be of 2 or 6"),
        (dict(temperature=[1.0, 1.0, 1.0, -1.0, 1.0, 1.0]), r"^temperature: got -1.0 at \[3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxdec.prepare(PLAIN, PARAMS, PROMPT, hypotheses=H, **wrong)
    with pytest.raises(ValueError, match=r"must be a scalar or \(2,\)$"):
        jaxdec.prepare(PLAIN, PARAMS, PROMPT, temperature=[1.0] * 6)


def test_one_a_prompt_is_one_for_each_of_its_rows():
    ends = [[1, 2], [3]]
    warp = Warp(temperature=[0.5, 1.0], top_k=3, ends=ends, min_new_tokens=1).validate(2, VOCAB, H)
    np.testing.assert_array_equal(warp.temperature, np.repeat(np.float32([0.5, 1.0]), H))
    np.testing.assert_array_equal(warp.top_k, np.full(2 * H, 3))
    assert warp.ends.tolist() == [[1, 2]] * H + [[3, -1]] * H
    knob = Knob(0.5, low=0, high=1)
    assert knob.checked("bar", None, 2, H).tolist() == [0.5] * 6
    assert knob.checked("bar", [0.25, 1], 2, H).tolist() == [0.25] * H + [1] * H
    assert knob.checked("bar", np.arange(6) / 8, 2, H).tolist() == (np.arange(6) / 8).tolist()
    with pytest.raises(ValueError, match=r"^bar must be one value or 2 or 6, got shape \[3\]"):
        knob.checked("bar", [0.5] * 3, 2, H)


def test_a_vote_in_the_program_of_its_samples():
    @jax.jit
    def voted(prompt):
        result = jaxdec.generate(
            PLAIN, PARAMS, prompt, rng=KEY, hypotheses=8, max_new_tokens=12, temperature=1.5
        )
        found = answers.extract_answers(
            result.tokens, result.lengths, result.prompt_lengths, marker=[1], ends=[0, 2], most=2
        )
        ids = selection.answer_ids(*(x.reshape(2, 8, *x.shape[1:]) for x in
                                     (found.tokens, found.lengths, found.valid)))  # fmt: skip
        return result, ids, selection.vote(ids)

    result, ids, vote = voted(PROMPT)
    for p in range(2):
        texts = []
        for row in np.asarray(result.tokens)[8 * p : 8 * p + 8, 3:]:
            new = row[: int(result.lengths[8 * p + len(texts)]) - 3].tolist()
            at = len(new) - new[::-1].index(1) if 1 in new else len(new)
            text = []
            for token in new[at:]:
                if token in (0, 2):
                    break
                text.append(token)
            texts.append(tuple(text) if 1 <= len(text) <= 2 else None)
        assert ids[p].tolist() == [texts.index(t) if t else -1 for t in texts]
        votes = [t for t in texts if t]
        assert votes and texts[int(vote.winner[p])] == max(votes, key=votes.count)
