"""Settings that options give: of the law that tokens are drawn from, what the text may be, and a decoder's own."""

import argparse
from typing import Any

import numpy as np

from jaxdec.checkpoints import Checkpoint
from jaxdec.cli import options
from jaxdec.decoding import Decoder
from jaxdec.text import Tokenizer, json_schema, regex


def warp(arguments: argparse.Namespace, target: Checkpoint) -> dict[str, Any]:
    """The settings of the warp pipeline that were given."""
    size = target.model.vocab_size
    given = {name: getattr(arguments, name) for name in ("temperature", *options.KNOBS)}
    knobs: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
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


def constraint(
    arguments: argparse.Namespace, target: Checkpoint, tokenizer: Tokenizer
) -> dict[str, Any]:
    """What the text may be, if that was given; raises `ValueError` for what is no pattern or schema."""
    size = target.model.vocab_size
    if arguments.regex is not None:
        pattern = options.argument_bytes(arguments.regex).decode("utf-8")
        return {"constraint": regex(pattern, tokenizer, vocab_size=size)}
    if arguments.json_schema is not None:
        schema = options.read(arguments.json_schema).decode("utf-8")
        return {"constraint": json_schema(schema, tokenizer, vocab_size=size)}
    return {}


def own(arguments: argparse.Namespace, decoder: Decoder) -> dict[str, Any]:
    """The knobs of a decoder that `--set` gives.

    Raises:
      ValueError: if the decoder of `--method` has none of that name, or the value is no number.
    """
    held = getattr(decoder, "knobs", {})
    found: dict[str, Any] = {}
    for pair in arguments.set:
        name, _, value = pair.partition("=")
        if name not in held:
            raise ValueError(
                f"method {arguments.method!r} has no knob {name!r}; it has {', '.join(held) or 'none'}"
            )
        kind = int if held[name].integer else float
        try:
            found[name] = kind(value)
        except ValueError:
            raise ValueError(f"--set {pair!r} is not of the form NAME={kind.__name__}") from None
    return found
