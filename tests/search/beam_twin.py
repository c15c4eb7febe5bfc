"""Beam search in plain Python: whole texts, no cache, one prompt at a time."""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.model import Inputs
from jaxdec.testing import oracles

VOCAB = 6
MODEL, TABLE = oracles.hash_oracle(VOCAB, seed=3)
PARAMS = {"target": TABLE}
ROOM = 24


@jax.jit
def laws(table, texts, lengths):
    """Log-probabilities of the token after the first ones of each text `[N, ROOM]`, with no cache."""
    valid = jnp.arange(ROOM) < lengths[:, None]
    logits = MODEL(table, Inputs.causal(texts, valid=valid), None).logits
    last = jnp.take_along_axis(logits, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return jax.nn.log_softmax(last)


def after(texts, table=TABLE):
    """The laws after some texts, at most 8 of them."""
    padded = np.zeros((8, ROOM), np.int32)
    lengths = np.ones(8, np.int32)
    for i, text in enumerate(texts):
        padded[i, : len(text)], lengths[i] = text, len(text)
    return np.asarray(laws(table, padded, lengths))[: len(texts)]


def search(
    prompt,
    hypotheses,
    budget,
    eos=(),
    *,
    groups=1,
    length_penalty=1.0,
    early_stopping=0,
    diversity=0.0,
    table=TABLE,
):
    """`(score, new tokens)` of the hypotheses of each group, best first, as the classes of transformers keep them."""
    width = hypotheses // groups
    running = [[(np.float32(0), [])] for _ in range(groups)]
    finished = [[] for _ in range(groups)]
    done = [False] * groups
    for length in range(1, budget + 1):
        taken = collections.Counter()
        for g in range(groups):
            if done[g]:
                continue
            found = []
            texts = [[*prompt, *new] for _, new in running[g]]
            for (score, new), law in zip(running[g], after(texts, table), strict=True):
                for token in range(VOCAB):
                    total = score + law[token] - np.float32(diversity * taken[token])
                    found.append((total, [*new, token]))
            found.sort(key=lambda one: -one[0])
            found = found[: width * (1 + max(len(eos), 1))]
            ends = [new[-1] in eos or length == budget for _, new in found]
            for (score, new), end in list(zip(found, ends, strict=True))[:width]:
                if end:
                    finished[g].append(
                        (score / np.float32(length) ** np.float32(length_penalty), new)
                    )
            finished[g] = sorted(finished[g], key=lambda one: -one[0])[:width]
            running[g] = [f for f, end in zip(found, ends, strict=True) if not end][:width]
            taken.update([new[-1] for _, new in found if new[-1] not in eos][:width])
            done[g] = not running[g]
            if running[g] and len(finished[g]) == width:
                longest = budget if early_stopping == 2 and length_penalty > 0 else length
                hope = running[g][0][0] / np.float32(longest) ** np.float32(length_penalty)
                done[g] = early_stopping == 1 or hope <= finished[g][-1][0]
    return finished
