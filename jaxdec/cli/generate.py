"""Continues prompts with any method; text is written as it is made."""

import argparse
import functools
import json
from typing import Any

import jax
import numpy as np

import jaxdec
from jaxdec.catalogue import Method
from jaxdec.catalogue.assembly import assemble
from jaxdec.cli import knobs, loading, options
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import DRAFTED, OWN, Page, figures, output, waiting
from jaxdec.text import Tokenizer


def run(arguments: argparse.Namespace) -> None:
    """Decodes and prints: the text on stdout, figures on stderr.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if the model's law is not finite.
    """
    method = loading.continuing(arguments.method, arguments.verifier)
    prompts = [options.text_bytes(prompt) for prompt in arguments.prompt]
    if arguments.top_log_probs and not arguments.json:
        raise ValueError("--top-log-probs is printed with --json only")
    target = loading.load(arguments.target)
    tokenizer, stops = loading.tokenizer(target), options.stop_strings(arguments)
    tokens, lengths = loading.encoded(tokenizer, prompts, chat=arguments.chat, bos=arguments.bos)
    decoder, params = assemble(
        method,
        target,
        draft=arguments.draft,
        length=arguments.draft_length,
        nodes=arguments.nodes,
        load=functools.partial(loading.load_draft, target=target),
    )
    request = jaxdec.prepare(
        decoder,
        params,
        tokens,
        max_new_tokens=arguments.max_new_tokens,
        lengths=lengths,
        hypotheses=arguments.n,
        top_log_probs=arguments.top_log_probs,
        stop_strings=stops,
        tokenizer=tokenizer,
        **knobs.warp(arguments, target),
        **knobs.constraint(arguments, target, tokenizer),
    )
    place, params = loading.placed(arguments.placement, params)
    rng = jax.random.key(arguments.seed)
    prompts = [prompt for prompt in prompts for _ in range(arguments.n)]
    tokens, lengths = (np.repeat(x, arguments.n, axis=0) for x in (tokens, lengths))
    if arguments.json:
        decoded = whole(decoder, params, request, rng, waiting, place)
        print(json.dumps(report(method, prompts, decoded, tokenizer, stops)))
        return
    page = Page(output(), len(prompts), tokenizer, stops)

    def begin():
        for row, prompt in enumerate(prompts):
            page.open(row, prompt, tokens[row, : lengths[row]], chat=arguments.chat)

    def show(row, new, drafted, ended):
        page.add(row, new, [DRAFTED if mark else OWN for mark in drafted])
        if ended:
            page.end(row)

    if arguments.no_stream:
        decoded = whole(decoder, params, request, rng, waiting, place)
        begin()
        for row, (new, marks) in enumerate(zip(decoded.tokens, decoded.drafted, strict=True)):
            show(row, new, marks, True)
    else:
        decoded = live(
            decoder, params, request, rng, show, begin=begin, waiting=waiting, placement=place
        )
    figures().print(summary(decoded), style="dim")


def summary(decoded: Decoded, ended: str | None = None) -> str:
    """One line of numbers; `ended` says why rows ended if that is not to be said of each."""
    status = " ".join(status.name for status in decoded.status) if ended is None else ended
    speed = "" if decoded.speed is None else f", {decoded.speed:.1f} tokens/s"
    return (
        f"{decoded.total} tokens, {sum(decoded.forwards)} target forwards, "
        f"{decoded.tokens_per_forward:.2f} tokens per forward{speed} "
        f"(after {decoded.setup:.1f} s of compilation and prompt), {status}"
    )


def report(
    method: Method,
    prompts: list[bytes],
    decoded: Decoded,
    tokenizer: Tokenizer,
    stops: list[bytes],
) -> dict[str, Any]:
    """The object of `--json`."""

    def said(tokens):
        stream = tokenizer.stream(begins=False, stop_strings=stops, keep_stop=True)
        return stream.add(tokens) + stream.end()

    rows: list[dict[str, Any]] = [
        {
            "prompt": prompt.decode("utf-8", "replace"),
            "text": said(tokens),
            "tokens": tokens,
            "drafted": drafted,
            "status": status.name,
            "target_forwards": forwards,
        }
        for prompt, tokens, drafted, status, forwards in zip(
            prompts,
            decoded.tokens,
            decoded.drafted,
            decoded.status,
            decoded.forwards,
            strict=True,
        )
    ]
    for row, top in zip(rows, decoded.top or (), strict=decoded.top is not None):
        row["top_log_probs"] = top
    return {
        "method": method.name,
        "exactness": method.exactness.value,
        "rows": rows,
        "tokens": decoded.total,
        "target_forwards": sum(decoded.forwards),
        "tokens_per_forward": decoded.tokens_per_forward,
        "acceptance": decoded.acceptance,
        "tokens_per_second": decoded.speed,
        "setup_seconds": decoded.setup,
    }
