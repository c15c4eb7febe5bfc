"""Exact laws of small random programs, by running every branch.

A *program* is a plain Python function that takes its randomness from a `Chooser`: `choose(probabilities)` picks an
index, `flip(p)` a success. `law_of` replays the program for every sequence of choices and adds up the products of the
probabilities: no sampling, no tolerance beyond float64 rounding. This proves acceptance rules exact, and shows by how
much a wrong one is wrong.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.speculative.tree import DraftTree
from jaxdec.speculative.verifiers import RatioVerifier

Law = dict[Any, float]
Prefix = tuple[int, ...]
Conditional = Callable[[Prefix], np.ndarray]


class Node(NamedTuple):
    """A draft as a program states it: its token, its parent (-1 for the pending token), and the law claimed for it."""

    token: int
    parent: int
    q: tuple[float, ...]


Draft = tuple[Node | None, ...]
"""The nodes of a tree in the order in which siblings are judged; None for one that does not exist."""
Tests = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the passing probabilities `[B, N]`: what the tests may show, bool `[M, B, N]`, and how probably, `[M, B]`."""


class Chooser:
    """The randomness of one branch of a program; made by `law_of`."""

    def __init__(self, path: Sequence[int]):
        self._path = list(path)
        self._taken: list[int] = []
        self._options: list[np.ndarray] = []
        self.probability = 1.0

    def choose(self, probabilities: Sequence[float] | np.ndarray) -> int:
        """An index, each with its probability; indices of probability zero are never chosen."""
        probabilities = np.asarray(probabilities, np.float64)
        live = np.flatnonzero(probabilities > 0)
        turn = len(self._taken)
        pick = self._path[turn] if turn < len(self._path) else 0
        self._taken.append(pick)
        self._options.append(live)
        self.probability *= float(probabilities[live[pick]])
        return int(live[pick])

    def flip(self, probability: float) -> bool:
        """True with the given probability."""
        probability = float(np.clip(probability, 0, 1))
        return self.choose([1 - probability, probability]) == 1

    def _next(self) -> list[int] | None:
        """The choices of the branch after this one, or None after the last."""
        for turn in reversed(range(len(self._taken))):
            if self._taken[turn] + 1 < len(self._options[turn]):
                return [*self._taken[:turn], self._taken[turn] + 1]
        return None


def law_of(program: Callable[[Chooser], Hashable]) -> Law:
    """The exact law of what a program returns."""
    law: Law = defaultdict(float)
    path: list[int] | None = []
    while path is not None:
        chooser = Chooser(path)
        outcome = program(chooser)
        law[outcome] += chooser.probability
        path = chooser._next()
    return dict(law)


def total_variation(first: Law, second: Law) -> float:
    """Half the sum of absolute differences of two laws."""
    outcomes = first.keys() | second.keys()
    return 0.5 * sum(abs(first.get(o, 0.0) - second.get(o, 0.0)) for o in outcomes)


def random_conditional(
    vocab_size: int, depth: int, seed: int, concentration: float = 0.7
) -> Conditional:
    """Random laws `p(. | prefix)`, float64 `[V]`, for every prefix shorter than `depth`."""
    generator = np.random.default_rng(seed)
    tables = {
        prefix: generator.dirichlet(np.full(vocab_size, concentration))
        for length in range(depth)
        for prefix in np.ndindex(*(vocab_size,) * length)
    }
    return lambda prefix: tables[tuple(prefix)]


def complete(chooser: Chooser, prefix: Prefix, target: Conditional, length: int) -> Prefix:
    """Extends a prefix to `length` tokens with plain draws from the target, or cuts it there."""
    while len(prefix) < length:
        prefix = (*prefix, chooser.choose(target(prefix)))
    return prefix[:length]


def plain_law(target: Conditional, length: int) -> Law:
    """The law of `length` tokens drawn one after the other from the target."""
    return law_of(lambda chooser: complete(chooser, (), target, length))


