"""Rows of a population in plain Python: each segment is a call of `generate` on the text so far."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec import sampling
from jaxdec.testing import oracles

VOCAB, EOS = 6, 0
MODEL, TARGET = oracles.hash_oracle(VOCAB, seed=3)
OTHER = oracles.blend(TARGET, oracles.hash_oracle(VOCAB, seed=4)[1], 0.3)
PARAMS = {"target": TARGET, "draft": OTHER}
PROMPTS, LENGTHS = np.array([[1, 2, 3], [4, 5, 0]]), np.array([3, 2])
BUDGET = np.array([13, 9])
PLAIN = jaxdec.autoregressive(MODEL)
CHAIN = jaxdec.drafters.model(MODEL, length=3)
WALK = jaxdec.speculative(MODEL, drafter=CHAIN)
RATIO = jaxdec.speculative(MODEL, drafter=CHAIN, verifier=jaxdec.verifiers.TokenRatio())
WIDTH = 24


@dataclasses.dataclass
class Row:
    """One hypothesis: its text, the row's own key, and how often it began anew."""

    prompt: int
    key: object
    text: list
    moves: int = 0
    over: bool = False
    ended: bool = False
    log_prob: float = 0.0

    def take(self, other):
        """Takes the past of another row."""
        if other is not self:
            self.text, self.over, self.ended = list(other.text), other.over, other.ended
            self.log_prob = other.log_prob
            self.moves += 1

    def go(self, delimiters=(), most=99):
        """Runs a segment."""
        if self.over:
            return
        size = int(LENGTHS[self.prompt])
        key = self.key[None]
        if self.moves:
            key = sampling.key_at(key, sampling.Purpose.SEGMENT, jnp.array([self.moves]))
        left = int(BUDGET[self.prompt]) - (len(self.text) - size)
        found = jaxdec.generate(
            PLAIN,
            PARAMS,
            np.array([[*self.text, *[0] * (WIDTH - len(self.text))]]),
            lengths=[len(self.text)],
            rng=key,
            max_new_tokens=[min(most, left)],
            most_new_tokens=16,
            eos=[EOS, *delimiters],
        )
        self.text = np.asarray(found.tokens)[0, : int(found.lengths[0])].tolist()
        self.log_prob += float(found.log_probs.sum())
        self.ended = self.text[-1] == EOS
        self.over = self.ended or len(self.text) - size >= int(BUDGET[self.prompt])


def rows(rng, hypotheses):
    """All rows of both prompts, a list a prompt."""
    keys = sampling.row_keys(rng, 2 * hypotheses, hypotheses)
    make = lambda p, h: Row(p, keys[p * hypotheses + h], PROMPTS[p, : LENGTHS[p]].tolist())
    return [[make(p, h) for h in range(hypotheses)] for p in range(2)]


def generate(decoder, hypotheses, rng, **more):
    """The same through the population."""
    return jaxdec.generate(
        decoder,
        PARAMS,
        PROMPTS,
        lengths=LENGTHS,
        rng=rng,
        max_new_tokens=BUDGET,
        eos=[EOS],
        hypotheses=hypotheses,
        **more,
    )


def texts(result):
    """The tokens of each row."""
    found = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    return [row[:length].tolist() for row, length in found]
