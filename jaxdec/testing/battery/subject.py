"""A decoder under test: its runs over the battery's rows, all by one compiled program."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import decoding, generation
from jaxdec.decoding import Decoder, Exactness, Status
from jaxdec.model import Model, Params
from jaxdec.sampling import row_keys
from jaxdec.testing.battery.cases import (
    CASES,
    NEVER,
    READ_LEFT,
    TOP,
    WIDTH,
    Case,
    Kind,
    Letters,
    arrays,
    broken,
    order,
    pair,
)
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import Run, rows_of

Factory = Callable[[Model, Model], Decoder | tuple[Decoder, Mapping[str, Params]]]
"""`make(target, draft)` builds a decoder from two models, and gives the params of further parts with it if it has any.

The battery supplies the models and their params, `{"target": ..., "draft": ...}`: oracles, the second of which
resembles the first. Decoders that draft with no model ignore it.
"""

Models = Callable[[], tuple[Model, dict[str, Params]]]
"""Gives a model of `VOCAB` tokens and params for it (`target`) and for one that resembles it (`draft`), tables of laws
`[rows, V]`, as `pair` does."""

NO_STOPS = ([NEVER], [[NEVER], [NEVER, NEVER], [NEVER, NEVER, NEVER]], ["~"])
"""End-of-sequence tokens, stop sequences and stop strings that never come; checks put theirs in place of as many of
these, strings as they like."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """A decoder that counts how often its step is traced: each time is a compilation."""

    decoder: Decoder
    traced: list[int] = dataclasses.field(default_factory=lambda: [0], hash=False, compare=False)
    token: object = dataclasses.field(default_factory=object)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def step(self, params, state, rng):
        """A step; the count is of traces, not of steps."""
        self.traced[0] += 1
        return self.decoder.step(params, state, rng)


class Subject:
    """A decoder under test.

    Attributes:
      make: builds it.
      models: gives the model and the params that it is built from.
      decoder: it.
      kind: what it is asked for.
      read_left: whether it is asked for the settings in `READ_LEFT`.
      params: of its parts, among them `target` and a `draft` that resembles it.
      counted: the decoder that runs; it counts its traces.
    """

    def __init__(
        self,
        make: Factory,
        orders: bool | None = None,
        models: Models = pair,
        read_left: bool = True,
    ):
        self.make, self.models, self.read_left = make, models, read_left
        self.model, params = models()
        self.decoder, more = built(make, self.model)
        self.params = {**params, **more}
        self.counted = Counted(self.decoder)
        if getattr(self.decoder, "fills_canvas", False):
            self.kind = Kind.CANVAS
        elif self._needs_order() if orders is None else orders:
            self.kind = Kind.ORDERS
        else:
            self.kind = Kind.PROMPTS
        self.read_left &= self.kind is Kind.PROMPTS

    @property
    def exactness(self) -> Exactness | None:
        """What the decoder declares."""
        return getattr(self.decoder, "exactness", None)

    @property
    def target_rests(self) -> bool:
        """Whether there are steps of a draft model alone."""
        return getattr(self.decoder, "target_rests", False)

    @property
    def keys(self) -> jax.Array:
        """A key for each case."""
        return row_keys(jax.random.key(7), len(CASES))

    def request(
        self,
        cases: Sequence[Case] = CASES,
        *,
        stops: tuple[Any, Any, Any] = NO_STOPS,
        params: Params = None,
        width: int = WIDTH,
        padding: int = 0,
        **more: Any,
    ) -> decoding.Request:
        """A checked request; cases that are overfull ask for more than its buffers hold."""
        eos, sequences, strings = stops
        given = {**arrays(list(cases), width, padding), **self._own_knobs(cases), **more}
        if not self.read_left:
            given.update(dict.fromkeys(READ_LEFT))
        if self.kind is Kind.ORDERS:
            lengths, budgets = given["lengths"], given["max_new_tokens"]
            given["order"] = order(
                [dataclasses.replace(case, overfull=False) for case in cases],
                int((lengths + budgets).max()),
            )
        params = self.params if params is None else params
        request = generation.prepare(
            self.decoder,
            params,
            eos=eos,
            stop=sequences,
            stop_strings=strings,
            tokenizer=Letters(),
            top_log_probs=TOP,
            **{k: v for k, v in given.items() if v is not None},
        )
        budgets = jnp.asarray([99 if c.overfull else c.budget for c in cases], jnp.int32)
        settings = dataclasses.replace(request.settings, max_new_tokens=budgets)
        wanted = dataclasses.replace(request, settings=settings)
        if request.order is not None:
            wanted = dataclasses.replace(wanted, order=order(list(cases), request.capacity))
        try:
            self.decoder.check(wanted, params)
        except ValueError:  # a schedule of a fixed size, say
            return request
        return wanted

    def run(
        self,
        cases: Sequence[Case] = CASES,
        *,
        params: Params = None,
        keys: jax.Array | None = None,
        chunks: Sequence[int] = (),
        **options: Any,
    ) -> Run:
        """Runs cases to their end; `chunks` are steps after which the run is left and continued."""
        return self._rows(
            *self._decoded(cases, params=params, keys=keys, chunks=chunks, **options), cases
        )

    def _decoded(
        self,
        cases: Sequence[Case] = CASES,
        *,
        params: Params = None,
        keys: jax.Array | None = None,
        chunks: Sequence[int] = (),
        **options: Any,
    ) -> tuple[Any, decoding.Record]:
        """The state and the record at the end of a run."""
        params = self.params if params is None else params
        request = self.request(cases, params=params, **options)
        keys = self.keys if keys is None else keys
        state = decoding.init(self.counted, params, request)
        record: decoding.Record | None = None
        for steps in (*chunks, 8 * request.capacity):  # a loop that makes no progress ends as well
            state, record = decoding.run(self.counted, params, state, keys, steps, record)
        assert record is not None
        return state, record

    def _rows(self, state: Any, record: decoding.Record, cases: Sequence[Case]) -> Run:
        rows = rows_of(generation.result(state, record), cases)
        for row in rows.values():
            if row.status is Status.RUNNING:
                raise Difference("the row does not come to an end", row=row.case.name)
        return rows

    @functools.cached_property
    def ended(self) -> tuple[Any, decoding.Record]:
        """The state and the record of `free`."""
        return self._decoded()

    @functools.cached_property
    def free(self) -> Run:
        """All cases, with nothing to stop them."""
        return self._rows(*self.ended, CASES)

    @functools.cached_property
    def agreeing(self) -> Run:
        """All cases, drafted for by the target itself: chunks are accepted whole."""
        same = self.agreeing_params is self.params
        return self.free if same else self.run(params=self.agreeing_params)

    @functools.cached_property
    def broken(self) -> Run:
        """All cases, by a target some of whose laws are not finite."""
        return self.run(params={**self.params, "target": broken(self.params["target"])})

    @functools.cached_property
    def agreeing_params(self) -> Params:
        """Parameters with which a draft model is the target; the same object where no part has a draft model."""
        if hasattr(self.decoder, "parts") and "draft" not in decoding.part_names(self.decoder):
            return self.params
        like = jax.tree.map(jnp.shape, (self.params["draft"], self.params["target"]))
        return (
            {**self.params, "draft": self.params["target"]} if like[0] == like[1] else self.params
        )

    def _needs_order(self) -> bool:
        self.kind = Kind.PROMPTS
        try:
            self.request(CASES[:2])
        except ValueError:
            return True
        return False

    def _own_knobs(self, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        """Settings that the decoder declares: its default for every other case, something legal for the others."""
        names = [case.name for case in CASES]
        found = {}
        for name, knob in getattr(self.decoder, "knobs", {}).items():
            low = knob.low if np.isfinite(knob.low) else knob.default - 1
            high = knob.high if np.isfinite(knob.high) else max(knob.default, low) + 2
            values = []
            for case in cases:
                place = names.index(case.name) if case.name in names else 1
                between = low + (high - low) * (0.1 + 0.8 * (place * 0.37 % 1))
                values.append(between if place % 2 else knob.default)
            found[name] = np.asarray(np.rint(values) if knob.integer else values)
            if knob.integer:
                found[name] = found[name].astype(int)
        return found


def built(
    make: Factory, model: Model, draft: Model | None = None
) -> tuple[Decoder, Mapping[str, Params]]:
    """The decoder of a factory, and params of its own parts."""
    made = make(model, model if draft is None else draft)
    return made if isinstance(made, tuple) else (made, {})
