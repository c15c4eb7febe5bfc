"""The options of `jaxdec serve`. Nothing here needs JAX."""

import argparse
from typing import Any

from jaxdec.cli import options

KNOBS: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""What a request may set, and what leaves it off."""


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec serve`."""
    size = options.integer(1)
    parser.add_argument(
        "--method",
        default="draft",
        metavar="NAME",
        help="how to decode (default draft; `jaxdec info` lists them)",
    )
    parser.add_argument(
        "--input", default="-", metavar="FILE", help="lines of JSON, - for stdin (default)"
    )
    options.add_models(parser)
    options.add_draft_sizes(parser)
    for name, default, what in (
        ("slots", 8, "requests that are decoded at once"),
        ("places", 64, "requests that wait at most; no more lines are read then"),
        ("max-prompt", 512, "tokens of a prompt at most"),
        ("max-new-tokens", 256, "new tokens of a request at most, and unless it says otherwise"),
        ("chunk", 64, "tokens of a prompt that are read between two steps"),
        ("steps", 32, "steps between two looks at what has come and what has ended"),
    ):
        parser.add_argument(
            "--" + name, type=size, default=default, metavar="N", help=f"{what} (default {default})"
        )
    parser.add_argument(
        "--prefix",
        action="append",
        default=[],
        metavar="TEXT",
        help="a beginning of many prompts, which is read once; repeatable",
    )
    options.add_stop(parser)
    parser.add_argument(
        "--stream", action="store_true", help="print new text of requests that run, too"
    )
    options.add_placement(parser)
