"""What a person asks of the engine, and how it becomes a row of fixed shape.

Legend: P prompt width, L buffer width, E eos tokens, S stop sequences, K their length, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.decoding import Decoder, Request, RowStops, Stops, integers
from jaxdec.generation.infill import prepare_infill
from jaxdec.generation.prepare import bucket, prepare
from jaxdec.model import Params
from jaxdec.sampling import Warp, row_keys
from jaxdec.sampling.limits import as_array, shown
from jaxdec.text import StopTable, Tokenizer, stop_table, strings_by_row

_SEQUENCES = ("bad_words", "ends", "forced_prefix")
"""Settings of `Warp` that have as much room as the engine's own have, and -1 behind."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A request to the engine.

    Attributes:
      prompt: tokens `[P]`; with `visible` the whole sequence `[L]`, in which gaps are filled.
      rng: an integer seed or a key; the tokens are those of `generate` with the same one.
      max_new_tokens: the engine's limit if not given.
      visible: bool `[L]`, which tokens are given; only for engines of `gaps=True`.
      eos: tokens that end the row; the model's own if not given.
      stop: sequences of tokens that end the row.
      stop_strings: one of the sets that the engine was made with, or none.
      samples: independent samples of one prompt, which is read once; each has an id and a key of its own, those of
        `generate(hypotheses=samples)`.
      priority: the higher goes first.
      deadline: steps of the engine from now on after which the request ends wherever it is, with
        `Status.DEADLINE`; None for none.
      timeout: seconds after which the same happens, at the next `poll`; None for none.
      knobs: settings that the engine was made with, by name, or the decoder's own.
      tag: comes back with what is `Completed`; not read.
    """

    prompt: Any
    rng: Any = 0
    max_new_tokens: int | None = None
    visible: Any = None
    eos: Any = None
    stop: Any = ()
    stop_strings: Any = ()
    samples: int = 1
    priority: int = 0
    deadline: int | None = None
    timeout: float | None = None
    knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tag: Any = None


@dataclasses.dataclass(frozen=True)
class Template:
    """The fixed shape of every request of an engine.

    Attributes:
      decoder: of the engine.
      params: by part name.
      request: of one row, with everything that requests may set.
      max_prompt: tokens of a prompt at most, visible ones for gaps.
      max_new_tokens: at most.
      gaps: whether requests fill gaps.
      knobs: the settings that requests may change, with the values of those that do not.
      room: E, S, K.
      strings: sets of stop strings, and the table of all; None if there are none.
    """

    decoder: Decoder
    params: Params
    request: Request
    max_prompt: int
    max_new_tokens: int
    gaps: bool
    knobs: Mapping[str, Any]
    room: tuple[int, int, int]
    strings: tuple[dict[tuple[bytes, ...], int], StopTable] | None

    @classmethod
    def create(
        cls,
        decoder: Decoder,
        params: Params,
        *,
        max_prompt: int,
        max_new_tokens: int,
        gaps: bool,
        room: tuple[int, int, int],
        stop_strings: Sequence[Any],
        tokenizer: Tokenizer | None,
        knobs: Mapping[str, Any],
        **static: Any,
    ) -> "Template":
        """Checks what an engine is made with.

        Raises:
          ValueError: naming the value and the limit.
        """
        max_prompt = int(integers("max_prompt", max_prompt, [()], low=1))
        max_new_tokens = int(integers("max_new_tokens", max_new_tokens, [()], low=1))
        if knobs.get("constraint") is not None:
            raise ValueError(
                "constraint: an engine holds no automata, must be left out; use jaxdec.generate"
            )
        strings = None
        if len(stop_strings):
            strings = _string_sets(stop_strings, tokenizer)
        blank = np.zeros((1, bucket(max_prompt)), np.int32)
        limits = dict(most_new_tokens=max_new_tokens, **static)
        if gaps:
            size = max_prompt + max_new_tokens
            visible = np.arange(size)[None] < max_prompt
            request = prepare_infill(
                decoder, params, np.zeros((1, size), np.int32), visible, **static, **knobs
            )
        else:
            request = prepare(
                decoder,
                params,
                blank,
                lengths=[1],  # each request is checked against the model by itself
                max_new_tokens=1,
                eos=(),
                **limits,
                **knobs,
            )
        table = None if strings is None else strings[1].table
        stops = Stops.create((), (), decoder.model.vocab_size, table)
        request = _with_stops(request, stops, RowStops.create(Stops.create(), room), strings, ())
        warp = request.settings.warp
        if warp.ends is not None:
            ends = np.full((1, room[0]), -1, np.int32)
            settings = dataclasses.replace(
                request.settings, warp=dataclasses.replace(warp, ends=ends)
            )
            request = dataclasses.replace(request, settings=settings)
        return cls(
            decoder, params, request, max_prompt, max_new_tokens, gaps, dict(knobs), room, strings
        )

    @property
    def blank(self) -> Call:
        """The least request."""
        tokens = np.zeros((1 + self.gaps,), np.int32)
        return Call(tokens, visible=np.arange(2) < 1 if self.gaps else None)

    def row(self, call: Call) -> tuple[Request, jax.Array]:
        """A request of one row `[1, ...]` in the template's shape, and its prompt's key `[1]`.

        Raises:
          ValueError: for what `generate` or `infill` would refuse, or what does not fit, naming value and limit.
        """
        vocab_size = self.decoder.model.vocab_size
        eos = call.eos
        if eos is None:
            eos = () if self.gaps else self.decoder.model.eos
        stops = Stops.create(eos, call.stop, vocab_size)
        own = RowStops.create(stops, self.room)
        strings = self._strings(call.stop_strings)
        knobs = self._knobs(call.knobs, stops)
        request = self._gaps(call, knobs) if self.gaps else self._prompt(call, knobs)
        request = _with_stops(request, self.request.settings.stops, own, self.strings, strings)
        keys = row_keys(call.rng, 1)
        kind = _key_type()
        if keys.dtype != kind:  # the queue holds keys of one kind
            raise ValueError(f"rng must be a key of the type {kind}, got {keys.dtype}")
        return self._fit(request), keys

    def _prompt(self, call: Call, knobs: dict[str, Any]) -> Request:
        if call.visible is not None:
            raise ValueError("a request has visible tokens, but the engine was made without gaps")
        prompt = as_array("prompt", call.prompt, "a sequence of tokens")
        if prompt.shape == (0,):
            prompt = prompt.astype(np.int32)  # an empty list has no type
        if prompt.ndim != 1:
            raise ValueError(f"a request's prompt must have shape [P], got {list(prompt.shape)}")
        _limit("a prompt has", len(prompt), "tokens", self.max_prompt)
        budget = self.max_new_tokens if call.max_new_tokens is None else call.max_new_tokens
        budget = int(integers("max_new_tokens", budget, [()], low=0, high=self.max_new_tokens))
        return prepare(
            self.decoder,
            self.params,
            prompt[None],
            max_new_tokens=budget,
            most_new_tokens=self.max_new_tokens,
            eos=(),
            top_log_probs=self.request.top_log_probs,
            cache=self.request.cache,
            **knobs,
        )

    def _gaps(self, call: Call, knobs: dict[str, Any]) -> Request:
        tokens = as_array("prompt", call.prompt, "a sequence of tokens")
        visible = as_array("visible", call.visible, "bools, one a token")
        if call.visible is None or tokens.ndim != 1 or visible.shape != tokens.shape:
            raise ValueError(
                f"a request's prompt and visible must have one shape [L], got {list(tokens.shape)} and "
                + ("nothing" if call.visible is None else f"{list(visible.shape)}")
            )
        if call.max_new_tokens is not None:
            raise ValueError("max_new_tokens is the number of gaps; leave it out")
        shown = int(visible.astype(bool).sum())
        _limit("a sequence has", shown, "visible tokens", self.max_prompt)
        _limit("a sequence has", len(tokens) - shown, "gaps", self.max_new_tokens)
        return prepare_infill(
            self.decoder,
            self.params,
            tokens[None],
            visible[None],
            top_log_probs=self.request.top_log_probs,
            cache=self.request.cache,
            **knobs,
        )

    def _strings(self, given: Any) -> tuple[bytes, ...]:
        wanted = strings_by_row(given, 1)[0] if given else ()
        if wanted and (self.strings is None or wanted not in self.strings[0]):
            raise ValueError(
                f"stop_strings must be one of the sets that the engine was made with, got {given!r}"
            )
        return wanted

    def _knobs(self, given: Mapping[str, Any], stops: Stops) -> dict[str, Any]:
        own = getattr(self.decoder, "knobs", {})
        if not isinstance(given, Mapping):
            raise ValueError(f"knobs must be a mapping of settings by name, got {shown(given)}")
        for name in given:
            if name not in self.knobs and name not in own:
                known = ", ".join((*self.knobs, *own)) or "none"
                raise ValueError(
                    f"the engine was made without the setting {name!r}; requests may set {known}"
                )
        knobs = {**self.knobs, **given}
        if knobs.get("min_new_tokens") is not None:
            knobs.setdefault("ends", stops.eos)
        return knobs

    def _fit(self, request: Request) -> Request:
        """Padded to the template's shapes, with its static parts."""
        like = self.request
        pad: Any = lambda name, x, y, fill=0: _padded(name, np.asarray(x), np.shape(y), fill)
        warp = {}
        for field in dataclasses.fields(Warp):
            value, room = (
                getattr(request.settings.warp, field.name),
                getattr(like.settings.warp, field.name),
            )
            if value is not None:
                fill = -1 if field.name in _SEQUENCES else 0
                warp[field.name] = pad(field.name, value, room, fill)
        settings = dataclasses.replace(
            request.settings, warp=Warp(**warp), stops=like.settings.stops
        )
        order = request.order
        if order is not None:
            assert like.order is not None
            places = pad("places", order.places, like.order.places)
            order = dataclasses.replace(order, places=places, longest=like.order.longest)
        return dataclasses.replace(
            request,
            prompt=pad("prompt", request.prompt, like.prompt),
            settings=settings,
            order=order,
            capacity=like.capacity,
            longest=like.longest,
        )


