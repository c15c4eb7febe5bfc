"""Beam search against transformers: the same hypotheses in the same order, token for token, with the same scores."""

import itertools

import numpy as np
import pytest

import jaxdec
from jaxdec import search
from jaxdec.models import huggingface
from tests.parity.test_causal import torch, transformers, written

pytestmark = pytest.mark.usefixtures("quick_compilation")

PROMPTS, BEAMS, NEW, EOS = 20, 4, 14, (3, 17, 40)
SETTINGS = list(itertools.product((0.0, 1.0, 2.0), (False, True, "never")))
EARLY = {False: 0, True: 1, "never": 2}


def prompts_of(network):
    """Prompts of 1 to 9 tokens."""
    rng = np.random.default_rng(5)
    size = network.config.vocab_size
    return [rng.integers(0, size, 1 + i % 9).tolist() for i in range(PROMPTS)]


def found_there(network, prompts, length_penalty, early_stopping):
    """New tokens `[P, H]` of each prompt's hypotheses, up to their ends, and the scores `[P, H]`."""
    wide = max(map(len, prompts))
    pad = lambda of, fill: torch.tensor([[fill] * (wide - len(p)) + of(p) for p in prompts])
    with torch.no_grad():
        found = network.generate(
            pad(list, 0),
            attention_mask=pad(lambda p: [1] * len(p), 0),
            do_sample=False,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=NEW,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            eos_token_id=list(EOS),
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
    return [cut(row) for row in found.sequences[:, wide:].tolist()], found.sequences_scores.numpy()


def cut(row):
    ends = [i + 1 for i, token in enumerate(row) if token in EOS]
    return row[: ends[0]] if ends else row


def test_hypotheses_are_those_of_transformers(tmp_path):
    assert transformers.__version__ >= "5"
    network = written(tmp_path, "llama")
    loaded = huggingface.load(tmp_path)
    prompts = prompts_of(network)
    wide = max(map(len, prompts))
    padded = np.array([[*p, *[0] * (wide - len(p))] for p in prompts])
    each = lambda values: np.repeat(np.array(values), PROMPTS)
    result = jaxdec.generate(
        search.beams(loaded.model),
        {"target": loaded.params},
        np.tile(padded, (len(SETTINGS), 1)),
        lengths=np.tile([len(p) for p in prompts], len(SETTINGS)),
        rng=0,
        hypotheses=BEAMS,
        max_new_tokens=NEW,
        eos=EOS,
        length_penalty=each([penalty for penalty, _ in SETTINGS]),
        early_stopping=each([EARLY[early] for _, early in SETTINGS]),
    )
    start, end = np.asarray(result.prompt_lengths), np.asarray(result.lengths)
    ours = [
        row[s:e].tolist() for row, s, e in zip(np.asarray(result.tokens), start, end, strict=True)
    ]
    scores = np.asarray(result.pool.scores)
    early_ends, texts = 0, set()
    for i, setting in enumerate(SETTINGS):
        rows = slice(i * PROMPTS * BEAMS, (i + 1) * PROMPTS * BEAMS)
        theirs, their_scores = found_there(network, prompts, *setting)
        assert ours[rows] == theirs, setting
        np.testing.assert_allclose(scores[rows], their_scores, rtol=1e-4, atol=1e-4)
        early_ends += sum(len(row) < NEW for row in theirs)
        texts.add(str(theirs))
    assert early_ends > PROMPTS  # hypotheses do end by themselves
    assert len(texts) > 3  # and settings make a difference
