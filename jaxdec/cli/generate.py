"""Continues prompts with any method; text is written as it is made."""

import argparse
import json
import sys
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxdec
from jaxdec import catalogue, text
from jaxdec.catalogue.assembly import assemble
from jaxdec.checkpoints import Checkpoint
from jaxdec.cli import options
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import DRAFTED, OWN, PROMPT, Page

_KNOBS = {
    "top_k": (int, "keep the k most probable tokens"),
    "top_p": (float, "keep the most probable tokens up to this mass"),
    "min_p": (float, "keep tokens at least this probable relative to the best"),
    "typical": (float, "keep the most typical tokens up to this mass"),
    "epsilon": (float, "keep tokens at least this probable"),
    "top_h": (float, "keep the most probable tokens up to this share of the entropy"),
    "repetition_penalty": (float, "divide the logits of tokens seen before"),
    "presence_penalty": (float, "subtract from the logits of tokens generated before"),
    "frequency_penalty": (float, "subtract as often as a token was generated"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add = parser.add_argument
    add("--method", choices=catalogue.FAMILIES, default="draft", help="how to decode")
    add(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="text to continue, - for stdin; repeat it for a batch",
    )
    options.add_models(parser, draft=None)
    options.add_draft_sizes(parser)
    add("--verifier", choices=catalogue.VERIFIERS, default="walk", help="which drafts are kept")
    add(
        "--max-new-tokens", type=int, default=128, metavar="N", help="tokens a prompt (default 128)"
    )
    options.add_temperature(parser)
    for name, (kind, what) in _KNOBS.items():
        add("--" + name.replace("_", "-"), type=kind, metavar="X", help=what)
    add("--ban", type=int, action="append", metavar="TOKEN", help="never emit this token")
    add(
        "--logit-bias",
        action="append",
        metavar="TOKEN=X",
        help="add X to the logit of a token; repeatable",
    )
    options.add_seed(parser)
    add(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end after this text; repeatable",
    )
    add("--bos", action="store_true", help="the prompt starts a file; it may then be empty")
    add("--json", action="store_true", help="print one JSON object")
    add("--no-stream", action="store_true", help="print when all is done, decoded in one loop")


def run(arguments: argparse.Namespace) -> None:
    """Decodes and prints.

    Raises:
      ValueError: for bad input.
    """
    method = catalogue.find(arguments.method, arguments.verifier)
    prompts = [_bytes(prompt) for prompt in arguments.prompt]
    for row, prompt in enumerate(prompts):
        if not prompt and not arguments.bos:
            raise ValueError(f"prompt {row} is empty (0 bytes); at least 1 byte is needed")
    target = options.load(arguments.target)
    decoder, params = assemble(
        method,
        target,
        draft=arguments.draft,
        length=arguments.draft_length,
        nodes=arguments.nodes,
        load=options.load_draft,
    )
    tokens, lengths = text.encode_batch(prompts, bos=arguments.bos)
    request = jaxdec.prepare(
        decoder,
        params,
        np.asarray(tokens),
        max_new_tokens=arguments.max_new_tokens,
        lengths=lengths,
        stop=[text.to_ids(options.argument_bytes(stop)) for stop in arguments.stop],
        **_knobs(arguments, target),
    )
    rng = jax.random.key(arguments.seed)
    if arguments.json:
        decoded = whole(decoder, params, request, rng)
        print(json.dumps(_report(method, prompts, decoded)))
        return
    console = Console(highlight=False, markup=False)
    page = Page(console, len(prompts))
    for row, prompt in enumerate(prompts):
        page.add(row, prompt, [PROMPT] * len(prompt))

    def show(row, new, drafted, ended):
        page.add(row, new, [DRAFTED if mark else OWN for mark in drafted])
        if ended:
            page.end(row)

    if arguments.no_stream:
        decoded = whole(decoder, params, request, rng)
        for row, (new, marks) in enumerate(zip(decoded.tokens, decoded.drafted, strict=True)):
            show(row, new, marks, True)
    else:
        decoded = live(decoder, params, request, rng, show)
    console.print(summary(decoded), style="dim", soft_wrap=True)


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
    given = {name: getattr(arguments, name) for name in ("temperature", *_KNOBS)}
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


def _token(token: int, size: int) -> int:
    if not 0 <= token < size:
        raise ValueError(f"token {token} is outside the vocabulary of {size}")
    return token


def _bytes(prompt: str) -> bytes:
    return sys.stdin.buffer.read() if prompt == "-" else options.argument_bytes(prompt)


def _report(method: catalogue.Method, prompts: list[bytes], decoded: Decoded) -> dict[str, object]:
    rows = [
        {
            "prompt": prompt.decode("utf-8", "replace"),
            "text": text.decode(tokens),
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
