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
from jaxdec.checkpoints import Checkpoint
from jaxdec.cli import loading, options
from jaxdec.cli.arguments import KNOBS
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import DRAFTED, OWN, Page, figures, output, waiting
from jaxdec.text import Tokenizer, json_schema, regex


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
        **_knobs(arguments, target),
        **_constraint(arguments, target, tokenizer),
    )
    place, params = loading.placed(arguments.placement, params)
    rng = jax.random.key(arguments.seed)
    prompts = [prompt for prompt in prompts for _ in range(arguments.n)]
    tokens, lengths = (np.repeat(x, arguments.n, axis=0) for x in (tokens, lengths))
    if arguments.json:
        decoded = whole(decoder, params, request, rng, waiting, place)
        print(json.dumps(_report(method, prompts, decoded, tokenizer, stops)))
        return
    page = Page(output(), len(prompts), tokenizer, stops)

    def begin():
        for row, prompt in enumerate(prompts):
            if arguments.chat:
                page.say(row, prompt.decode() + "\n\n")
            else:
                page.prompt(row, tokens[row, : lengths[row]])

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


def summary(decoded: Decoded) -> str:
    """One line of numbers."""
    status = " ".join(status.name for status in decoded.status)
    speed = "" if decoded.speed is None else f", {decoded.speed:.1f} tokens/s"
    return (
        f"{decoded.total} tokens, {sum(decoded.forwards)} target forwards, "
        f"{decoded.tokens_per_forward:.2f} tokens per forward{speed} "
        f"(after {decoded.setup:.1f} s of compilation and prompt), {status}"
    )


def _knobs(arguments: argparse.Namespace, target: Checkpoint) -> dict[str, Any]:
    """The settings of the warp pipeline that were given."""
    size = target.model.vocab_size
    given = {name: getattr(arguments, name) for name in ("temperature", *KNOBS)}
    knobs: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if arguments.ban:
        banned = np.zeros(size, bool)
        for token in arguments.ban:
            banned[_token(token, size)] = True
        knobs["banned"] = banned
    if arguments.logit_bias:
        bias = np.zeros(size, np.float32)
        for pair in arguments.logit_bias:
            token, _, value = pair.partition("=")
            try:
                place, amount = int(token), float(value)
            except ValueError:
                raise ValueError(f"--logit-bias {pair!r} is not of the form TOKEN=X") from None
            bias[_token(place, size)] = amount
        knobs["logit_bias"] = bias
    return knobs


def _constraint(
    arguments: argparse.Namespace, target: Checkpoint, tokenizer: Tokenizer
) -> dict[str, Any]:
    """What the text may be, if that was given."""
    size = target.model.vocab_size
    if arguments.regex is not None:
        pattern = options.argument_bytes(arguments.regex).decode("utf-8")
        return {"constraint": regex(pattern, tokenizer, vocab_size=size)}
    if arguments.json_schema is not None:
        schema = options.read(arguments.json_schema).decode("utf-8")
        return {"constraint": json_schema(schema, tokenizer, vocab_size=size)}
    return {}


def _token(token: int, size: int) -> int:
    if not 0 <= token < size:
        raise ValueError(f"token {token} is outside the vocabulary of {size}")
    return token


def _report(
    method: Method,
    prompts: list[bytes],
    decoded: Decoded,
    tokenizer: Tokenizer,
    stops: list[bytes],
) -> dict[str, object]:
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
