"""Exact laws of small random programs, by running every branch.

A *program* is a plain Python function that takes its randomness from a `Chooser`: `choose(probabilities)` picks an
index, `flip(p)` a success. `law_of` replays the program for every sequence of choices and adds up the products of the
probabilities: no sampling, no tolerance beyond float64 rounding. This proves acceptance rules exact, and shows by how
much a wrong one is wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.speculative.verifiers.ratio import ChainLaw

Law = dict[Hashable, float]
Prefix = tuple[int, ...]
Conditional = Callable[[Prefix], np.ndarray]


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


def chain_round_law(
    rule: Callable[..., ChainLaw],
    counted: Callable[[jax.Array], jax.Array],
    target: Conditional,
    draft: Conditional,
    *,
    drafts: int,
    vocab_size: int,
    chosen: bool = False,
    real: int | None = None,
) -> Law:
    """The exact law of `drafts + 1` tokens after one round of a chain verifier, completed by the target.

    Calls the very functions that the verifier samples from, in float64.

    Args:
      rule: `token_law`, `block_law`, or one of the same signature.
      counted: how tests become a number of accepted drafts: `first_failure` or `last_success`.
      target: laws of the target.
      draft: laws of the drafter.
      drafts: N.
      vocab_size: V.
      chosen: drafts are the argmax of the draft law, with a one-hot q, instead of draws from it.
      real: how many of the N drafts exist; all if not given.
    """
    real = drafts if real is None else real
    laws: dict[Prefix, tuple[np.ndarray, np.ndarray]] = {}

    def judge(x: Prefix) -> tuple[np.ndarray, np.ndarray]:
        if x not in laws:
            p = np.stack([target(x[:i]) for i in range(drafts + 1)])
            q = np.stack([draft(x[:i]) for i in range(drafts)])
            if chosen:
                q = np.eye(vocab_size)[list(x)]
            with jax.enable_x64(True):
                mask = (np.arange(drafts) < real)[None]
                law = rule(
                    jnp.asarray(p[None]), jnp.asarray(q[None]), jnp.asarray([x]), jnp.asarray(mask)
                )
                laws[x] = np.asarray(law.passing)[0], np.asarray(law.closing)[0]
        return laws[x]

    def program(chooser: Chooser) -> Prefix:
        x: Prefix = ()
        for _ in range(drafts):
            law = draft(x)
            x = (*x, int(np.argmax(law)) if chosen else chooser.choose(law))
        passing, closing = judge(x)
        passed = np.array([chooser.flip(probability) for probability in passing])
        count = int(counted(jnp.asarray(passed)))
        emitted = (*x[:count], chooser.choose(closing[count]))
        return complete(chooser, emitted, target, drafts + 1)

    return law_of(program)


def expected_accepted(
    rule: Callable[..., ChainLaw],
    counted: Callable[[jax.Array], jax.Array],
    target: Conditional,
    draft: Conditional,
    *,
    drafts: int,
) -> float:
    """The exact expected number of accepted drafts of a chain verifier in one round."""

    def program(chooser: Chooser) -> int:
        x: Prefix = ()
        for _ in range(drafts):
            x = (*x, chooser.choose(draft(x)))
        p = np.stack([target(x[:i]) for i in range(drafts + 1)])
        q = np.stack([draft(x[:i]) for i in range(drafts)])
        with jax.enable_x64(True):
            mask = jnp.ones((1, drafts), bool)
            law = rule(jnp.asarray(p[None]), jnp.asarray(q[None]), jnp.asarray([x]), mask)
            passing = np.asarray(law.passing)[0]
        passed = np.array([chooser.flip(probability) for probability in passing])
        return int(counted(jnp.asarray(passed)))

    return sum(count * probability for count, probability in law_of(program).items())  # type: ignore[misc]
