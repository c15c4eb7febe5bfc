"""Answers requests, lines of JSON, in the order in which they end.

    {"id": 7, "prompt": "def add(", "max_new_tokens": 32, "temperature": 0.8, "seed": 3, "samples": 2,
     "priority": 1, "deadline": 500, "timeout": 10.0}

All but `prompt` may be left out. An answer is a line too: `id`, `sample`, `text`, `tokens`, `status`, counts; a line
that is no request comes back as `{"id": ..., "error": ...}`, and nobody else notices.
"""

import argparse
import functools
import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

from jaxdec import files
from jaxdec.catalogue.assembly import assemble
from jaxdec.cli import loading, options
from jaxdec.cli.display import figures
from jaxdec.cli.serve_options import KNOBS
from jaxdec.generation.requests import Call, Completed, Engine
from jaxdec.text import TextStream, Tokenizer

FIELDS = ("max_new_tokens", "samples", "priority", "deadline", "timeout")
"""Of a line, those that are handed on as they are."""


def run(arguments: argparse.Namespace) -> None:
    """Serves until the input ends and all is answered; answers on stdout, figures on stderr.

    Raises:
      ValueError: for bad options; a bad line is answered.
    """
    method = loading.continuing(arguments.method, None)
    target = loading.load(arguments.target)
    tokenizer = loading.tokenizer(target)
    stops = options.stop_strings(arguments)
    decoder, params = assemble(
        method,
        target,
        draft=arguments.draft,
        length=arguments.draft_length,
        nodes=arguments.nodes,
        load=functools.partial(loading.load_draft, target=target),
    )
    place, params = loading.placed(arguments.placement, params)
    engine = Engine(
        decoder,
        params,
        slots=arguments.slots,
        places=arguments.places,
        max_prompt=arguments.max_prompt,
        max_new_tokens=arguments.max_new_tokens,
        chunk=arguments.chunk,
        prefixes=[tokenizer.to_ids(options.argument_bytes(x)).tolist() for x in arguments.prefix],
        stop_strings=[stops] if stops else (),
        tokenizer=tokenizer if stops else None,
        placement=place,
        **KNOBS,
    )
    desk = Desk(engine, tokenizer, stops)
    for answer in desk.answers(lines(arguments.input, arguments.places), arguments):
        print(json.dumps(answer), flush=True)
    figures().print(
        f"{desk.answered} answered, {desk.refused} refused, {engine.counts.get('steps', 0)} steps, "
        f"{100 * engine.occupancy:.0f}% of slots busy",
        style="dim",
    )


class Lines:
    """Lines that are read by a thread, so that rows go on while the next one is waited for."""

    def __init__(self, source: Any, ahead: int):
        self._held: queue.Queue[bytes | None] = queue.Queue(ahead)
        self.over = False
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: Any) -> None:
        try:
            for line in source:
                self._held.put(line)
        except (OSError, ValueError) as error:  # the stream is broken, or closed
            print(f"jaxdec serve: no more lines can be read: {error}", file=sys.stderr)
        finally:
            self._held.put(None)

    def take(self, *, wait: bool) -> bytes | None:
        """The next line; None if there is none yet, or the last one was taken (`over`)."""
        if self.over:
            return None
        try:
            line = self._held.get(block=wait)
        except queue.Empty:
            return None
        self.over = line is None
        return line


def lines(name: str, ahead: int) -> Lines:
    """Those of a file, or of stdin for `-`.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if stdin is closed.
    """
    if name != "-":
        return Lines(open(name, "rb"), ahead)
    if sys.stdin is None:
        raise ValueError("stdin is closed")
    return Lines(sys.stdin.buffer, ahead)


class Desk:
    """Takes lines, hands them to an engine, and words the answers."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, stops: list[bytes]):
        self.engine, self.tokenizer, self.stops = engine, tokenizer, stops
        self.answered = self.refused = 0
        self.told: dict[int, tuple[Any, TextStream]] = {}

    def answers(self, source: Lines, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
        """Serves until the lines are over and all is answered."""
        engine, held = self.engine, None
        while not source.over or held is not None or engine.pending:
            while engine.room:
                held = source.take(wait=not engine.pending) if held is None else held
                if held is None:
                    break
                try:
                    error = self._take(held)
                except queue.Full:  # it has more samples than there is room for yet
                    break
                held = None
                if error is not None:
                    yield error
            if not engine.pending:
                continue
            for done in engine.poll(arguments.steps):
                del self.told[done.id]
                self.answered += 1
                yield self._answer(done)
            if arguments.stream:
                for request, tokens in engine.new_tokens().items():
                    name, stream = self.told[request]
                    text = stream.add(tokens.tolist())
                    if text:
                        yield {"id": name, "request": request, "new_text": text}

    def _take(self, line: bytes) -> dict[str, Any] | None:
        """Hands a line to the engine; returns the answer to one that is no request, None for others and empty ones."""
        name: Any = None
        if not line.strip():
            return None
        try:
            fields = self._fields(line)
            name = fields.get("id")
            for request in self.engine.submit(self._call(fields)):
                self.told[request] = name, self._stream()
        except ValueError as error:
            self.refused += 1
            return {"id": name, "error": str(error)}
        return None

    def _fields(self, line: bytes) -> dict[str, Any]:
        try:
            fields = files.from_json(line)
        except ValueError as error:
            raise ValueError(f"a line is no JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ValueError(f"a line must be a JSON object, got {type(fields).__name__}")
        return fields

    def _call(self, fields: dict[str, Any]) -> Call:
        known = {"id", "prompt", "seed", *FIELDS, *KNOBS}
        for name in fields:
            if name not in known:
                raise ValueError(
                    f"there is no field {name!r}; fields are {', '.join(sorted(known))}"
                )
        prompt = fields.get("prompt")
        if not isinstance(prompt, str):
            raise ValueError(f"prompt must be a string, got {prompt!r}")
        return Call(
            prompt=self.tokenizer.to_ids(prompt),
            rng=fields.get("seed", 0),
            stop_strings=self.stops,
            knobs={name: fields[name] for name in KNOBS if name in fields},
            tag=fields.get("id"),
            **{name: fields[name] for name in FIELDS if name in fields},
        )

    def _stream(self) -> TextStream:
        return self.tokenizer.stream(begins=False, stop_strings=self.stops, keep_stop=True)

    def _answer(self, done: Completed) -> dict[str, Any]:
        stream = self._stream()
        new = done.new_tokens.tolist()
        return {
            "id": done.call.tag,
            "request": done.id,
            "sample": done.sample,
            "text": stream.add(new) + stream.end(),
            "tokens": len(new),
            "status": done.status.name,
            "target_forwards": None if done.stats is None else done.stats.target_forwards,
        }
