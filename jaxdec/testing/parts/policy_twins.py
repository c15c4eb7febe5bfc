"""Twins of the unmasking policies for one row, in Python floats, from the published rules, and boards to try them."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.diffusion import Candidates
from jaxdec.sampling.noise import row_keys
from jaxdec.testing.parts.group_states import END, ENDING, group_alone, scored
from pallas_kernels.unmask import statistics

ROWS = 8
GREEDY = 0
NOTHING, EQUAL, PAIRS, GAPS, NO_NUMBERS, CERTAIN = range(2, ROWS)
"""What is special about a row of a board; row 1 is plain, and row 0 but for its temperature."""


@dataclasses.dataclass
class Row:
    """One row of a board: what a twin reads.

    Attributes:
      logits: float64 `[W, V]`.
      law: float64 `[W, V]`, warped log-probabilities.
      tokens: int `[W]`, drawn.
      places: int `[W]`.
      allowed: indices that may be committed.
      committed: indices that are.
      step: steps taken.
      opened: positions that the group had to fill.
      past: what the twin remembers of a position.
      greedy: whether it is at temperature 0, where scores of the warped law are those of the model's own.
      end_weight: what probabilities count for where the token is `END`.
    """

    logits: np.ndarray
    law: np.ndarray
    tokens: np.ndarray
    places: np.ndarray
    allowed: list[int]
    committed: list[int]
    step: int
    opened: int
    past: dict[Any, float]
    end_weight: float = 1.0
    greedy: bool = False

    def score(self, kind, at):
        """The score of one position."""
        if kind == "left_to_right":
            return -float(self.places[at])
        warped = kind.startswith("warped_") and not self.greedy
        law = self.law[at] if warped else normalised(self.logits[at])
        if np.isnan(law).any():
            return math.nan
        token = self.tokens[at] if kind.endswith("token_prob") else np.argmax(self.logits[at])
        weight = self.end_weight if token == END else 1.0
        if kind.endswith("token_prob"):
            return weight * math.exp(law[self.tokens[at]])
        probs = sorted((math.exp(x) for x in law), reverse=True)
        return {
            "max_prob": weight * probs[0],
            "margin": weight * (probs[0] - probs[1]),
            "entropy": sum(p * math.log(p) for p in probs if p > 0),
        }[kind.removeprefix("warped_")]

    def sorted(self, kind):
        """Allowed positions, best first; the lower of equals first, and those without a number last."""
        return in_order({at: self.score(kind, at) for at in self.allowed})


_statistics = jax.jit(statistics)


def in_order(scores):
    """The keys of a dictionary, those of the highest score first; see `Row.sorted`."""
    rank = lambda at: (math.isnan(scores[at]), 0 if math.isnan(scores[at]) else -scores[at], at)
    return sorted(scores, key=rank)


def normalised(logits):
    """Log-probabilities."""
    top = np.max(logits)
    return logits - top - np.log(np.sum(np.exp(logits - top)))


def quota_steps(spread, opened, steps):
    """Steps that a group takes; 0 for as many as it can."""
    if spread == "doubling":
        most = max(int(math.log2(opened)), 1)
        return min(steps or most, most)
    return min(steps or opened, opened)


def quota_size(spread, opened, steps, step, left):
    """Positions that step `step` commits."""
    steps = quota_steps(spread, opened, steps)
    if spread == "doubling":
        size = 2**step if step + 1 < steps else left
    elif spread == "even":
        size = opened // steps + (step < opened % steps)
    elif spread == "linear_time":
        t = 1 - Fraction(step, steps)
        size = int(left * (1 - (t - Fraction(1, steps)) / t)) if t > 0 else left
    else:
        stay = math.floor(opened * math.cos(math.pi * (step + 1) / (2 * steps)) + 1e-9)
        size = left - (max(stay, 1) if step + 1 < steps else 0)
    return max(size, 1)


def quota(by, spread="even"):
    """The best of the step's number."""

    def twin(row, steps):
        size = quota_size(spread, row.opened, steps, row.step, len(row.allowed))
        return row.sorted(by)[:size]

    return twin


