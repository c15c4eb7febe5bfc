"""The room of a row: what it holds when it is full, and what its cache holds when it ends."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

import jaxdec
from jaxdec import visibility
from jaxdec.decoding import Exactness, Status
from jaxdec.testing.battery.cases import CASES, Kind
from jaxdec.testing.battery.identity import identical
from jaxdec.testing.battery.record import sound
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import Run
from jaxdec.testing.battery.subject import Models, Subject
from pallas_kernels.span_attention import Keys

OVERFULL = tuple(dataclasses.replace(case, overfull=True) for case in CASES)
"""The rows of the battery, of all lengths, with no end to their budgets."""

EXACT = (Exactness.TOKEN_IDENTICAL, Exactness.DISTRIBUTION_IDENTICAL)


@functools.cache
def _plain(orders: bool, models: Models, read_left: bool) -> Run:
    """Plain decoding until the buffers are full."""
    plain = Subject(lambda target, draft: jaxdec.autoregressive(target), orders, models, read_left)
    return plain.run(OVERFULL)


def check_capacity(subject: Subject) -> None:
    """Rows of any length run until a step no longer fits, no less and no more, and their last tokens are right."""
    request = subject.request(OVERFULL)
    if (np.asarray(request.settings.max_new_tokens) < request.capacity).any():
        return  # the decoder refuses requests that its buffers do not hold
    if subject.kind is Kind.CANVAS or subject.exactness not in EXACT:
        return  # what fits is another canvas; how far a row reads ahead is the decoder's matter
    # A row ends once its cache, one token behind it, has no room for a whole chunk.
    least = min(request.capacity, request.capacity + 2 - subject.decoder.width)
    exact = {case.name for case in identical(subject)}
    plain = _plain(subject.kind is Kind.ORDERS, subject.models, subject.read_left)
    for params in {id(p): p for p in (subject.params, subject.agreeing_params)}.values():
        for name, row in subject.run(OVERFULL, params=params).items():
            sound(row, subject)
            if row.status is not Status.CACHE_FULL:
                raise Difference("a full row", row=name, expected="CACHE_FULL", got=row.status.name)
            if not least <= row.length <= request.capacity:
                fits = f"{least} to {request.capacity} tokens"
                raise Difference("a full row", row=name, expected=fits, got=row.length)
            before = row.length - int((row.steps == row.steps.max()).sum())
            if before > request.capacity + 1 - subject.decoder.width:
                most = request.capacity + 1 - subject.decoder.width
                raise Difference("length before the last step", row=name, expected=most, got=before)
            if name not in exact:
                continue
            for i, (one, two) in enumerate(zip(plain[name].text, row.text, strict=False)):
                if one != two:
                    raise Difference("a full row", row=name, position=i, expected=one, got=two)


def check_cache(subject: Subject) -> None:
    """A row's cache holds the tokens before its last one, each where it stands and seen from its own rank on."""
    if subject.kind is Kind.CANVAS:
        return  # which is written by position
    state, _ = subject.ended
    held, draft = _caches(state)
    if held is not None:
        width = subject.request().capacity if subject.target_rests else subject.decoder.width
        _check_held(state.rows, held, 1 if subject.exactness in EXACT else width)
        if draft is not None:
            _check_held(state.rows, draft, width)


def _check_held(state_rows: Any, held: Any, behind: int) -> None:
    """A cache of an oracle, up to `behind` tokens behind the rows."""
    keys = held.read(0)
    if not isinstance(keys, Keys):
        return  # a state, which has no places
    stored, spans, places = (
        np.asarray(x) for x in (keys.keys[:, 0, :, 0], keys.key_spans, keys.positions)
    )
    rows: Any = jax.device_get(state_rows)
    for b, case in enumerate(CASES):
        length, count = int(rows.length[b]), int(held.length[b])
        if not max(length - behind, 0) <= count <= length - 1:
            raise Difference("cached tokens", row=case.name, expected=length - 1, got=count)
        ranks = np.arange(count)
        at = ranks if rows.order is None else rows.order.places[b, :count]
        wanted = {
            "cached tokens": (rows.tokens[b, :count], stored[b, :count]),
            "places of cached tokens": (at, places[b, :count]),
            "ranks from which cached tokens are seen": (ranks, spans[b, :count, 0]),
            "ranks up to which cached tokens are seen": (
                np.full(count, visibility.FOREVER),
                spans[b, :count, 1],
            ),
        }
        for what, (expected, got) in wanted.items():
            for i in np.flatnonzero(expected != got):
                raise Difference(
                    what, row=case.name, position=int(i), expected=expected[i], got=got[i]
                )
        if (spans[b, count:, 0] <= spans[b, count:, 1]).any():
            raise Difference("slots past the text are seen by nobody", row=case.name)


def _caches(state: Any) -> tuple[Any, Any]:
    """The caches of the target and of a draft model in a state, or in the state of what it wraps; None for others."""
    while not hasattr(state, "cache") and hasattr(state, "inner"):
        state = state.inner
    found = (getattr(state, name, None) for name in ("cache", "draft"))
    target, draft = (held if hasattr(held, "read") else None for held in found)
    return target, draft
