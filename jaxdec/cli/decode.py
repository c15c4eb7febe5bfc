"""Decoding for a person: live or whole, with the time of compilation set apart."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import jax
import numpy as np

from jaxdec.decoding import Decoder, DecoderState, Request, Status, init, run, stream
from jaxdec.model import Params
from jaxdec.parallel import Placement
from jaxdec.sampling import TopTokens, row_keys
from jaxdec.search import Pool, Scores

CHUNK = 256
"""Steps of a loop between two looks at the clock and at Ctrl-C."""

COMPILING = "reading the prompts; programs that are new are compiled"

Waiting = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Shows that something takes its time while the context lasts; what it gives changes the words."""


def silent(what: str) -> AbstractContextManager[Callable[[str], None]]:
    """Shows nothing."""
    return contextlib.nullcontext(lambda what: None)


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What came out, and what it took.

    Attributes:
      tokens: the new tokens of each row.
      drafted: for each of them, whether a drafter proposed it.
      steps: for each of them, the step of its row that chose it, from 0 on.
      forwards: forwards of the target a row, the prompt's not counted.
      proposed: draft tokens that were verified, a row.
      accepted: those that were accepted.
      status: why each row ended.
      seconds: of decoding, without compilation and without reading the prompts.
      timed: the tokens made in those seconds.
      setup: seconds of compilation and of reading the prompts.
      top: for each new token, the most probable ones and their log-probabilities, if the request asks for them.
      pool: how hypotheses stand, in NumPy arrays; None if the decoder keeps no pool, and where it was run live.
    """

    tokens: list[list[int]]
    drafted: list[list[bool]]
    steps: list[list[int]]
    forwards: list[int]
    proposed: list[int]
    accepted: list[int]
    status: list[Status]
    seconds: float
    timed: int
    setup: float
    top: list[list[dict[int, float]]] | None = None
    pool: Pool | Scores | None = None

    @property
    def total(self) -> int:
        """New tokens of all rows."""
        return sum(map(len, self.tokens))

    @property
    def tokens_per_forward(self) -> float:
        """New tokens a target forward, over all rows; 0 if there was no forward."""
        return self.total / max(sum(self.forwards), 1)

    @property
    def acceptance(self) -> float | None:
        """Accepted drafts over proposed ones; None if nothing was proposed."""
        proposed = sum(self.proposed)
        return sum(self.accepted) / proposed if proposed else None

    @property
    def speed(self) -> float | None:
        """New tokens a second, all rows together; None if nothing was timed."""
        return self.timed / self.seconds if self.timed and self.seconds > 0 else None


def live(
    decoder: Decoder,
    params: Params,
    request: Request,
    rng: jax.Array,
    show: Callable[[int, Sequence[int], Sequence[bool], bool], None],
    look: Callable[[DecoderState], None] = lambda state: None,
    begin: Callable[[], None] = lambda: None,
    waiting: Waiting = silent,
    placement: Placement | None = None,
) -> Decoded:
    """Decodes step by step. The first step, which compiles, is not timed.

    Args:
      decoder: the method.
      params: its parameters.
      request: from `jaxdec.prepare`.
      rng: one key, or one a row.
      show: called with (row, new tokens, which of them were drafted, whether the row has ended) after each step.
      look: called with the state after each step, which must not be kept.
      begin: called once before the first of `show`, when the first step is done.
      waiting: shows until then that programs are being compiled.
      placement: the devices; None for one.

    Raises:
      FloatingPointError: if a row ends since its law is not finite; after all has been shown.
    """
    batch = request.prompt.shape[0]
    tokens: list[list[int]] = [[] for _ in range(batch)]
    drafted: list[list[bool]] = [[] for _ in range(batch)]
    steps: list[list[int]] = [[] for _ in range(batch)]
    counts = np.zeros((3, batch), int)
    began = time.perf_counter()
    with waiting(COMPILING):
        start = init(decoder, params, request, placement=placement)
        status = np.asarray(start.rows.status)
        pieces = stream(decoder, params, start, rng, placement=placement)
        piece = jax.block_until_ready(next(pieces, None))
    begin()
    for row, code in enumerate(status):
        if code != Status.RUNNING:  # no token was asked for
            show(row, [], [], True)
    started, before, first = began, 0, True
    while piece is not None:
        state, info = piece
        look(state)
        info = jax.device_get(info)
        for row, count in enumerate(info.count.tolist()):
            new = info.tokens[row, :count].tolist()
            marks = info.drafted[row, :count].tolist()
            tokens[row] += new
            drafted[row] += marks
            steps[row] += info.steps[row, :count].tolist()
            show(row, new, marks, info.status[row] != Status.RUNNING)
        counts += np.stack([info.target_forwards, info.proposed, info.accepted])
        status = info.status
        if first:
            started, before, first = time.perf_counter(), sum(map(len, tokens)), False
        piece = next(pieces, None)
    seconds = time.perf_counter() - started
    forwards, proposed, accepted = counts.tolist()
    decoded = Decoded(
        tokens,
        drafted,
        steps,
        forwards,
        proposed,
        accepted,
        [Status(int(code)) for code in status],
        seconds=seconds,
        timed=sum(map(len, tokens)) - before,
        setup=started - began,
    )
    _check_finite(decoded)
    return decoded


def whole(
    decoder: Decoder,
    params: Params,
    request: Request,
    rng: jax.Array,
    waiting: Waiting = silent,
    placement: Placement | None = None,
) -> Decoded:
    """Decodes in `lax.while_loop`, in chunks of many steps; see `live` for the arguments.

    Raises:
      FloatingPointError: if a row ends since its law is not finite.
    """
    keys = row_keys(rng, request.prompt.shape[0], request.hypotheses)
    began = time.perf_counter()
    with waiting(COMPILING) as say:
        state = init(decoder, params, request, placement=placement)
        step = functools.partial(run, decoder, params, placement=placement)
        # No step at all, yet the very programs of the timed calls below: the number of steps is traced. Twice, since
        # the second call takes what the first one returned, as the timed ones do.
        state, record = step(state, keys, max_steps=0)
        state, record = step(state, keys, max_steps=0, record=record)
        rows = jax.device_get(jax.block_until_ready((state.rows, record))[0])
        started = time.perf_counter()
        while (rows.status == Status.RUNNING).any():
            say(f"decoding, {(rows.length - rows.prompt_length).sum()} tokens")
            state, record = step(state, keys, max_steps=CHUNK, record=record)
            rows = jax.device_get(jax.block_until_ready((state.rows, record))[0])
        seconds = time.perf_counter() - started
    record = jax.device_get(record)
    places = [slice(a, b) for a, b in zip(rows.prompt_length, rows.length, strict=True)]
    stats = record.stats
    decoded = Decoded(
        [rows.tokens[row, place].tolist() for row, place in enumerate(places)],
        [record.drafted[row, place].tolist() for row, place in enumerate(places)],
        [record.steps[row, place].tolist() for row, place in enumerate(places)],
        stats.target_forwards.tolist(),
        stats.proposed.tolist(),
        stats.accepted.tolist(),
        [Status(int(code)) for code in rows.status],
        seconds=seconds,
        timed=int((rows.length - rows.prompt_length).sum()),
        setup=started - began,
        top=_ranked(record.top, places),
        pool=jax.device_get(getattr(state, "pool", None)),
    )
    _check_finite(decoded)
    return decoded


def _ranked(top: TopTokens | None, places: list[slice]) -> list[list[dict[int, float]]] | None:
    """The most probable tokens of each new token of each row."""
    if top is None:
        return None
    tokens, log_probs = np.asarray(top.tokens), np.asarray(top.log_probs)
    pairs = lambda ids, values: dict(zip(ids.tolist(), values.tolist(), strict=True))
    return [
        [pairs(*one) for one in zip(tokens[row, place], log_probs[row, place], strict=True)]
        for row, place in enumerate(places)
    ]


def _check_finite(decoded: Decoded) -> None:
    if decoded.pool is not None and set(decoded.status) != {Status.NONFINITE}:
        return  # a hypothesis without a law weighs nothing
    for row, status in enumerate(decoded.status):
        if status == Status.NONFINITE:
            raise FloatingPointError(
                f"the model's law is not finite: row {row} ended after {len(decoded.tokens[row])} tokens"
            )
