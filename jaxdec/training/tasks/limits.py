"""How often drawing several tokens at once goes wrong under a perfect model: the limits of parallel decoding.

A perfect model knows `p(x_i | what stands there)` of every position. Tokens of one forward are drawn from these
independently, so that solutions whose tokens depend on one another are missed, however good the model is:

    C = sum_i H(x_i) - H(x)        the total correlation, in nats: the loss of drawing all at once that no model avoids

Everything here is exact, by enumeration of the solutions of a problem, which are all equally likely.

Legend: N positions, T forwards.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence


def total_correlation(solutions: Sequence[str]) -> float:
    """`sum_i H(x_i) - H(x)` in nats, of solutions of one length that are equally likely.

    Raises:
      ValueError: for none, two that are equal, or different lengths.
    """
    _check(solutions)
    count = len(solutions)
    entropy = lambda column: -sum(c / count * math.log(c / count) for c in Counter(column).values())
    return sum(map(entropy, zip(*solutions, strict=True))) - math.log(count)


def in_groups(solutions: Sequence[str], groups: Sequence[Sequence[int]]) -> float:
    """How often a perfect model writes a solution if the positions of each group are drawn at once, group after group.

        sum_x prod_g prod_{i in g} p(x_i | x of the groups before g)

    Args:
      solutions: different, of one length, equally likely.
      groups: positions, each once.

    Raises:
      ValueError: for none, two that are equal, different lengths, or groups that are no partition of the positions.
    """
    _check(solutions)
    if sorted(itertools.chain(*groups)) != [*range(len(solutions[0]))]:
        raise ValueError(
            f"groups must hold each of {len(solutions[0])} positions once, got {groups}"
        )

    def chance(left: Sequence[str], groups: Sequence[Sequence[int]]) -> float:
        if not groups:
            return 1.0
        marginals = {i: Counter(one[i] for one in left) for i in groups[0]}
        parts: dict[tuple[str, ...], list[str]] = {}
        for one in left:
            parts.setdefault(tuple(one[i] for i in groups[0]), []).append(one)
        return sum(
            math.prod(marginals[i][x] / len(left) for i, x in zip(groups[0], held, strict=True))
            * chance(part, groups[1:])
            for held, part in parts.items()
        )

    return chance(solutions, groups)


def best_in_groups(solutions: Sequence[str], forwards: int) -> float:
    """The highest `in_groups` of all groupings into at most T groups, of which there are `T^N`: for small N and T.

    Args:
      solutions: different, of one length, equally likely.
      forwards: T, at least 1.

    Raises:
      ValueError: as `in_groups`, or for no forward.
    """
    _check(solutions)
    if forwards < 1:
        raise ValueError(f"forwards must be at least 1, got {forwards}")
    best = 0.0
    # Positions that are the same in all solutions cost nothing wherever they stand.
    columns = [*zip(*solutions, strict=True)]
    open_ = [i for i, column in enumerate(columns) if len({*column}) > 1]
    fixed = [i for i, column in enumerate(columns) if len({*column}) == 1]
    for turns in itertools.product(range(forwards), repeat=len(open_)):
        groups = [
            [i for i, t in zip(open_, turns, strict=True) if t == turn] for turn in range(forwards)
        ]
        groups[-1] += fixed
        best = max(best, in_groups(solutions, groups))
        if best > 1 - 1e-12:
            return 1.0
    return best


def compositions(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a sum of at most so many numbers of at least 1, in order.

    Args:
      count: the number, at least 1.
      parts: how many at most, at least 1.
    """
    for bars in range(min(parts, count)):
        for places in itertools.combinations(range(1, count), bars):
            ends = (0, *places, count)
            yield tuple(b - a for a, b in itertools.pairwise(ends))


def _check(solutions: Sequence[str]) -> None:
    if not solutions or len({*solutions}) < len(solutions) or len({*map(len, solutions)}) > 1:
        raise ValueError(f"solutions must be some, different and of one length, got {[*solutions]}")