def threshold(by="max_prob"):
    """All above the threshold, and the best."""

    def twin(row, threshold):
        return row.sorted(by)[:1] + [at for at in row.allowed if row.score(by, at) > threshold]

    return twin


def factor(by="max_prob"):
    """The largest n with (n + 1) (1 - c_n) <= f."""

    def twin(row, factor):
        best = row.sorted(by)
        counts = range(1, len(best) + 1)
        fits = [n for n in counts if (n + 1) * (1 - row.score(by, best[n - 1])) <= factor]
        return best[: max(fits, default=1)]

    return twin


def dynamic_threshold(by="warped_token_prob"):
    """All above the threshold if they are as many as the quota, else the quota."""

    def twin(row, threshold, steps):
        size = quota_size("even", row.opened, steps, row.step, len(row.allowed))
        high = [at for at in row.allowed if row.score(by, at) > threshold]
        return high if len(high) >= size else row.sorted(by)[:size]

    return twin


def entropy_bound(row, entropy_bound):
    """The longest prefix, in order of entropy, whose sum stays below the bound."""
    best, spent, taken = row.sorted("entropy"), 0.0, []
    for at in best:
        spent += -row.score("entropy", at)
        if not spent < entropy_bound:
            break
        taken.append(at)
    return taken or best[:1]


def saber(row, minimum):
    """All surer than the mean of the past, 1 at first; at least n. A position counts once."""
    mean = sum(row.past.values()) / len(row.past) if row.past else 1.0
    taken = [at for at in row.allowed if row.score("max_prob", at) > mean]
    if len(taken) < minimum:
        taken = row.sorted("max_prob")[:minimum]
    row.past |= {at: row.score("max_prob", at) for at in taken}
    return taken


