"""The options of `jaxdec search`. Nothing here needs JAX."""

import argparse

from jaxdec.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec search`."""
    put = parser.add_argument
    put("prompt", nargs="+", metavar="PROMPT", help="text to continue, - for stdin")
    put(
        "--method",
        default="particle-filter",
        metavar="NAME",
        help="how to search (default particle-filter; `jaxdec info` lists them)",
    )
    put(
        "--n",
        type=options.integer(1, options.MOST_SAMPLES),
        default=8,
        metavar="N",
        help="hypotheses of each prompt, which is read once (default 8)",
    )
    _add_parts(parser)
    options.add_set(parser, "the search, such as ess_threshold=0.5 or expansions=16")
    options.add_models(parser)
    options.add_draft_sizes(parser)
    put("--max-new-tokens", type=int, default=128, metavar="N", help="tokens each (default 128)")
    options.add_warp(parser)
    options.add_constraint(parser)
    options.add_seed(parser)
    options.add_text(parser)
    options.add_placement(parser)
    options.add_json(parser)
    put("--all", action="store_true", help="print every hypothesis, with its weight and score")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    """The options that say what a search is made of."""
    put = parser.add_argument
    put(
        "--step-tokens",
        type=options.integer(1),
        metavar="N",
        help="a step, after which hypotheses are compared, has so many tokens at most",
    )
    put(
        "--delimiter",
        action="append",
        default=[],
        metavar="TEXT",
        help="a step ends with this text, for short-m-at-k the thinking: the tokens that it is by itself; repeatable",
    )
    put(
        "--scorer",
        metavar="NAME",
        help="what a hypothesis is worth: log-prob, of all its new tokens, mean-log-prob, their mean, or the "
        "checkpoint of a reward or a value on the target's states (default: none for smc, else mean-log-prob)",
    )
    put(
        "--branches",
        type=options.integer(1, options.MOST_SAMPLES),
        metavar="N",
        help="steps by which a-star continues a hypothesis (default 4)",
    )
    put(
        "--m",
        type=options.integer(1, options.MOST_SAMPLES),
        metavar="N",
        help="hypotheses that short-m-at-k keeps (default 3)",
    )
    put(
        "--inner",
        metavar="NAME",
        help="the method that decodes within steps (default autoregressive), which --draft, --draft-length and --nodes "
        "belong to",
    )
