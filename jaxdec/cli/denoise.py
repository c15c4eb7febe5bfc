"""Continues a prompt by canvas decoding, several tokens a forward in any order; shown as the canvas fills."""

import argparse
import json
from typing import Any

import jax
import numpy as np

import jaxdec
from jaxdec import catalogue
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint
from jaxdec.cli import knobs, loading, options
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import (
    FRESH,
    OWN,
    PROMPT,
    Page,
    Sheet,
    figures,
    output,
    paint,
    print_order,
    step_style,
    waiting,
    watched,
)
from jaxdec.decoding import DecoderState, Request
from jaxdec.diffusion import Denoise, DenoiseState
from jaxdec.model import Params
from jaxdec.text import Tokenizer


def run(arguments: argparse.Namespace) -> None:
    """Decodes and prints: the text on stdout, figures on stderr.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if the model's law is not finite.
    """
    prompt = _prompt(arguments)
    method = loading.denoising(arguments.method)
    target = loading.load(arguments.target)
    tokenizer, stops = loading.tokenizer(target), options.stop_strings(arguments)
    tokens, _ = loading.encoded(tokenizer, [prompt], chat=arguments.chat, bos=arguments.bos)
    decoder, params = _decoder(arguments, method, target)
    banned = loading.wordless(tokenizer, target.model.vocab_size)  # only text is filled in
    banned[list(target.model.eos)] = False
    request = jaxdec.prepare(
        decoder,
        params,
        tokens,
        max_new_tokens=arguments.max_new_tokens,
        stop_strings=stops,
        tokenizer=tokenizer,
        temperature=arguments.temperature,
        banned=banned,
        **knobs.own(arguments, decoder),
    )
    place, params = loading.placed(arguments.placement, params)
    rng = jax.random.key(arguments.seed)
    if arguments.json:
        decoded = whole(decoder, params, request, rng, waiting, place)
        print(json.dumps(_report(arguments.method, decoder, prompt, decoded, tokenizer)))
        return
    console, errors = output(), figures()
    if arguments.show and console.is_terminal and not arguments.no_stream:
        canvas = _Canvas(request, tokenizer)
        with watched(console, canvas.sheet):
            decoded = live(decoder, params, request, rng, lambda *_: None, canvas, placement=place)
        styles = [PROMPT] * tokens.size + [step_style(step) for step in decoded.steps[0]]
        shown = paint([*tokens[0].tolist(), *decoded.tokens[0]], styles, tokenizer)
        console.print(shown, soft_wrap=True)
    else:
        page = Page(console, 1, tokenizer, stops)

        def begin():
            page.open(0, prompt, tokens[0], chat=arguments.chat)

        def show(row, new, drafted, ended):
            page.add(row, new, [OWN] * len(new))
            if ended:
                page.end(row)

        if arguments.no_stream:
            decoded = whole(decoder, params, request, rng, waiting, place)
            begin()
            show(0, decoded.tokens[0], decoded.drafted[0], True)
        else:
            decoded = live(
                decoder, params, request, rng, show, begin=begin, waiting=waiting, placement=place
            )
    if arguments.show:
        print_order(errors, "new text", decoded.tokens[0], decoded.steps[0], tokenizer)
    errors.print(summary(decoded), style="dim")


def summary(decoded: Decoded) -> str:
    """One line of numbers."""
    timed = f", {decoded.timed} tokens in {decoded.seconds:.2f} s" if decoded.timed else ""
    return (
        f"{decoded.total} tokens, {decoded.forwards[0]} forwards, {decoded.tokens_per_forward:.2f} tokens per forward"
        f"{timed} (after {decoded.setup:.1f} s of compilation and prompt), {decoded.status[0].name}"
    )


class _Canvas:
    """Follows the canvas of the only row for the eye.

    Attributes:
      sheet: text in the colour of their step, those of the last forward highlighted.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer):
        prompt = int(request.lengths[0])
        self._steps = np.full(prompt + int(request.settings.max_new_tokens[0]), -1)
        places = np.arange(len(self._steps))
        tokens = np.pad(np.asarray(request.prompt[0, :prompt]), (0, len(places) - prompt))
        self.sheet = Sheet(tokens, places < prompt, tokenizer)
        self._fresh = np.zeros(len(places), bool)

    def __call__(self, state: DecoderState) -> None:
        """Takes a state of the stream; see `decode.live`."""
        assert isinstance(state, DenoiseState)
        tokens, steps = jax.device_get((state.canvas.tokens[0], state.canvas.steps[0]))
        steps = steps[: len(self._steps)]
        changed = steps != self._steps  # -1 where a token was taken back
        for place in np.flatnonzero(self._fresh & ~changed).tolist():
            self.sheet.put(place, int(tokens[place]), step_style(int(steps[place])))
        for place in np.flatnonzero(changed).tolist():
            step = int(steps[place])
            token, style = (
                (None, PROMPT) if step < 0 else (int(tokens[place]), f"{step_style(step)} {FRESH}")
            )
            self.sheet.put(place, token, style)
        self._steps, self._fresh = steps, changed & (steps >= 0)


def _prompt(arguments: argparse.Namespace) -> bytes:
    if arguments.file is not None:
        return options.read(arguments.file)
    return options.argument_bytes(arguments.prompt)


def _decoder(
    arguments: argparse.Namespace, method: catalogue.Method, target: Checkpoint
) -> tuple[Denoise, Params]:
    if arguments.cache not in (None, *catalogue.REFRESH_RULES):
        raise ValueError(
            f"there is no cache {arguments.cache!r}, only {', '.join(catalogue.REFRESH_RULES)}"
        )
    decoder, params = assemble(
        method,
        target,
        length=arguments.branches,
        block=arguments.block,
        refresh=arguments.cache,
    )
    assert isinstance(decoder, Denoise)
    if arguments.branches not in (None, decoder.branches):
        raise ValueError(
            f"--branches is {arguments.branches}; method {arguments.method!r} has {decoder.branches}"
        )
    return decoder, params


def _report(
    method: str, decoder: Denoise, prompt: bytes, decoded: Decoded, tokenizer: Tokenizer
) -> dict[str, Any]:
    (tokens,), (steps,), (status,) = decoded.tokens, decoded.steps, decoded.status
    return {
        "method": method,
        "exactness": decoder.exactness.value,
        "prompt": prompt.decode("utf-8", "replace"),
        "text": tokenizer.decode(tokens, begins=False),
        "tokens": tokens,
        "steps": steps,
        "status": status.name,
        "target_forwards": decoded.forwards[0],
        "tokens_per_forward": decoded.tokens_per_forward,
        "tokens_per_second": decoded.speed,
        "setup_seconds": decoded.setup,
    }
