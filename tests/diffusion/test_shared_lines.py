"""DiffTester: what lines share, against a loop over texts, and what it must not touch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec.diffusion import denoise, unmask
from jaxdec.testing.parts.policy_twins import ROWS, Board
from tests.diffusion.canvases import VOCAB, decode, forwards, oracle, same, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
NEWLINE, BLANK = 7, 6
KNOBS = {"line_confidence": 0.02, "line_tokens": 2, "line_period": 2, "threshold": 0.9}


def lines_of(tokens, there):
    """Lines of one text: places of each, its newline included, and whether it has one."""
    found, line = [], []
    for at, token in enumerate(tokens):
        if not there[at]:
            found.append((line, False))
            line = []
            continue
        line.append(at)
        if token == NEWLINE:
            found.append((line, True))
            line = []
    return [each for each in [*found, (line, False)] if each[0]]


def twin(texts, there, group, least):
    """Places `[B][W]` that another line of the same prompt has, with all of its line on one side."""
    shared = np.zeros(there.shape, bool)
    for first in range(0, len(texts), group):
        lines = [
            (row, places, closed)
            for row in range(first, first + group)
            for places, closed in lines_of(texts[row], there[row])
        ]
        for one, (row, places, closed) in enumerate(lines):
            own = [texts[row][at] for at in places]
            for two, (other, theirs, ended) in enumerate(lines):
                if one == two:
                    continue
                words = [texts[other][at] for at in theirs]
                for n in range(1, len(own) + 1):
                    says = lambda part: sum(token != BLANK for token in part) >= least
                    if own[:n] == words[:n] and says(own[:n]):
                        shared[row, places[n - 1]] = True
                    if closed and ended and own[-n:] == words[-n:] and says(own[-n:]):
                        shared[row, places[-n]] = True
    return shared


@pytest.mark.parametrize("group", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_what_lines_share(group):
    policy = unmask.shared_lines(unmask.threshold(), (NEWLINE,), blanks=(BLANK,))
    board = Board(24, 6, seed=3)
    seen, _ = board.look()
    rng = np.random.default_rng(1)
    tokens = rng.choice([1, 2, BLANK, NEWLINE], (ROWS, 24), p=[0.45, 0.15, 0.2, 0.2])
    committed = ~board.allowed & (rng.random(board.allowed.shape) < 0.7)
    seen = dataclasses.replace(
        seen,
        tokens=jnp.asarray(tokens, jnp.int32),
        committed=jnp.asarray(committed),
        hypotheses=group,
    )
    least = np.arange(ROWS) % 4 + 1
    found = np.asarray(jax.jit(policy.shared)(seen, jnp.asarray(least)))
    there = board.allowed | committed
    for row in range(ROWS):
        expected = twin(tokens, there, group, least[row])[row]
        np.testing.assert_array_equal(found[row], expected, err_msg=str(row))
    assert 10 < found.sum() < there.sum() - 10


def made(**options):
    return unmask.shared_lines(unmask.threshold(), (NEWLINE,), **options)


@pytest.mark.slow
def test_with_nothing_shared_it_is_the_policy():
    model, params = oracle()
    given = dict(params={"target": params}, temperature=0.0)
    plain = decode(denoise(model), given["params"], temperature=0.0)
    never = decode(denoise(model, unmask=made(least=50)), given["params"], temperature=0.0)
    same(plain, never)
    none = decode(denoise(model, unmask=made(confidence=1.0)), given["params"], temperature=0.0)
    same(plain, none)


def test_samples_of_a_prompt_share_and_prompts_do_not():
    """Greedy samples of a prompt are one text: all of it is shared, but for the first tokens of its lines."""
    model, params = oracle()
    decoder = denoise(model, unmask=made(least=1))
    options = dict(temperature=0.0, hypotheses=2)
    plain = decode(denoise(model), {"target": params}, **options)
    found = decode(decoder, {"target": params}, **options)
    assert max(forwards(found)) <= 3 < min(forwards(plain))
    alone = decode(
        decoder,
        {"target": params},
        prompt=np.array([[1, 2, 3]]),
        lengths=None,
        max_new_tokens=9,
        **options,
    )
    many = decode(
        decoder,
        {"target": params},
        prompt=np.array([[1, 2, 3], [4, 5, 6]]),
        lengths=None,
        max_new_tokens=9,
        **options,
    )
    assert texts(alone) == texts(many)[:2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(newlines=()), "a token that ends them, got none"),
        (dict(newlines=(1,), confidence=2.0), "must lie in .0, 1., got 2"),
        (dict(newlines=(1,), least=0), "least must be at least 1, got 0"),
        (dict(newlines=(1,), period=0), "period must be at least 1, got 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        unmask.shared_lines(unmask.threshold(), **options)
    assert VOCAB == 8
