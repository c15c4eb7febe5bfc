"""Automata of a call as the loop follows them: one table for all rows, and a start for each.

Legend: B rows, S states, V vocabulary, R new tokens of a row at most.
"""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np

from jaxdec.model import Order
from jaxdec.sampling import Constraint, StateTable, is_traced, shown
from jaxdec.text import Automaton, trimmed
from jaxdec.text.automaton import DEAD, LARGEST, NEVER

FREE = 1
"""A state from which everything is allowed: of rows without a constraint, and of those that have ended."""

SMALLEST = 16
"""States of a table at least: other automata of the same size are served by the same compiled program."""


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Several automata in one table.

    Attributes:
      table: unsigned `[S, V]`; S is a power of two.
      accepting: bool `[S]`.
      shortest: int32 `[S]`.
      starts: the state in which each automaton begins.
      source: int `[E]`, with `target` the states that one token of a text connects.
      target: int `[E]`.
    """

    table: np.ndarray
    accepting: np.ndarray
    shortest: np.ndarray
    starts: tuple[int, ...]
    source: np.ndarray
    target: np.ndarray

    def before(self, states: np.ndarray) -> np.ndarray:
        """Which states lead to one of `states` (bool `[S]`) by one token, bool `[S]`."""
        found = np.zeros(len(self.table), bool)
        found[self.source[states[self.target]]] = True
        return found


def constraint(
    given: Any, batch: int, vocab_size: int, eos: np.ndarray, budget: Any, width: int
) -> Constraint:
    """The constraint of a call whose rows are continued.

    A token that ends a row is allowed in accepting states alone. Where there is no such token, a row ends by its budget
    alone, so its text has as many tokens.

    Args:
      given: a `jaxdec.text.Automaton`, or one a row, None for rows without.
      batch: B.
      vocab_size: V.
      eos: tokens `[E]` that end a row.
      budget: int32 `[B]`, new tokens of each row at most.
      width: R.

    Raises:
      ValueError: naming the row and the numbers, if no text of so many tokens is accepted.
    """
    if isinstance(given, Constraint):
        return given
    automata, which = _automata(given, batch)
    stacked = _stacked(automata, tuple(sorted({*map(int, eos)})), vocab_size)
    start = _starts(stacked, which)
    table = StateTable(stacked.table, stacked.shortest)
    if not len(eos):
        if is_traced(budget):
            raise ValueError(
                "constraint: got a traced max_new_tokens and no eos, must have one to end with"
            )
        runs = [[()] * (count + 1) for count in budget.tolist()]
        return Constraint(table, *_ahead(stacked, start, runs, width))
    if not is_traced(budget):
        _check_budget(stacked.shortest[start], budget)
    return Constraint(table, start, budget)


def constraint_between(
    given: Any,
    batch: int,
    vocab_size: int,
    eos: np.ndarray,
    prompt: Any,
    order: Order,
    width: int,
) -> Constraint:
    """The constraint of a call that fills gaps: the whole sequence, with what is visible in it, is accepted.

    Gaps are filled from left to right, so the text before each is known. Of the visible tokens behind it the states are
    known from which they can be accepted: what leads elsewhere is not allowed.

    Args:
      given: as for `constraint`.
      batch: B.
      vocab_size: V.
      eos: tokens that end a row; a constraint fills all gaps, so there must be none.
      prompt: int32 `[B, P]`, the visible tokens of each row.
      order: of generation.
      width: R.

    Raises:
      ValueError: for another order, or values that are traced; naming the row if nothing accepted fits.
    """
    if isinstance(given, Constraint):
        return given
    if is_traced((prompt, order)):
        raise ValueError("constraint: got traced tokens or an order, must be known to fill gaps")
    if len(eos):
        raise ValueError(f"constraint: got eos {eos.tolist()}, must be () where gaps are filled")
    automata, which = _automata(given, batch)
    stacked = _stacked(automata, (), vocab_size)
    runs = []
    for row in range(batch):
        visible, size = int(order.visible[row]), int(order.size[row])
        places = np.asarray(order.places[row][:size])
        gaps = places[visible:]
        if (np.diff(gaps) < 0).any():
            raise ValueError(
                f"constraint: got an order that fills position {gaps.max()} of row {row} before others to its left, "
                "must fill gaps from left to right"
            )
        tokens = np.zeros(size, np.int64)
        tokens[places[:visible]] = prompt[row][:visible]
        ends = [-1, *gaps.tolist(), size]
        runs.append([tokens[a + 1 : b].tolist() for a, b in itertools.pairwise(ends)])
    table = StateTable(stacked.table, stacked.shortest)
    return Constraint(table, *_ahead(stacked, _starts(stacked, which), runs, width))


def _automata(given: Any, batch: int) -> tuple[tuple[Automaton, ...], list[int]]:
    """Distinct automata, and which of them each row has; -1 for none."""
    rows = [given] * batch if isinstance(given, Automaton) else given
    if not isinstance(rows, list | tuple):
        raise ValueError(
            f"constraint: got {shown(given)}, must be a jaxdec.text.Automaton, or one a prompt"
        )
    if len(rows) != batch:
        raise ValueError(f"constraint: got {len(rows)} automata, must be {batch}, one a prompt")
    for each in rows:
        if not (each is None or isinstance(each, Automaton)):
            raise ValueError(
                f"constraint: got {shown(each)} among automata, must be a jaxdec.text.Automaton or None"
            )
    found = list(dict.fromkeys(each for each in rows if each is not None))
    numbers = {each: i for i, each in enumerate(found)}
    return tuple(found), [-1 if each is None else numbers[each] for each in rows]


def _starts(stacked: Stacked, which: list[int]) -> np.ndarray:
    return np.array([FREE if i < 0 else stacked.starts[i] for i in which], np.int32)


@functools.lru_cache(maxsize=8)
def _stacked(automata: tuple[Automaton, ...], eos: tuple[int, ...], vocab_size: int) -> Stacked:
    """All automata in one table; tokens that end a row lead from accepting states to one where nothing matters."""
    ends, own, starts = list(eos), [], []
    count = FREE + 1
    for each in automata:
        if each.vocab_size > vocab_size:
            raise ValueError(
                f"constraint: got an automaton over {each.vocab_size} tokens, must be over the model's {vocab_size}"
            )
        within = [token for token in ends if token < each.vocab_size]
        if each.next[:, within].any():  # what ends a row is no text
            table = np.array(each.next)
            table[:, within] = DEAD
            each = trimmed(table, each.accepting, each.start)
        own.append(each)
        starts.append(count + each.start - 1)
        count += len(each.next) - 1
    states = max(SMALLEST, 1 << (count - 1).bit_length())
    kind = np.min_scalar_type(states - 1)
    if states * vocab_size * kind.itemsize > LARGEST:
        raise ValueError(
            f"constraint: got automata of {count} states over {vocab_size} tokens, must need at most {LARGEST} bytes"
        )
    table, accepting = np.zeros((states, vocab_size), kind), np.zeros(states, bool)
    far = np.full(states, NEVER, np.int32)
    table[FREE], accepting[FREE], far[FREE] = FREE, True, 0
    count, sources, targets = FREE + 1, [np.array([FREE])], [np.array([FREE])]
    for each in own:
        moves = each.next[1:].astype(np.int64)
        rows = slice(count, count + len(moves))
        table[rows, : each.vocab_size] = np.where(moves > 0, moves + (count - 1), DEAD)
        accepting[rows], far[rows] = each.accepting[1:], each.shortest[1:]
        table[rows, ends] = np.where(each.accepting[1:, None], FREE, DEAD)
        for state, after in enumerate(each.successors[1:], count):
            sources.append(np.full(len(after), state))
            targets.append(after.astype(np.int64) + (count - 1))
        count += len(moves)
    table.flags.writeable = False
    edges = np.concatenate(sources), np.concatenate(targets)
    return Stacked(table, accepting, far, tuple(starts), *edges)


def _check_budget(shortest: np.ndarray, budget: np.ndarray) -> None:
    for row, (needed, most) in enumerate(zip(shortest.tolist(), budget.tolist(), strict=True)):
        if needed > most:
            raise ValueError(
                f"constraint: row {row} asks for {most} new tokens, must ask for at least {needed}, those of the "
                "shortest text that is accepted"
            )


def _ahead(
    stacked: Stacked, start: np.ndarray, runs: list[list[Any]], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Constraint.start`, `budget` and `ahead` of rows whose text is known around their new tokens.

    Args:
      stacked: the automata.
      start: int32 `[B]`, before the first token of all.
      runs: of each row, the known tokens before, between and after its new tokens.
      width: R.
    """
    table, states = stacked.table, len(stacked.table)
    if len(runs) * width * states * table.itemsize > LARGEST:
        raise ValueError(
            f"constraint: got {len(runs)} rows of {width} new tokens and {states} states, must need at most "
            f"{LARGEST} bytes"
        )
    ahead = np.zeros((len(runs), width, states), table.dtype)
    first = np.zeros(len(runs), np.int32)
    for row, (before, *behind) in enumerate(runs):
        state = int(start[row])
        for token in before:
            state = int(table[state, token])
        live = stacked.accepting
        for place in reversed(range(len(behind))):
            moved = np.arange(states)
            for token in behind[place]:
                moved = table[moved, token]
            ahead[row, place] = np.where(live[moved], moved, DEAD)
            live = stacked.before(ahead[row, place] > 0)
        if not live[state]:
            known = sum(map(len, runs[row]))
            raise ValueError(
                f"constraint: row {row} has {len(behind)} new tokens and {known} that are given, must be a length and "
                "tokens that some accepted text has"
            )
        first[row] = state
    budget = np.array([len(row) - 1 for row in runs], np.int32)
    return first, budget, ahead
