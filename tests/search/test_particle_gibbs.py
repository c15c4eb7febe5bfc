"""Particle Gibbs: references pass unchanged, and the first filter is a particle filter."""

import itertools

import jax
import numpy as np
import pytest

from jaxdec import search
from jaxdec.generation import particle_gibbs
from tests.search.rows import LENGTHS, PARAMS, PLAIN, PROMPTS, generate, texts
from tests.search.test_best_first import logit

pytestmark = pytest.mark.usefixtures("quick_compilation")
HYPOTHESES, BUDGET = 4, 9


def test_references_pass_unchanged():
    reward, segment = search.scorers.of_tokens(logit), search.until([2], most=3)
    decoder = search.conditional_filter(PLAIN, reward, segment=segment)
    ask = dict(lengths=LENGTHS, eos=[0], reward_temperature=0.5)
    found = particle_gibbs(
        decoder,
        PARAMS,
        PROMPTS,
        iterations=4,
        hypotheses=HYPOTHESES,
        rng=3,
        max_new_tokens=BUDGET,
        **ask,
    )
    for before, after in itertools.pairwise(found):
        earlier, later = texts(before), texts(after)
        for p in range(2):
            rows = slice(p * HYPOTHESES, (p + 1) * HYPOTHESES)
            assert later[rows][0] in earlier[rows]
            assert np.asarray(after.pool.moves)[rows][0] == 0
    assert len({tuple(text) for result in found for text in texts(result)}) > 4
    # The first filter has no reference, and one program serves all.
    own = jax.random.split(jax.random.key(3), 3)[1]
    alone = search.particle_filter(PLAIN, reward, segment=segment, scheme="multinomial")
    first = generate(alone, HYPOTHESES, own, reward_temperature=0.5)
    # Of the second prompt, which has the same budget there.
    assert texts(first)[HYPOTHESES:] == texts(found[0])[HYPOTHESES:]


def test_bad_numbers_are_refused():
    decoder = search.conditional_filter(
        PLAIN, search.scorers.of_tokens(logit), segment=search.of_length(2)
    )
    ask = dict(rng=0, max_new_tokens=4)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        particle_gibbs(decoder, PARAMS, PROMPTS, iterations=0, hypotheses=2, **ask)
    with pytest.raises(ValueError, match="hypotheses is 1; a reference"):
        particle_gibbs(decoder, PARAMS, PROMPTS, iterations=2, hypotheses=1, **ask)
