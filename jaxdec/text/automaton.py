"""Which texts are allowed, as an automaton over tokens: a fixed table that a decoder follows from token to token.

    state' = next[state, token]        state 0: no accepted text begins so

Every other state leads to an accepting one, so whoever never enters state 0 can always come to an accepted text.

Legend: S states, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

DEAD = 0
"""The state after what no accepted text begins with."""

LARGEST = 1 << 28
"""Bytes of a table at most."""

NEVER = 1 << 29
"""More tokens than any row has: how far the dead state is from an accepting one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Automaton:
    """An automaton over tokens, trimmed: every state but 0 lies between the start and an accepting state.

    Made by `explore`, or of text by `jaxdec.text.regex` and `jaxdec.text.json_schema`. Tables of the caller's own are
    trimmed by `trimmed`.

    Attributes:
      next: unsigned `[S, V]`, the state after each token; 0 for good once no accepted text begins so.
      accepting: bool `[S]`, where a text may end.
      start: the state before the first token.
    """

    next: np.ndarray
    accepting: np.ndarray
    start: int

    @classmethod
    def explore(
        cls,
        start: Hashable,
        step: Callable[[Any, int], Hashable | None],
        accepts: Callable[[Any], bool],
        vocab_size: int,
        *,
        most_states: int = 1 << 12,
    ) -> "Automaton":
        """The automaton that a function of Python is, such as a parser of bounded depth.

        Args:
          start: a state, any hashable value.
          step: `(state, token) -> state`, None where no accepted text goes on so. It is asked for every token of every
            state that can be reached.
          accepts: whether a text may end in a state.
          vocab_size: V.
          most_states: a bound; a grammar of unbounded depth has more than any.

        Raises:
          ValueError: if there are more states, or no text is accepted at all.
        """
        numbers: dict[Hashable, int] = {start: 1}
        waiting, rows = [start], [np.zeros(vocab_size, np.int32)]
        for state in waiting:  # grows as states are found
            row = np.zeros(vocab_size, np.int32)
            for token in range(vocab_size):
                after = step(state, token)
                if after is None:
                    continue
                if after not in numbers:
                    if len(numbers) >= most_states:
                        raise ValueError(f"an automaton has more than {most_states} states")
                    numbers[after] = len(numbers) + 1
                    waiting.append(after)
                row[token] = numbers[after]
            rows.append(row)
        accepting = [False, *(bool(accepts(state)) for state in waiting)]
        return trimmed(np.stack(rows), np.array(accepting), 1)

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.next.shape[1]

    @functools.cached_property
    def successors(self) -> tuple[np.ndarray, ...]:
        """The states that one token leads to from each state, without the dead one."""
        return successors(self.next)

    @functools.cached_property
    def shortest(self) -> np.ndarray:
        """Tokens from each state to the nearest accepting one, int32 `[S]`; `NEVER` for the dead one."""
        return shortest(self.successors, self.accepting)

    def after(self, tokens: Iterable[int], state: int | None = None) -> int:
        """The state after some tokens, from the start if no other is given."""
        here = self.start if state is None else state
        for token in tokens:
            here = int(self.next[here, token])
        return here

    def accepts(self, tokens: Iterable[int]) -> bool:
        """Whether a whole text is accepted."""
        return bool(self.accepting[self.after(tokens)])


def successors(table: np.ndarray) -> tuple[np.ndarray, ...]:
    """The states that one token leads to from each state of `table [S, V]`, without 0."""
    found = []
    for row in table:
        after = np.unique(row)
        found.append(after[after != DEAD])
    return tuple(found)


def shortest(after: Sequence[np.ndarray], accepting: np.ndarray) -> np.ndarray:
    """Tokens from each state to the nearest accepting one, int32 `[S]`; `NEVER` where there is none."""
    sizes = [len(each) for each in after]
    source = np.repeat(np.arange(len(after)), sizes)
    target = np.concatenate([*after, np.zeros(0, np.int64)]).astype(np.int64)
    order = np.argsort(target, kind="stable")
    source, starts = source[order], np.searchsorted(target[order], np.arange(len(after) + 1))
    far = np.where(accepting, 0, NEVER).astype(np.int32)
    frontier, steps = np.flatnonzero(accepting), 0
    while len(frontier):
        steps += 1
        before = np.unique(
            np.concatenate([source[starts[state] : starts[state + 1]] for state in frontier])
        )
        frontier = before[far[before] == NEVER]
        far[frontier] = steps
    return far


def trimmed(table: Any, accepting: Any, start: int) -> Automaton:
    """An automaton of a table, with the states alone that lie between the start and an accepting state.

    Args:
      table: int `[S, V]`, the state after each token; state 0 is the dead one, whatever stands in its row.
      accepting: bool `[S]`.
      start: a state.

    Raises:
      ValueError: if this is no table of states, or no text is accepted at all.
    """
    table, accepting = np.asarray(table), np.array(accepting, bool)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"an automaton needs states [S, V], got {table.dtype} {list(table.shape)}")
    states = len(table)
    if accepting.shape != (states,):
        raise ValueError(f"accepting must have shape [{states}], got {list(accepting.shape)}")
    if not 0 <= start < states:
        raise ValueError(f"the start must be a state in [0, {states}), got {start}")
    if table.size and (table.min() < 0 or table.max() >= states):
        wrong = table.min() if table.min() < 0 else table.max()
        raise ValueError(f"an automaton of {states} states leads to state {wrong}")
    table, accepting[DEAD] = np.array(table), False
    table[DEAD] = DEAD
    after = successors(table)
    live = shortest(after, accepting) < NEVER
    if not live[start]:
        raise ValueError("the constraint accepts no text at all")
    kept, waiting = {start}, [start]
    for state in waiting:  # grows as states are found
        new = [s for s in after[state].tolist() if live[s] and s not in kept]
        kept.update(new)
        waiting += new
    chosen = np.array([DEAD, *sorted(kept)])
    kind = np.min_scalar_type(len(chosen) - 1)
    number = np.zeros(len(table), kind)
    number[chosen] = np.arange(len(chosen))
    small = number[table[chosen]]
    small.flags.writeable = False
    return Automaton(small, accepting[chosen], int(number[start]))
