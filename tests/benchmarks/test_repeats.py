"""Figures about texts: what is repeated, how sure a mean is, and what an edited text is."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.editing import edit, edited
from benchmarks.repeats import error, repeated
from jaxdec import text


def result(tokens, prompts, forwards):
    tokens = np.array(tokens)
    lengths = np.full(len(tokens), tokens.shape[1])
    stats = SimpleNamespace(target_forwards=np.array(forwards))
    return SimpleNamespace(
        tokens=tokens, lengths=lengths, prompt_lengths=np.array(prompts), stats=stats
    )


def test_repeats_are_of_prompt_and_output():
    found = result([[1, 2, 3, 1, 2, 3], [1, 2, 3, 4, 5, 6]], [3, 3], [3, 1])
    assert repeated(found, 3) == 1 / 6  # the last 1 2 3
    assert repeated(found, 2) == 2 / 6
    assert repeated(found, 7) == 0


def test_the_standard_error_is_that_of_a_ratio():
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(200):
        forwards = rng.integers(5, 20, 16)
        lengths = (forwards * rng.normal(3, 0.5, 16)).astype(int)
        many = SimpleNamespace(
            lengths=lengths, prompt_lengths=0, stats=SimpleNamespace(target_forwards=forwards)
        )
        means.append(lengths.sum() / forwards.sum())
        errors.append(error(many))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)


def test_an_edited_text_has_another_name_and_a_line_less():
    assert edit(b"one two\ntwo\nred two\n") == b"one OWT\nred OWT\n"
    assert edit(b"a\n") == b"a\n"
    source = SimpleNamespace(content=b"".join(b"line %d of text\n" % i for i in range(200)))
    held, wanted = edited((source,), 2, 64)
    assert held.tokens.shape == (2, 256) and wanted.shape == (2, 64)
    for row in range(2):
        before = text.decode(held.tokens[row]).encode()
        assert before.startswith(b"line ")
        assert text.decode(wanted[row]).encode() == edit(before)[:64]
