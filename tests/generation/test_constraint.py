"""Constraints in the loop: plain and speculative decoding, gaps, hypotheses, and what cannot be accepted."""

import functools

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset, diffusion
from jaxdec.decoding import Status
from jaxdec.sampling import row_keys
from jaxdec.testing import oracles
from jaxdec.testing.twin import python_twin
from jaxdec.text import Automaton
from tests.decoding.moving import Beam
from tests.text.test_grammar import brackets

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, EOS, BUDGET = 6, 5, 12
MODEL, TARGET = oracles.hash_oracle(V, seed=3)
PARAMS = {
    "target": TARGET,
    "draft": oracles.blend(TARGET, oracles.hash_oracle(V, seed=4)[1], 0.3),
}
KEY = jax.random.key(2)


def counting(modulus, vocab_size=V):
    """The tokens sum up to a multiple of the modulus, and none comes twice in a row."""

    def step(state, token):
        total, last = state
        return None if token in (last, EOS) else ((total + token) % modulus, token)

    return Automaton.explore((0, -1), step, lambda state: state[0] == 0, vocab_size)


def word(*tokens):
    """One text alone."""
    step = lambda place, token: place + 1 if tokens[place : place + 1] == (token,) else None
    return Automaton.explore(0, step, lambda place: place == len(tokens), V)


DEEP, SUMS, WORD = brackets(3, V), counting(4), word(2, 2, 1, 0, 4)
ROWS = (  # automaton, temperature, budget, prompt
    (DEEP, 1.0, 12, (1, 2, 3)),
    (None, 1.0, 12, (4, 5, 0)),
    (DEEP, 0.0, 7, (4, 1)),
    (SUMS, 1.3, 12, (0, 0, 2)),
    (SUMS, 0.0, 11, (3,)),
    (None, 0.0, 9, (2, 2)),
    (WORD, 0.7, 12, (2,)),
    (WORD, 1.0, 5, (1, 1)),
)


def arguments():
    width = max(len(prompt) for *_, prompt in ROWS)
    prompts = np.zeros((len(ROWS), width), int)
    for row, (*_, prompt) in zip(prompts, ROWS, strict=True):
        row[: len(prompt)] = prompt
    return dict(
        prompt=prompts,
        lengths=[len(prompt) for *_, prompt in ROWS],
        temperature=[temperature for _, temperature, *_ in ROWS],
        max_new_tokens=[budget for *_, budget, _ in ROWS],
        eos=[EOS],
    )


@functools.cache
def twins():
    found = []
    for key, (automaton, temperature, budget, prompt) in zip(
        row_keys(KEY, len(ROWS)), ROWS, strict=True
    ):
        given = dict(temperature=temperature, max_new_tokens=budget, eos=(EOS,), width=32)
        found.append(
            python_twin(MODEL, PARAMS["target"], prompt, key, constraint=automaton, **given)
        )
    return found


def constrained(decoder, **more):
    automata = [automaton for automaton, *_ in ROWS]
    given = {**arguments(), "constraint": automata, **more}
    return jaxdec.generate(decoder, PARAMS, given.pop("prompt"), rng=KEY, **given)


def texts(result):
    rows = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    return [row[:length].tolist() for row, length in rows]


def new_tokens(row, text):
    return text[len(ROWS[row][3]) :]


def check_accepted(result):
    """Every constrained row ends in an accepting state, by itself or by its budget."""
    for row, (automaton, *_) in enumerate(ROWS):
        text = new_tokens(row, texts(result)[row])
        if automaton is not None:
            assert automaton.accepts(text[:-1] if text[-1:] == [EOS] else text), (row, text)


CHAIN = jaxdec.drafters.model(MODEL, length=3)
TREE = jaxdec.drafters.model(MODEL, growth=jaxdec.growth.independent(2, 3))
IDENTICAL = {
    "plain": jaxdec.autoregressive(MODEL),
    "chain": jaxdec.speculative(MODEL, drafter=CHAIN),
    "tree": jaxdec.speculative(MODEL, drafter=TREE),
    "lookup": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.prompt_lookup(length=3)),
    "jacobi": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.jacobi(MODEL, length=3)),
}


