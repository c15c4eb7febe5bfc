"""A row knows nothing of its neighbours, and a run nothing of how it is cut."""

from typing import Any

import jax
import numpy as np

from jaxdec import decoding, generation
from jaxdec.decoding import Exactness
from jaxdec.testing.battery.cases import CASES, FILLERS, Kind
from jaxdec.testing.battery.identity import identical
from jaxdec.testing.battery.progress import Watch
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import COUNTS, compare, compare_texts, rows_of
from jaxdec.testing.battery.subject import Subject

OWN_COUNTS = tuple(name for name in COUNTS if name not in ("target_rows", "draft_forwards"))
"""Of a row alone: a forward may be as wide, and drafts as many, as a neighbour needs (`adaptive`)."""


def check_neighbours(subject: Subject) -> None:
    """A row is the same with other neighbours, at another place of the batch and with other padding."""
    keys = subject.keys
    counts = COUNTS if subject.kind is Kind.CANVAS else OWN_COUNTS
    alone = getattr(subject.decoder, "steps_alone", True)
    if not alone and subject.exactness is not Exactness.TOKEN_IDENTICAL:
        return  # the law of a row is its own, but not the draws from it
    for parity, filler in enumerate(FILLERS):
        cases, order = [], np.roll(np.arange(len(CASES))[::-1], parity)
        for place in order:
            cases.append(CASES[place] if place % 2 == parity else filler)
        widest = max(len(case.prompt) for case in cases)
        run = subject.run(cases, keys=keys[order], width=widest, padding=5)
        for case in CASES[parity::2]:
            compare(
                subject.free[case.name],
                run[case.name],
                "with other neighbours",
                counts,
                steps=alone,
            )


def check_chunked(subject: Subject) -> None:
    """A run that is left after a few steps and continued is the whole run."""
    run = subject.run(chunks=[1, 2, 3, 5] * 3)
    for case in CASES:
        compare(subject.free[case.name], run[case.name], "cut into chunks")


def check_keys(subject: Subject) -> None:
    """Other keys give other samples, or none where nothing is drawn; greedy rows are as plain decoding promises."""
    other = subject.run(keys=jax.random.split(jax.random.key(11), len(CASES)))
    if not getattr(subject.decoder, "draws", True):
        for case in CASES:
            compare(subject.free[case.name], other[case.name], "by other keys")
        return
    drawn = [c for c in CASES if c.plain and not c.greedy and c.budget >= 12 and len(c.knobs) < 2]
    drawn = [c for c in drawn if "banned" not in c.knobs]
    for case in drawn:
        if other[case.name].text == subject.free[case.name].text:
            raise Difference("two keys give two samples", row=case.name, got=other[case.name].new)
    for case in identical(subject):
        if case.greedy:
            free = subject.free[case.name]
            compare_texts(free.text, free.status, other[case.name], "greedy, by other keys")


def check_stream(subject: Subject) -> None:
    """The stream yields what the run writes; a row that has ended stays as it is and costs nothing."""
    state = decoding.init(subject.counted, subject.params, subject.request())
    streamed: list[list[int]] = [[] for _ in CASES]
    watch = Watch(subject, state)
    for after, info in decoding.stream(subject.decoder, subject.params, state, subject.keys):
        watch.step(after, info)
        for row, count in enumerate(np.asarray(info.count)):
            streamed[row] += np.asarray(info.tokens)[row, :count].tolist()
    for case, tokens in zip(CASES, streamed, strict=True):
        if tokens != subject.free[case.name].new:
            raise Difference(
                "streamed", row=case.name, expected=subject.free[case.name].new, got=tokens
            )
    watch.finish()


ALONE = ("greedy", "temperature 1", "temperature 0.5", "one token alone is allowed")


def check_alone(subject: Subject) -> None:
    """A row in a batch of its own, without the settings and stops that it leaves off, is what it is among others."""
    steps = getattr(subject.decoder, "steps_alone", True)
    if not steps and subject.exactness is not Exactness.TOKEN_IDENTICAL:
        return
    for case in CASES:
        if case.name not in ALONE:
            continue
        off: dict[str, Any] = {
            name: None for name in case.settings if name not in ("temperature", "banned")
        }
        place = CASES.index(case)
        request = subject.request([case], stops=((), (), ()), width=len(case.prompt), **off)
        key = subject.keys[place : place + 1]
        state = decoding.init(subject.decoder, subject.params, request)
        state, record = decoding.run(subject.decoder, subject.params, state, key)
        alone = rows_of(generation.result(state, record), [case])
        compare(subject.free[case.name], alone[case.name], "alone", OWN_COUNTS, steps=steps)