def _padded(name: str, value: np.ndarray, shape: tuple[int, ...], fill: int) -> np.ndarray:
    """The array with `fill` behind it."""
    if value.ndim != len(shape) or any(n > m for n, m in zip(value.shape, shape, strict=True)):
        raise ValueError(
            f"{name} has shape {list(value.shape[1:])}; there is room for {list(shape[1:])}"
        )
    more = [(0, m - n) for n, m in zip(value.shape, shape, strict=True)]
    return np.pad(value, more, constant_values=fill)


def _with_stops(
    request: Request,
    stops: Stops,
    own: RowStops,
    strings: tuple[dict[tuple[bytes, ...], int], StopTable] | None,
    wanted: tuple[bytes, ...],
) -> Request:
    start = None if strings is None else np.asarray([strings[0][wanted]], np.int32)
    settings = dataclasses.replace(request.settings, stops=stops, row_stops=own, stop_state=start)
    return dataclasses.replace(request, settings=settings)


def _string_sets(
    sets: Sequence[Any], tokenizer: Tokenizer | None
) -> tuple[dict[tuple[bytes, ...], int], StopTable]:
    """Where a row begins that has none or one of some sets of stop strings, and the table of all."""
    if tokenizer is None:
        raise ValueError(
            "stop_strings needs the model's tokenizer: give tokenizer=, such as jaxdec.text.BYTES"
        )
    lists = [[each] if isinstance(each, str | bytes) else list(each) for each in sets]
    lists = [[], *lists]
    table = stop_table(tokenizer, lists, len(lists))
    keys = strings_by_row(lists, len(lists))
    return dict(zip(keys, table.start.tolist(), strict=True)), table


@functools.cache
def _key_type() -> Any:
    """That of the keys that JAX makes unless it is told otherwise."""
    return jax.eval_shape(lambda: jax.random.key(0)).dtype


def _limit(what: str, size: int, unit: str, most: int) -> None:
    if size > most:
        raise ValueError(f"{what} {size} {unit}; the engine takes {most} at most")