def independent_tests(passing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every outcome of tests that draw a uniform each."""
    nodes = passing.shape[1]
    passed = (np.arange(2**nodes)[:, None, None] >> np.arange(nodes)) & 1 == 1
    chances = np.where(passed, passing, 1 - passing).prod(-1)
    return np.broadcast_to(passed, (2**nodes, *passing.shape)), chances


@functools.cache
def _compiled(verifier: RatioVerifier) -> tuple[Callable, Callable]:
    return jax.jit(verifier.law), jax.jit(jax.vmap(verifier.last, (0, None)))


def tree_round(
    verifier: RatioVerifier,
    target: Conditional,
    drafting: Callable[[Chooser], Draft],
    tests: Tests = independent_tests,
) -> tuple[Law, float]:
    """The exact law of the tokens that one round emits, and the expected number of accepted drafts.

    Calls the very functions that the verifier samples from, in float64, on all trees at once.

    Args:
      verifier: its `law` and `last` are called.
      target: laws of the target.
      drafting: a program that draws a tree; all trees have as many nodes.
      tests: how the tests are drawn.
    """
    drafts = law_of(drafting)
    nodes, vocab_size = len(next(iter(drafts))), len(target(()))
    size = (
        1 << (len(drafts) - 1).bit_length()
    )  # filled up with empty trees, so that few shapes are compiled
    tokens, parents = np.zeros((size, nodes), int), np.full((size, nodes), -1)
    mask, q = np.zeros((size, nodes), bool), np.zeros((size, nodes, vocab_size))
    p = np.zeros((size, nodes + 1, vocab_size))
    prefixes: list[list[Prefix]] = [[()] for _ in drafts]
    for b, draft in enumerate(drafts):
        for n, node in enumerate(draft):
            if node is not None:
                tokens[b, n], parents[b, n], q[b, n] = node
                mask[b, n] = True
            prefixes[b].append((*prefixes[b][parents[b, n] + 1], int(tokens[b, n])))
        p[b] = [target(prefix) for prefix in prefixes[b]]

    judge, last = _compiled(verifier)
    with jax.enable_x64(True):
        shape = (jnp.asarray(tokens), jnp.asarray(parents), jnp.asarray(mask))
        tree = DraftTree(*shape, q=None, depth=nodes)
        law = judge(p, q, tree)
        closing, (passed, chances) = np.asarray(law.closing), tests(np.asarray(law.passing))
        ends = np.asarray(last(passed, tree))  # [M, B]
    stops = np.zeros((size, nodes + 1))
    np.add.at(stops, (np.arange(size), ends), chances)

    emitted: Law = defaultdict(float)
    accepted = 0.0
    for b, probability in enumerate(drafts.values()):
        for n in np.flatnonzero(stops[b]).tolist():
            mass = probability * stops[b, n]
            accepted += mass * len(prefixes[b][n])
            for token in range(vocab_size):
                emitted[*prefixes[b][n], token] += mass * closing[b, n, token]
    return dict(emitted), float(accepted)


def completed(emitted: Law, target: Conditional, length: int) -> Law:
    """The law of sequences of `length` tokens whose first are emitted and whose others are drawn from the target."""
    law: Law = defaultdict(float)
    for prefix, mass in emitted.items():
        law[prefix] += mass
    for size in range(1, length):
        for prefix in [prefix for prefix in law if len(prefix) == size]:
            mass = law.pop(prefix)
            for token, probability in enumerate(target(prefix)):
                law[*prefix, token] += mass * float(probability)
    return dict(law)


def tree_round_law(
    verifier: RatioVerifier,
    target: Conditional,
    drafting: Callable[[Chooser], Draft],
    length: int,
    tests: Tests = independent_tests,
) -> Law:
    """The exact law of `length` tokens, at least one more than the depth, after one round; see `tree_round`."""
    return completed(tree_round(verifier, target, drafting, tests)[0], target, length)


def chain(
    draft: Conditional, drafts: int, *, chosen: bool = False, real: int | None = None
) -> Callable[[Chooser], Draft]:
    """A program that drafts a chain.

    Args:
      draft: laws of the drafter.
      drafts: N.
      chosen: drafts are the argmax of the draft law, with a one-hot q, instead of draws from it.
      real: how many of the N drafts exist; all if not given.
    """

    def program(chooser: Chooser) -> Draft:
        nodes: list[Node | None] = []
        x: Prefix = ()
        for i in range(drafts if real is None else real):
            law = draft(x)
            if chosen:
                law = np.eye(len(law))[np.argmax(law)]
            x = (*x, chooser.choose(law))
            nodes.append(Node(x[-1], i - 1, tuple(law)))
        return (*nodes, *[None] * (drafts - len(nodes)))

    return program