def backtracking(confidence, before, revealed, committed, left, step, minimum):
    """The k of the committed tokens whose confidence changed by least (fell most)."""
    if step == 0 or left == len(revealed) or not revealed:
        return []
    most = max(minimum, len(revealed))
    k = min(max(minimum // 2, math.ceil(most / 8)), len(revealed) - 1)
    change = {at: confidence[at] - before[at] for at in [*committed, *revealed]}
    return in_order({at: -value for at, value in change.items()})[:k]


def eos_early_rejection(policy, spread="even"):
    """As a quota, with end tokens discounted by how far the steps are."""

    def twin(row, steps, eos_least, eos_most):
        most = quota_steps(spread, row.opened, steps)
        step = min(row.step, most - 1)
        done = step / (most - 1) if most > 1 else 1.0
        if spread == "doubling":
            done = (2 ** (step + 1) - 1) / 2**most
        weight = eos_least + (eos_most - eos_least) * done
        return policy(dataclasses.replace(row, end_weight=weight), steps)

    return twin


LEADING = 5
"""On a board a position begins a block whose place is divisible by this."""


def first_alone(policy):
    """All that begin a block while there are such; then as a policy to which the rest is a group of its own."""

    def twin(row, **knobs):
        begins = lambda among: [at for at in among if row.places[at] % LEADING == 0]
        if begins(row.allowed):
            return begins(row.allowed)
        before = len(begins(row.committed))
        step, opened = row.step - min(before, 1), row.opened - before
        return policy(dataclasses.replace(row, step=step, opened=opened), **knobs)

    return twin


def in_blocks(policy):
    """As a policy, of the leftmost block with a position that is allowed, which counts steps of its own."""

    def twin(row, block, **knobs):
        which = row.allowed[0] // block
        inside = lambda among: [at for at in among if at // block == which]
        # The past holds the blocks of the steps before, by step; what groups before left has other keys.
        step = sum(isinstance(key, int) and held == which for key, held in row.past.items())
        row.past[row.step] = which
        allowed, committed = inside(row.allowed), inside(row.committed)
        own = dict(allowed=allowed, committed=committed, opened=len(allowed) + len(committed))
        return policy(dataclasses.replace(row, step=step, past={}, **own), **knobs)

    return twin


@dataclasses.dataclass
class Board:
    """A group of `ROWS` rows that is filled step by step.

    Attributes:
      width: W.
      vocab: V; the last token is the mask and never possible.
      seed: of logits, tokens and keys.
    """

    width: int
    vocab: int
    seed: int

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.allowed = self.rng.random((ROWS, self.width)) < 0.8
        self.allowed[0] = True
        self.allowed[NOTHING] = False
        self.allowed[NOTHING + 1 :, :4] = True
        self.committed = np.zeros_like(self.allowed)
        self.opened = self.allowed.sum(1)
        self.past: list[dict[Any, float]] = [{} for _ in range(ROWS)]
        self.places = np.arange(self.width) + self.rng.integers(0, 9, (ROWS, 1))
        self.step = 0

    def look(self, sure=False):
        """Fresh logits for all positions: the candidates, and the rows for the twins; or such as are certain."""
        logits = self.rng.normal(scale=2, size=(ROWS, self.width, self.vocab))
        certain = self.rng.random(self.width) < 0.5
        logits[CERTAIN, certain, 1:] = -np.inf
        logits[EQUAL] = logits[EQUAL, :1]
        logits[PAIRS, 1::2] = logits[PAIRS, : self.width - 1 : 2]
        logits[..., -1] = -np.inf
        logits[GAPS, 1::3] = np.nan
        logits[NO_NUMBERS] = np.nan
        if sure:
            logits[..., 1:] = -np.inf
            logits[..., 0] = 0.0
        logits = logits.astype(np.float32)
        with np.errstate(invalid="ignore"):
            law = np.apply_along_axis(normalised, -1, logits.astype(float))
            third = np.sort(law, axis=-1)[..., -3:-2]
            law = np.apply_along_axis(normalised, -1, 2 * np.where(law < third, -np.inf, law))
        law = law.astype(np.float32)
        # Equal positions draw equal tokens, so that token_prob ties as well.
        pick = self.rng.integers(0, 3, (ROWS, self.width))
        pick[EQUAL], pick[PAIRS, 1::2] = pick[EQUAL, :1], pick[PAIRS, : self.width - 1 : 2]
        drawn = np.take_along_axis(np.argsort(-law, axis=-1), pick[..., None], -1)[..., 0]
        tokens = jnp.asarray(drawn, jnp.int32)
        steps = jnp.full((ROWS,), self.step, jnp.int32)
        seen = Candidates(
            own=_statistics(jax.nn.log_softmax(jnp.asarray(logits)), tokens),
            warped=_statistics(jnp.asarray(law), tokens),
            tokens=tokens,
            places=jnp.asarray(self.places, jnp.int32),
            allowed=jnp.asarray(self.allowed),
            committed=jnp.asarray(self.committed),
            leading=jnp.asarray(self.places % LEADING == 0),
            step=steps,
            opened=jnp.asarray(self.opened, jnp.int32),
            steps=steps,
            keys=row_keys(jax.random.key(self.seed), ROWS),
            greedy=jnp.arange(ROWS) == GREEDY,
            canvas_progress=group_alone(self.places[:, 0], self.opened, self.allowed),
            scored=scored(logits),
            settings=ENDING,
        )
        rows = [
            Row(
                logits=logits[b].astype(float),
                law=law[b].astype(float),
                tokens=np.asarray(tokens[b]),
                places=self.places[b],
                allowed=np.flatnonzero(self.allowed[b]).tolist(),
                committed=np.flatnonzero(self.committed[b]).tolist(),
                step=self.step,
                opened=int(self.opened[b]),
                past=self.past[b],
                greedy=b == GREEDY,
            )
            for b in range(ROWS)
        ]
        return seen, rows

    def commit(self, chosen, back=False):
        """Moves on by a step: `chosen`, without those taken `back`, bool `[ROWS, W]` each."""
        self.committed = (self.committed | chosen) & ~np.asarray(back)
        self.allowed = (self.allowed & ~chosen) | back
        self.step += 1


def places_of(mask):
    """The indices in a bool `[W]`, sorted."""
    return np.flatnonzero(np.asarray(mask)).tolist()
