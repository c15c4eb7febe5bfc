"""Samples in blocks of several sizes: each is what its size alone gives, in one program."""

import numpy as np
import pytest

from jaxdec.diffusion import denoise, schedules, unmask
from jaxdec.sampling import row_keys
from jaxdec.search import selection
from tests.diffusion.canvases import LENGTHS, PROMPTS, decode, oracle, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES, BUDGET = (3, 4, 24), 24


@pytest.mark.slow
def test_each_expert_is_semi_autoregressive_decoding():
    model, params = oracle()
    experts = selection.block_experts(3, SIZES, seeds=2)
    assert experts.samples == 6
    assert experts.block.tolist() == [3, 3, 4, 4, 24, 24] * 3
    assert experts.steps.tolist() == [2, 2, 2, 2, 12, 12] * 3
    policy, keys = unmask.quota("max_prob"), row_keys(0, 18, 6)
    found = decode(
        denoise(model, unmask=unmask.in_blocks(policy)),
        {"target": params},
        rng=0,
        max_new_tokens=BUDGET,
        hypotheses=6,
        temperature=0.9,
        block=experts.block,
        steps=experts.steps,
    )
    each = lambda x: np.repeat(x, 6, axis=0)
    prompts = dict(prompt=each(PROMPTS), lengths=each(LENGTHS), rng=keys, max_new_tokens=BUDGET)
    for size in SIZES[::2]:  # as many programs
        alone = decode(
            denoise(model, unmask=policy, schedule=schedules.blocks(size)),
            {"target": params},
            temperature=0.9,
            steps=-(-size // 2),
            **prompts,
        )
        for row in np.flatnonzero(experts.block == size):
            assert texts(found)[row] == texts(alone)[row], (size, row)
    forwards = np.asarray(found.stats.target_forwards).reshape(3, 6)
    assert (forwards == [16, 16, 12, 12, 12, 12]).all()  # what two tokens a step need


def test_ties_go_to_the_smallest_blocks():
    experts = selection.block_experts(2, (32, 8), seeds=2)
    blocks = experts.block.reshape(2, -1)
    ids = np.array([[5, 7, 7, 5], [1, 1, 2, -1]])
    vote = selection.vote(ids, tie="shortest", lengths=blocks)
    assert vote.answer.tolist() == [7, 1] and vote.winner.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(prompts=0), "prompts must"),
        (dict(prompts=1, sizes=()), "at least 1 size"),
        (dict(prompts=1, sizes=(8, 0)), "sizes must"),
        (dict(prompts=1, seeds=0), "seeds must"),
        (dict(prompts=1, tokens_a_step=0), "tokens_a_step must"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        selection.block_experts(**options)
