"""The arguments of `jaxdec plan`. Nothing here needs JAX."""

import argparse
from pathlib import Path

from jaxdec.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec plan`."""
    put, number = parser.add_argument, options.integer(1)
    put(
        "--model",
        required=True,
        metavar="NAME",
        help="llama-8b, llama-70b, qwen3-0.6b, llada-8b, a shipped checkpoint or a folder with a config.json",
    )
    put(
        "--topology",
        required=True,
        metavar="CHIPS",
        help="TPUs, such as v5e:1x1, v5e:4x4, v6e:2x4 or v4:2x2x1",
    )
    options.add_placement(parser)
    put(
        "--method",
        default="autoregressive",
        metavar="NAME",
        help="how to decode (default autoregressive; `jaxdec info` lists them)",
    )
    put("--draft", metavar="NAME", help="model that drafts, for the methods that need one")
    put("--nodes", type=number, metavar="N", help="of a draft tree (default: the method's own)")
    put("--length", type=number, metavar="N", help="of drafts, or depth of a tree")
    put("--batch", type=number, default=16, metavar="N", help="rows in all (default 16)")
    put(
        "--context",
        type=number,
        default=8192,
        metavar="N",
        help="tokens a row, half of them a prompt (default 8192)",
    )
    put("--block", type=number, metavar="N", help="positions of a block of a canvas")
    put(
        "--refresh",
        metavar="NAME",
        help="cache of a canvas (default dual; block for models of blocks)",
    )
    put("--dtype", default="bfloat16", metavar="NAME", help="bfloat16 (default) or float32")
    put(
        "--layers",
        metavar="A,B",
        help="layers of the programs that are compiled, from which counts go on in a straight line to the model's own "
        "(default: the least that stand for it), or `all`: the whole network, which takes minutes",
    )
    put("--json", type=Path, metavar="FILE", help="write all numbers there")
    put("--plot", type=Path, metavar="FILE", help="draw what tokens a forward cost there")
