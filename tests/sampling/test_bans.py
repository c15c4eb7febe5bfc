"""Bans that read the text: against lists of tokens, at their edges, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.sampling import History, TextBefore, Warp
from jaxdec.testing import parts

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 6


@jax.jit
def law_of(warp, logits, history):
    return warp.log_probs(logits, history)


def after(*texts, start=1):
    """The history of some texts of one length, whose first tokens are the prompt."""
    tokens = jnp.asarray(texts, jnp.int32)
    batch, length = tokens.shape
    whole = lambda x: jnp.full((batch,), x, jnp.int32)
    return History(
        text=TextBefore.of(jnp.pad(tokens, ((0, 0), (0, 3))), whole(length), whole(start))
    )


def left(history, batch=1, **knobs):
    """The tokens that are possible in each row."""
    warp = Warp(**knobs).validate(batch, V)
    law = np.asarray(law_of(warp, jnp.zeros((batch, V)), history))
    return [set(np.flatnonzero(np.isfinite(row)).tolist()) for row in law]


def without(*tokens):
    return set(range(V)) - set(tokens)


def test_bans_are_those_of_lists():
    parts.check_bans(rounds=8)


def test_repeated_ngrams_count_the_prompt():
    for sizes, banned in (
        ((3, 3), ({3}, {4})),
        ((2, 2), ({3}, {4})),
        ((1, 0), ({1, 2, 3}, {})),
        ((5, 6), ({4}, {})),
        ((4, 5), ({}, {4})),
        ((3, 2**31 - 1), ({3}, {})),  # in no more rounds than the text is long
    ):
        history = after([1, 2, 3, 1, 2] if sizes[0] < 5 else [4] * 5, [4] * 5, start=5)
        assert left(history, 2, no_repeat_ngram=sizes) == [without(*some) for some in banned]
    # What stands behind the text is none of it: three zeros follow.
    history = after([1, 2, 3, 0, 0], [1, 2, 3, 5, 0])
    assert left(history, 2, no_repeat_ngram=[2, 2]) == [without(0), without()]


def test_words_may_begin_in_the_prompt():
    history, nothing = after(*[[3, 1, 2]] * 3, start=3), [-1] * 5
    of_row = [[[4], [2, 5], [3, 1, 2, 0], [1, 2]], [[1, 0], [0, 3, 1, 2, 4]], []]
    wanted = [without(4, 5, 0), without(), without()]
    assert left(history, 3, bad_words=of_row) == wanted
    filled = [[[*w, *nothing][:5] for w in [*words, *[[]] * 4][:4]] for words in of_row]
    assert left(history, 3, bad_words=np.array(filled)) == wanted
    assert left(history, 3, bad_words=np.array(filled[0])) == [wanted[0]] * 3


def test_ends_are_banned_until_there_are_enough_tokens():
    history = after([1, 2, 3, 4], start=2)  # two were generated
    for least, expected in ((0, without()), (2, without()), (3, without(0, 5)), (9, without(0, 5))):
        assert left(history, min_new_tokens=least, ends=[0, 5]) == [expected]
    assert left(history, min_new_tokens=9, ends=[-1, -1]) == [without()]
    assert Warp(min_new_tokens=9, ends=()).validate(1, V).ends.tolist() == [[-1]]


def test_given_tokens_overrule_bans_and_leave_others_free():
    history = after([1, 2, 3, 4], [1, 2, 3, 5], start=2)
    banned = np.arange(V) == 3
    prefix = [[0, 0, 3, 0], [0, 0]]
    assert left(history, 2, forced_prefix=prefix, banned=banned) == [{3}, without(3)]
    assert left(history, 2, forced_prefix=[0, 0, -1, 4], banned=banned) == [without(3)] * 2
    warp = Warp(forced_prefix=[1, 1, 4], temperature=0.7, top_p=0.9, repetition_penalty=1.3)
    counted = History(jnp.ones((2, V), int), jnp.ones((2, V), int), history.text)
    law = law_of(warp.validate(2, V), jax.random.normal(jax.random.key(0), (2, V)), counted)
    np.testing.assert_array_equal(law, [np.where(np.arange(V) == 4, 0.0, -np.inf)] * 2)


def test_no_token_left_is_no_law():
    warp = Warp(bad_words=[[v] for v in range(V)]).validate(1, V)
    law = law_of(warp, jnp.zeros((1, V)), after([1]))
    assert np.isnan(law).all()


def test_off_is_an_exact_identity():
    off = dict(
        no_repeat_ngram=0,
        bad_words=np.full((2, 2), -1),
        min_new_tokens=0,
        ends=[1],
        forced_prefix=[-1],
    )
    logits = jax.random.normal(jax.random.key(1), (2, V))
    law = law_of(Warp(**off).validate(2, V), logits, after([1, 1, 1], [2, 2, 2]))
    np.testing.assert_array_equal(law, law_of(Warp(), logits, None))


def test_any_n_is_one_program():
    traced = []

    @jax.jit
    def law(warp, history):
        traced.append(warp)
        return warp.log_probs(jnp.zeros((1, V)), history)

    for size in (0, 1, 2, 40):
        law(Warp(no_repeat_ngram=size).validate(1, V), after([1, 2, 1]))
    assert len(traced) == 1


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (dict(no_repeat_ngram=-1), "no_repeat_ngram: got -1, must be an integer >= 0"),
        (dict(no_repeat_ngram=1.5), "no_repeat_ngram: got 1.5"),
        (dict(min_new_tokens=[1, 2, 3], ends=()), r"min_new_tokens: got shape \(3,\)"),
        (dict(min_new_tokens=3), "min_new_tokens: got no ends to ban"),
        (dict(bad_words=[3, 4]), r"bad_words: got \[3, 4\], must be sequences of tokens"),
        (dict(bad_words=[[3], []]), "bad_words: got an empty word"),
        (dict(bad_words=[[3, V]]), r"bad_words: got token 6, must lie in \[0, 6\)"),
        (dict(bad_words=[[3, -1]]), "bad_words: got token -1"),
        (dict(bad_words=[[0.5]]), "bad_words: got 0.5, must be a token"),
        (dict(bad_words=[[[1]], [[2]], [[3]]]), "bad_words: got words of 3 rows, must be of 2"),
        (dict(bad_words=np.array([[-1, 2]])), "bad_words: got -1 before a token"),
        (dict(bad_words=np.ones((3, 1, 1), int)), r"bad_words: got shape \(3, 1, 1\)"),
        (dict(bad_words=np.ones((1, 1))), "bad_words: got type float64"),
        (dict(forced_prefix=[1, 9]), "forced_prefix: got token 9"),
        (dict(forced_prefix=[[1], [2], [3]]), "forced_prefix: got 3 sequences, must be 1 or 2"),
        (dict(forced_prefix=4), "forced_prefix: got 4, must be tokens"),
        (dict(forced_prefix=np.array(4)), r"forced_prefix: got shape \(\)"),
        (dict(ends=[V]), "ends: got token 6"),
    ],
)
def test_what_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        Warp(**knobs).validate(2, V)


@pytest.mark.parametrize(
    "knobs", [dict(no_repeat_ngram=2), dict(bad_words=[[1]]), dict(forced_prefix=[1])]
)
def test_bans_refuse_to_be_ignored(knobs):
    warp = Warp(**knobs).validate(1, V)
    assert warp.needs_text and warp.needs_history and not warp.needs_counts and not warp.plain
    for history in (None, History(jnp.zeros((1, V), int), jnp.zeros((1, V), int))):
        with pytest.raises(ValueError, match="a ban reads the text"):
            warp.log_probs(jnp.zeros((1, V)), history)
