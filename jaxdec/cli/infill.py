"""Fills marked gaps of a file, given all text around them; shown as they fill.

`<FILL:n>` is a gap of n tokens, `<FILL>` one whose length the model chooses (`jaxdec.choose_length`): by plain
decoding, whatever the method, and with the other gaps empty. Then all gaps are filled in one request. Its rows hold the
gaps with `--context` tokens on each side; gaps whose contexts meet share a row. The file stands between BOS and EOS, or
what the checkpoint's vocabulary has in their place, as in training; in a vocabulary of bytes a token is a byte.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxdec
from jaxdec import catalogue, files
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint
from jaxdec.cli import gaps, loading, options
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import (
    DRAFTED,
    OWN,
    WRITERS,
    Sheet,
    figures,
    output,
    print_order,
    waiting,
    watched,
)
from jaxdec.decoding import Decoder, Request
from jaxdec.generation.gap_length import ChosenLength
from jaxdec.model import Params
from jaxdec.text import Tokenizer


def run(arguments: argparse.Namespace) -> None:
    """Fills and prints: the text on stdout, figures on stderr.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if the model's law is not finite; nothing is written then.
    """
    written = _output(arguments)
    content = options.read(arguments.file)
    gapped = gaps.parse(content, options.argument_bytes(arguments.marker))
    method = loading.infilling(arguments.method)
    target = loading.load(arguments.target)
    tokenizer = loading.tokenizer(target)
    decoder, params = assemble(
        method,
        target,
        draft=arguments.draft,
        length=arguments.draft_length,
        load=loading.load_draft,
    )
    _check(gapped, target)
    knobs = {
        "temperature": arguments.temperature,
        "banned": loading.wordless(tokenizer, target.model.vocab_size),  # only text is filled in
    }
    rng = jax.random.key(arguments.seed)
    console, errors = output(), figures()

    began = time.perf_counter()
    choices = _choose(gapped, target, arguments.lengths, rng, knobs)
    choosing = time.perf_counter() - began

    canvas = gapped.canvas(
        [
            choices[gap].length if length is None else length
            for gap, length in enumerate(gapped.lengths)
        ],
        tokenizer,
    )
    rows = canvas.rows(arguments.context)
    request = _request(decoder, params, canvas, rows, arguments.context, knobs)
    fill = _Fill(canvas, rows, request, tokenizer)
    stream = console.is_terminal and not (arguments.json or arguments.no_stream)
    decoded = _decode(decoder, params, request, rng, fill, console if stream else None, arguments)

    filled, starts = gapped.filled([fill.said(place) for place in canvas.gaps])
    if written is not None:
        files.write_whole(written, filled)
    if arguments.json:
        report = _report(method, canvas, fill, starts, choices, decoded, filled)
        if arguments.order:
            for gap, place in zip(report["gaps"], canvas.gaps, strict=True):
                gap["steps"] = fill.steps[place].tolist()
        print(json.dumps({**report, "choice_seconds": choosing if choices else None}))
        return
    _show(console, fill, filled if written is None else None)
    if console.is_terminal:
        errors.print(WRITERS)
    if arguments.order:
        _print_order(errors, canvas, fill, tokenizer)
    if choices:
        chosen = ", ".join(f"{choice.length} for gap {gap + 1}" for gap, choice in choices.items())
        errors.print(
            f"lengths chosen: {chosen} ({choosing:.1f} s, compilation included)", style="dim"
        )
    errors.print(summary(decoded), style="dim")


def summary(decoded: Decoded) -> str:
    """One line of numbers."""
    kept = "" if decoded.acceptance is None else f", {decoded.acceptance:.0%} of drafts accepted"
    forwards = sum(decoded.forwards)
    timed = f", {decoded.timed} tokens in {decoded.seconds:.2f} s" if decoded.timed else ""
    return (
        f"{decoded.total} tokens filled, {forwards} forwards of the model, {forwards / decoded.total:.2f} forwards "
        f"per token{kept}{timed} (after {decoded.setup:.1f} s of compilation and context)"
    )


class _Fill:
    """Lays out what the rows of a request emit, rank after rank, at its places in the file.

    Attributes:
      tokens: int32 `[n]`, of the whole file.
      drafted: bool `[n]`, whether a drafter proposed the token.
      steps: int32 `[n]`, the step of its row that wrote it, from 0 on; -1 at visible places.
      sheet: the same, for the eye.
    """

    def __init__(
        self, canvas: gaps.Canvas, rows: Sequence[slice], request: Request, tokenizer: Tokenizer
    ):
        order = request.order
        assert order is not None
        self.tokens = canvas.tokens.copy()
        self.drafted = np.zeros(self.tokens.shape, bool)
        self.steps = np.full(self.tokens.shape, -1)
        self.size = int((~canvas.visible).sum())
        self.sheet = Sheet(canvas.tokens, canvas.visible, tokenizer)
        self._pieces = tokenizer.pieces()
        places, visible = np.asarray(order.places), np.asarray(order.visible)
        self._places = [
            iter((row.start + places[i, visible[i] :]).tolist()) for i, row in enumerate(rows)
        ]
        self._step = [0] * len(rows)

    def __call__(self, row: int, new: Sequence[int], drafted: Sequence[bool], ended: bool) -> None:
        """Takes what a step of a row emitted; see `decode.live`."""
        for token, mark in zip(new, drafted, strict=True):
            place = next(self._places[row])
            self.tokens[place], self.drafted[place] = token, mark
            self.steps[place] = self._step[row]
            self.sheet.put(place, token, DRAFTED if mark else OWN)
        self._step[row] += 1

    def said(self, place: slice) -> bytes:
        """What the tokens of a gap say; all of them are text."""
        return b"".join(self._pieces[token] for token in self.tokens[place])


def _output(arguments: argparse.Namespace) -> Path | None:
    """Where the filled text is to be written, beside stdout."""
    if arguments.in_place:
        if arguments.file == "-":
            raise ValueError("--in-place needs a file, and stdin is none")
        return Path(arguments.file)
    if arguments.output is None:
        return None
    path = Path(arguments.output)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--output {arguments.output!r} is not a file in a folder that exists")
    return path


def _check(gapped: gaps.Gapped, target: Checkpoint) -> None:
    limit = target.config.max_length
    for gap, length in enumerate(gapped.lengths):
        if length is not None and length >= limit:
            raise ValueError(
                f"gap {gap + 1} asks for {length} tokens; the model's capacity is {limit} tokens, context included"
            )


def _choose(
    gapped: gaps.Gapped,
    target: Checkpoint,
    lengths: Sequence[int],
    rng: jax.Array,
    knobs: dict[str, Any],
) -> dict[int, ChosenLength]:
    """The choice of a length for each gap that has none."""
    choices = {}
    for gap, length in enumerate(gapped.lengths):
        if length is None:
            around = gapped.around(gap, loading.tokenizer(target))
            with waiting(f"choosing the length of gap {gap + 1}"):
                choices[gap] = jaxdec.choose_length(
                    jaxdec.autoregressive(target.model),  # the cheapest for a wide batch
                    {"target": target.params},
                    *around,
                    lengths,
                    rng=jax.random.fold_in(rng, gap),
                    **knobs,
                )
    return choices


def _request(
    decoder: Decoder,
    params: Params,
    canvas: gaps.Canvas,
    rows: Sequence[slice],
    context: int,
    knobs: dict[str, Any],
) -> Request:
    tokens, visible, sizes = canvas.batch(rows)
    limit = decoder.model.max_length
    if limit is not None and sizes.max() > limit:
        raise ValueError(
            f"gaps with {context} tokens of context on each side take {sizes.max()} tokens in a row; the model's "
            f"capacity is {limit}"
        )
    return jaxdec.prepare_infill(decoder, params, tokens, visible, sizes=sizes, **knobs)


def _decode(
    decoder: Decoder,
    params: Params,
    request: Request,
    rng: jax.Array,
    fill: _Fill,
    console: Console | None,
    arguments: argparse.Namespace,
) -> Decoded:
    """Decodes step by step if somebody looks on, or if the steps are asked for; else in one loop."""
    place, params = loading.placed(arguments.placement, params)
    if console is not None:
        with watched(console, fill.sheet):
            return live(decoder, params, request, rng, fill, placement=place)
    if arguments.order:
        return live(decoder, params, request, rng, fill, waiting=waiting, placement=place)
    decoded = whole(decoder, params, request, rng, waiting, place)
    for row, (new, marks) in enumerate(zip(decoded.tokens, decoded.drafted, strict=True)):
        fill(row, new, marks, True)
    return decoded


def _show(console: Console, fill: _Fill, filled: bytes | None) -> None:
    """Prints the filled text: in colours on a terminal, else as it is, unless it was written to a file."""
    if console.is_terminal:
        shown = fill.sheet.text()
        console.print(shown, end="" if shown.plain.endswith("\n") else "\n", soft_wrap=True)
    elif filled is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(filled)
        sys.stdout.flush()


def _print_order(console: Console, canvas: gaps.Canvas, fill: _Fill, tokenizer: Tokenizer) -> None:
    for gap, place in enumerate(canvas.gaps):
        tokens, steps = fill.tokens[place].tolist(), fill.steps[place].tolist()
        print_order(console, f"gap {gap + 1}", tokens, steps, tokenizer)


def _report(
    method: catalogue.Method,
    canvas: gaps.Canvas,
    fill: _Fill,
    starts: list[int],
    choices: dict[int, ChosenLength],
    decoded: Decoded,
    filled: bytes,
) -> dict[str, Any]:
    found = []
    for gap, (place, start) in enumerate(zip(canvas.gaps, starts, strict=True)):
        tokens = fill.tokens[place].tolist()
        scores = None
        if gap in choices:  # JSON has no infinity
            scores = {n: x if np.isfinite(x) else None for n, x in choices[gap].log_probs.items()}
        found.append(
            {
                "start": start,
                "length": len(tokens),
                "text": fill.said(place).decode("utf-8", "replace"),
                "tokens": tokens,
                "drafted": fill.drafted[place].tolist(),
                "log_probs": scores,
            }
        )
    return {
        "method": method.name,
        "exactness": method.exactness.value,
        "text": filled.decode("utf-8", "replace"),
        "gaps": found,
        "tokens": decoded.total,
        "target_forwards": sum(decoded.forwards),
        "forwards_per_token": sum(decoded.forwards) / decoded.total,
        "acceptance": decoded.acceptance,
        "tokens_per_second": decoded.speed,
        "setup_seconds": decoded.setup,
    }
