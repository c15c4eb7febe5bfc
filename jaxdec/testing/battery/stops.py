"""EOS tokens, stop sequences and stop strings end a row at their own token, wherever in a chunk they fall."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxdec.decoding import Status
from jaxdec.testing.battery.cases import CASES, NEVER, PIECES, Case, Kind
from jaxdec.testing.battery.identity import compare_with_twin, identical, twin_of
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import Row, Run, compare_texts
from jaxdec.testing.battery.subject import Subject

Stops = tuple[list[int], list[list[int]], list[list[bytes]]]
"""End-of-sequence tokens, stop sequences, and the stop strings of each case."""

STRING = "by a string"


def ended(row: Row, stops: Stops) -> tuple[list[int], Status, str | None]:
    """Where stops end a row that ran without them: its text and status, and whether a string was it.

    A stop never reaches into the prompt.
    """
    eos, sequences, strings = stops
    own = strings[CASES.index(row.case)]
    start = len(row.case.prompt)
    for end in range(start + 1, row.length + 1):
        if row.text[end - 1] in eos:
            return row.text[:end], Status.EOS, None
        if any(row.text[max(end - len(s), start) : end] == s for s in sequences):
            return row.text[:end], Status.STOP_SEQUENCE, None
        if any(string in said(row.text[start:end]) for string in own):
            return row.text[:end], Status.STOP_SEQUENCE, STRING
    return row.text, row.status, None


def said(tokens: Iterable[int]) -> bytes:
    """The text of some tokens."""
    return b"".join(PIECES[token] for token in tokens)


def strings_for(rows: Sequence[Row], turn: int) -> list[list[bytes]]:
    """Stop strings for each case, every second one has some: what other rows say, and what some would say if their
    last token before the first new one counted."""
    row = rows[turn % len(rows)]
    across = said(row.text[len(row.case.prompt) - 1 :])[: 2 + turn % 2]
    inside = said(rows[(turn * 3 + 1) % len(rows)].new[turn % 5 :])[: 3 + turn % 2]
    some = [string for string in (across, inside) if string]
    return [some if (place + turn) % 2 else [b"~"] for place in range(len(CASES))]


def stops_for(run: Run) -> Iterator[Stops]:
    """Stops of which each ends some rows of a run: at any place, at the last token, as soon as the text begins; and
    some that would, if they reached into the prompt."""
    rows = [run[case.name] for case in CASES if len(run[case.name].new) >= 5]
    never = [NEVER]
    short = [run[name].new for name in ("one new token", "two new tokens")]
    no_strings = [[b"~"]] * len(CASES)
    yield never, [*short, [NEVER] * 3], no_strings  # as far as they go: at their last token
    for token in range(NEVER):
        one, two = rows[2 * token % len(rows)], rows[(2 * token + 1) % len(rows)]
        single, last = one.new[1 + token % 4 :], two.new[-3:]
        yield [token], [never, single[:2], last], strings_for(rows, token)
    for i, row in enumerate(rows[:: len(rows) // 4][:4]):
        across = row.text[len(row.case.prompt) - 1 :]
        other = rows[(i * 5 + 3) % len(rows)].new
        yield (
            never,
            [[other[3]] if i % 2 else never, across[:2], across[:3] if i % 3 else other[:3]],
            strings_for(rows, NEVER + i),
        )


def check_stops(subject: Subject) -> None:
    """EOS, stop sequences and strings end a row at their own token, wherever in a chunk; not inside the prompt."""
    seen: set[object] = set()
    # A step of a canvas takes ten times as long, and knows nothing of chunks: half of the stops will do.
    every = 2 if subject.kind is Kind.CANVAS else 1
    for turn, stops in enumerate(list(stops_for(subject.agreeing))[::every]):
        # In most runs chunks are accepted whole; in some they are not, and what was not committed must not count.
        whole = turn % 3 < 2
        params, unstopped = (
            (subject.agreeing_params, subject.agreeing) if whole else (subject.params, subject.free)
        )
        run = subject.run(params=params, stops=stops)
        for case in CASES:
            free, row = unstopped[case.name], run[case.name]
            text, status, by = ended(free, stops)
            own = stops[2][CASES.index(case)]
            compare_texts(text, status, row, f"eos {stops[0]}, stop {stops[1]}, strings {own}")
            seen |= {status, by}
            if len(text) == free.length and status is not free.status:
                seen.add((status, "at the last token"))
    for status in (Status.EOS, Status.STOP_SEQUENCE):
        for needed in (status, (status, "at the last token")):
            if needed not in seen:
                raise Difference(f"no row ended so: {needed}")
    if STRING not in seen:
        raise Difference(f"no row ended so: {STRING}")


END = 1
"""The token that ends rows in `check_early_ends`."""


def fewest(case: Case) -> int:
    """The least new tokens that `check_early_ends` asks of a case: none, some, as many as there may be."""
    return (0, 3, 8, 99)[CASES.index(case) % 4]


def check_early_ends(subject: Subject) -> None:
    """No row ends by an EOS token before it has `min_new_tokens`, in the middle of a step either; then each may."""
    least = np.array([fewest(case) for case in CASES])
    run = subject.run(
        params=subject.agreeing_params,
        stops=([END], [[NEVER], [NEVER] * 2, [NEVER] * 3], [[b"~"]] * len(CASES)),
        min_new_tokens=least,
    )
    ends = 0
    for case in CASES:
        row = run[case.name]
        given = case.settings["forced_prefix"]
        for i, token in enumerate(row.new):
            if token == END and i < fewest(case) and END not in given[i : i + 1]:
                raise Difference(
                    f"no end before {fewest(case)} tokens", row=case.name, position=i, got=row.new
                )
            if token == END and i + 1 < len(row.new):
                raise Difference("a row ends by its EOS token", row=case.name, got=row.new)
        ends += row.status is Status.EOS and fewest(case) > 0
    if not ends:
        raise Difference("no row ended after the tokens that it had to have")
    for case in identical(subject):
        wanted = twin_of(subject, case, end=END, fewest=fewest(case))
        compare_with_twin(wanted, run[case.name], "with a least number of tokens")
