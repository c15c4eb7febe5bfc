"""Rules that choose among samples of a pool: which answer each gives, and what it spent on it.

Legend: Q problems, n samples of each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.solutions import Found
from jaxdec.search import selection


class Chosen(NamedTuple):
    """What a rule says of each problem.

    Attributes:
      correct: bool `[Q]`.
      target: int `[Q]`, forwards of the target in all.
      steps: int `[Q]`, that follow one another.
    """

    correct: np.ndarray
    target: np.ndarray
    steps: np.ndarray


def at(found: Found, winner: object) -> np.ndarray:
    """Whether the winners `[Q]` are right; nobody is not."""
    index = np.asarray(winner)
    right = np.take_along_axis(found.correct, np.maximum(index, 0)[:, None], 1)[:, 0]
    return right & (index >= 0)


def all_of(found: Found, winner: object) -> Chosen:
    """A choice among samples that were all drawn to their ends."""
    return Chosen(at(found, winner), found.target, found.steps)


def _mean(found: Found) -> np.ndarray:
    return found.mean_log_probs.astype(np.float32)


def _ended(found: Found) -> np.ndarray:
    return np.where(found.finished, found.lengths, -1)


def _short(found: Found) -> Chosen:
    """The vote of the first half to finish; the others stop with it."""
    m = max(1, found.lengths.shape[1] // 2)
    winner = selection.short_vote(found.answers, _ended(found), m).winner
    first = np.asarray(selection.first_to_finish(_ended(found), m))
    last = np.where(first, found.lengths, 0).max(1)
    last = np.where(first.sum(1) < m, found.lengths.max(1), last)
    return Chosen(
        at(found, winner), np.minimum(found.lengths, last[:, None]).sum(1), last.astype(int)
    )


def _verified(found: Found) -> Chosen:
    """The first that the checker accepts; all others stop then."""
    winner = np.asarray(selection.first_verified(found.correct, found.lengths))
    own = np.take_along_axis(found.lengths, np.maximum(winner, 0)[:, None], 1)[:, 0]
    last = np.where(winner >= 0, own, found.lengths.max(1))
    return Chosen(winner >= 0, np.minimum(found.lengths, last[:, None]).sum(1), last)


def _risk(found: Found) -> Chosen:
    utility = selection.token_f1(found.tokens, found.lengths)
    return all_of(found, selection.mbr(utility).winner)


RULES: dict[str, Callable[[Found], Chosen]] = {
    "vote": lambda f: all_of(f, selection.vote(f.answers).winner),
    "vote by reward": lambda f: all_of(
        f, selection.vote(f.answers, 1 / (1 + np.exp(-f.scores))).winner
    ),
    "best of n by reward": lambda f: all_of(f, selection.best_of_n(f.scores, f.answers >= 0)),
    "minimum Bayes risk": _risk,
    "perplexity consistency": lambda f: all_of(
        f, selection.perplexity_consistency(_mean(f), f.answers, f.texts).winner
    ),
    "RPC": lambda f: all_of(f, selection.rpc(_mean(f), f.answers, f.texts).winner),
    "short vote": _short,
    "first verified (checker)": _verified,
}
"""By name; the pool's scores are the reward's."""


def switched(greedy: Found, pool: Found, threshold: float = 0.0) -> Chosen:
    """The dynamic switch: a greedy answer that its reward is sure of, else the vote of the pool.

    Args:
      greedy: one sample a problem.
      pool: n samples a problem.
      threshold: of the reward's logit.
    """
    easy = np.asarray(selection.choose_mode(greedy.scores[:, 0], threshold)) == 1
    hard = RULES["vote"](pool)
    return Chosen(
        np.where(easy, greedy.correct[:, 0], hard.correct),
        greedy.target + np.where(easy, 0, hard.target),
        greedy.steps + np.where(easy, 0, hard.steps),
    )