DEAR = ("lookup", "jacobi")
"""Whose laws are read along a chain as those of `chain` are."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in DEAR else ()) for n in IDENTICAL]
)
def test_rows_are_those_of_a_python_loop(name):
    result = constrained(IDENTICAL[name])
    check_accepted(result)
    ends = set()
    for row, twin in enumerate(twins()):
        assert texts(result)[row] == twin.tokens, (name, row)
        assert result.status[row] is twin.status
        new = slice(len(ROWS[row][3]), len(twin.tokens))
        np.testing.assert_allclose(
            np.asarray(result.log_probs)[row, new], twin.log_probs, atol=1e-4
        )
        ends.add(twin.status)
    assert ends == {Status.EOS, Status.LENGTH}


@pytest.mark.parametrize(
    ("verifier", "drafter"),
    [
        (jaxdec.verifiers.BlockVerification(), CHAIN),
        (jaxdec.verifiers.RecursiveRejection(), TREE),
    ],
)
def test_ratio_verifiers_keep_to_the_automaton(verifier, drafter):
    result = constrained(jaxdec.speculative(MODEL, drafter=drafter, verifier=verifier))
    check_accepted(result)
    for row, twin in enumerate(twins()):
        if ROWS[row][1] == 0:
            assert texts(result)[row] == twin.tokens, row
    assert {Status.EOS, Status.LENGTH} == set(result.status)


def test_what_accepts_everything_changes_nothing():
    anything = Automaton.explore(0, lambda state, token: 0, lambda state: True, V)
    free = jaxdec.generate(IDENTICAL["chain"], PARAMS, rng=KEY, **arguments())
    same = constrained(IDENTICAL["chain"], constraint=anything)
    some = constrained(IDENTICAL["chain"], constraint=[None] * len(ROWS))
    for name in ("tokens", "log_probs", "steps", "codes"):
        for other in (same, some):
            one, two = (np.asarray(getattr(x, name)) for x in (free, other))
            if name == "log_probs":
                np.testing.assert_allclose(one, two, atol=1e-6)
            else:
                np.testing.assert_array_equal(one, two)
    beside = constrained(IDENTICAL["chain"])
    for row, (automaton, *_) in enumerate(ROWS):
        if automaton is None:
            assert texts(beside)[row] == texts(free)[row]


def test_hypotheses_and_rows_that_move():
    plain = IDENTICAL["plain"]
    result = constrained(plain, hypotheses=2)
    assert texts(result)[::2] == texts(constrained(plain))
    beams = constrained(Beam(MODEL), hypotheses=2, max_new_tokens=7, temperature=1.0)
    ends = 0
    for row, text in enumerate(texts(beams)):
        automaton, *_, prompt = ROWS[row // 2]
        new = text[len(prompt) :]
        # The second hypothesis of what has a single text has none.
        if automaton is not None and beams.status[row] is not Status.NONFINITE:
            assert automaton.accepts(new[:-1] if new[-1:] == [EOS] else new)
            ends += row % 2
    assert ends


def test_without_an_end_a_row_has_its_budget():
    decoder = IDENTICAL["chain"]
    result = constrained(decoder, eos=(), constraint=DEEP, max_new_tokens=8)
    assert set(result.status) == {Status.LENGTH}
    for row, text in enumerate(texts(result)):
        new = new_tokens(row, text)
        assert len(new) == 8 and DEEP.accepts(new)
    with pytest.raises(ValueError, match="row 0 has 7 new tokens and 0 that are given"):
        constrained(decoder, eos=(), constraint=DEEP, max_new_tokens=7)


GAPS = np.array([[0, 9, 9, 1, 9, 9, 0, 9], [9, 9, 9, 9, 0, 1, 9, 9], [2, 9, 3, 9, 9, 1, 9, 9]])
VISIBLE = GAPS < 9


def test_gaps_are_filled_between_what_is_visible():
    given = dict(rng=KEY, temperature=[1.0, 0.0, 1.0], constraint=[DEEP, DEEP, SUMS])
    decoders = any_subset.assd(MODEL), jaxdec.autoregressive(MODEL)
    found = [
        jaxdec.infill(d, PARAMS, np.where(VISIBLE, GAPS, 0), VISIBLE, **given) for d in decoders
    ]
    tokens = np.asarray(found[0].tokens)
    np.testing.assert_array_equal(tokens, np.asarray(found[1].tokens))
    np.testing.assert_array_equal(tokens[VISIBLE], GAPS[VISIBLE])
    for row, automaton in zip(tokens, given["constraint"], strict=True):
        assert automaton.accepts(row.tolist()), row
    assert set(found[0].status) == {Status.LENGTH}
    wrong = np.where(VISIBLE, GAPS, 0)
    wrong[1, 4] = 2  # no bracket
    for more, message in (
        (dict(), "row 1 has 6 new tokens and 2 that are given"),
        (dict(eos=[EOS]), r"got eos \[5\], must be \(\) where gaps are filled"),
        (dict(ranks=ranks_from_the_right()), "must fill gaps from left to right"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxdec.infill(decoders[1], PARAMS, wrong, VISIBLE, rng=1, constraint=DEEP, **more)


def ranks_from_the_right():
    ranks = np.zeros(VISIBLE.shape, int)
    for row, visible in zip(ranks, VISIBLE, strict=True):
        shown, gaps = np.flatnonzero(visible), np.flatnonzero(~visible)[::-1]
        row[[*shown, *gaps]] = np.arange(len(row))
    return ranks


def test_what_cannot_be_is_refused():
    plain = IDENTICAL["plain"]
    for more, message in (
        (dict(max_new_tokens=4), "row 6 asks for 4 new tokens, must ask for at least 5"),
        (dict(constraint=word(2, EOS)), "accepts no text at all"),
        (dict(constraint="a+"), "must be a jaxdec.text.Automaton"),
        (dict(constraint=[DEEP]), "got 1 automata, must be 8"),
        (dict(constraint=[3] * 8), "got 3 among automata"),
        (dict(constraint=brackets(2, V + 1)), "over 7 tokens, must be over the model's 6"),
    ):
        with pytest.raises(ValueError, match=message):
            constrained(plain, **more)
    canvas = diffusion.denoise(oracles.canvas(MODEL))
    with pytest.raises(ValueError, match="fills a canvas"):
        constrained(canvas)
    with pytest.raises(ValueError, match="parallel sampling of 3 at once"):
        jaxdec.infill(
            any_subset.parallel_sampling(MODEL, width=3), PARAMS, GAPS % 9, VISIBLE, rng=1,
            constraint=[DEEP, DEEP, SUMS],
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"must be a jaxdec.sampling.Constraint"):
        jaxdec.Warp(constraint=DEEP).validate(2, V)


def test_other_automata_compile_nothing():
    traced = []

    class Counted(jaxdec.Autoregressive):
        def step(self, *args):
            traced.append(1)
            return super().step(*args)

    decoder = Counted(MODEL)
    first = constrained(decoder)
    before = len(traced)
    others = [SUMS, DEEP, SUMS, DEEP, DEEP, WORD, WORD, None]
    second = constrained(decoder, constraint=others, temperature=0.5)
    assert len(traced) == before and texts(first) != texts(second)
