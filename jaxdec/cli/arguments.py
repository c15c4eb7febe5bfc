"""The arguments of all commands. Nothing here needs JAX: names of methods and checkpoints are checked when they run."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jaxdec
from jaxdec.cli import options, plan_options, serve_options

LENGTHS = "1-16,20,24,28,32,40,48,56,64"
CONTEXT = 240  # with a gap of a line, as much as a training window; twice as much was measured to give no more
FIELDS = ("prompt", "text", "turns", "question")
"""Where a JSON line may hold its text; of a list, such as the turns of Spec-Bench, the first entry counts."""
KNOBS: dict[str, tuple[type, str]] = {
    "top_k": (int, "keep the k most probable tokens"),
    "top_p": (float, "keep the most probable tokens up to this mass"),
    "min_p": (float, "keep tokens at least this probable relative to the best"),
    "typical": (float, "keep the most typical tokens up to this mass"),
    "epsilon": (float, "keep tokens at least this probable"),
    "top_h": (float, "keep the most probable tokens up to this share of the entropy"),
    "repetition_penalty": (float, "divide the logits of tokens seen before"),
    "presence_penalty": (float, "subtract from the logits of tokens generated before"),
    "frequency_penalty": (float, "subtract as often as a token was generated"),
    "no_repeat_ngram": (int, "let no X tokens in a row come twice, the prompt's included"),
    "min_new_tokens": (int, "let no end-of-text token come before as many tokens"),
}
RUN = ("steps", "batch", "length", "rows_at_once", "checkpoint_every")
MODEL = ("width", "layers", "heads", "kv_heads", "head_dim", "hidden")
LISTED = "`jaxdec info` lists them"

EPILOG = """\
Text goes to stdout, figures and progress to stderr. Exit codes: 0, 1 if a model's law is not finite, 2 for bad input,
130 after Ctrl-C, 141 after a broken pipe. Compiled programs are kept in jaxdec/programs below XDG_CACHE_HOME or
~/.cache, so that the second run starts sooner; JAX_COMPILATION_CACHE_DIR names another folder, and
JAX_ENABLE_COMPILATION_CACHE=false keeps nothing."""


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, so that it is reported like any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(
        prog="jaxdec",
        description="Decoding algorithms for JAX and TPU, on shipped code models.",
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=jaxdec.__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, (summary, add_arguments) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=summary, description=summary, epilog=EPILOG))
    return top


def demo(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec demo`."""
    parser.add_argument(
        "--max-new-tokens",
        type=options.integer(1, 4096),
        default=128,
        metavar="N",
        help="tokens a prompt (default 128)",
    )
    options.add_seed(parser)
    options.add_models(parser)


def generate(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec generate`."""
    add = parser.add_argument
    add(
        "--method",
        default="draft",
        metavar="NAME",
        help=f"how to decode (default draft; {LISTED})",
    )
    add(
        "--verifier",
        metavar="NAME",
        help="which drafts are kept: --method sequoia --verifier recursive is --method sequoia-recursive",
    )
    add(
        "--prompt",
        action="append",
        required=True,
        metavar="TEXT",
        help="text to continue, - for stdin; repeat it for a batch",
    )
    options.add_models(parser)
    options.add_draft_sizes(parser)
    add(
        "--max-new-tokens", type=int, default=128, metavar="N", help="tokens a prompt (default 128)"
    )
    add(
        "--n",
        type=options.integer(1, options.MOST_SAMPLES),
        default=1,
        metavar="N",
        help="samples of each prompt, which is read once (default 1)",
    )
    options.add_temperature(parser)
    for name, (kind, what) in KNOBS.items():
        add("--" + name.replace("_", "-"), type=kind, metavar="X", help=what)
    add("--ban", type=int, action="append", metavar="TOKEN", help="never emit this token")
    add(
        "--logit-bias",
        action="append",
        metavar="TOKEN=X",
        help="add X to the logit of a token; repeatable",
    )
    options.add_seed(parser)
    options.add_text(parser)
    options.add_constraint(parser)
    options.add_placement(parser)
    options.add_output(parser)
    add(
        "--top-log-probs",
        type=options.integer(0),
        default=0,
        metavar="K",
        help="with --json: the K most probable tokens of the model's own law at each place",
    )


def infill(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec infill`."""
    add = parser.add_argument
    add("file", metavar="FILE", help="file with marked gaps, - for stdin")
    add(
        "--marker",
        default="FILL",
        metavar="WORD",
        help="gaps are marked <WORD:n>, n tokens, and <WORD>, of a length to be chosen (default FILL)",
    )
    add(
        "--lengths",
        type=options.lengths,
        default=LENGTHS,
        metavar="N,N-M,...",
        help=f"lengths to choose from (default {LENGTHS})",
    )
    add("--method", default="fused", metavar="NAME", help=f"how to fill (default fused; {LISTED})")
    options.add_models(parser, "code-infill")
    add(
        "--draft-length",
        type=options.integer(1, options.LONGEST_DRAFT),
        metavar="N",
        help="tokens drafted a step (default: the method's own)",
    )
    add(
        "--context",
        type=options.integer(1),
        default=CONTEXT,
        metavar="N",
        help=f"tokens that are read on each side of a gap (default {CONTEXT})",
    )
    options.add_temperature(parser)
    options.add_seed(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help="write the filled text there, all at once")
    where.add_argument("--in-place", action="store_true", help="write it to the file itself")
    add("--order", action="store_true", help="show which step wrote each byte")
    options.add_placement(parser)
    options.add_output(parser)


def denoise(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec denoise`."""
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("prompt", nargs="?", metavar="TEXT", help="text to continue")
    source.add_argument("--file", metavar="FILE", help="file to continue, - for stdin")
    options.add_target(parser, "code-block")
    add(
        "--method",
        default="threshold",
        metavar="NAME",
        help=f"which positions to fill when (default threshold; {LISTED})",
    )
    add(
        "--block",
        type=options.integer(1),
        metavar="N",
        help="tokens of a block (default: what a model of blocks was trained for, else the whole canvas)",
    )
    add(
        "--cache",
        metavar="NAME",
        help="what is not computed again in a step: none, block, prefix, dual, sub-block or frozen "
        "(default: block for a model of blocks, else none)",
    )
    add(
        "--branches",
        type=options.integer(1, options.LONGEST_DRAFT),
        metavar="N",
        help="canvases that freedave scores in a forward (default 4)",
    )
    add("--max-new-tokens", type=int, default=128, metavar="N", help="tokens at most (default 128)")
    options.add_temperature(parser)
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a knob of the method or the cache, such as threshold=0.8; repeatable",
    )
    options.add_seed(parser)
    options.add_text(parser)
    add(
        "--show",
        action="store_true",
        help="show the canvas while it fills, and which step wrote each byte",
    )
    options.add_placement(parser)
    options.add_output(parser)


def bench(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec bench`."""
    add = parser.add_argument
    add(
        "--methods",
        required=True,
        metavar="A,B,C",
        help=f"methods, such as draft,lookup,dynamic-tree ({LISTED}); plain decoding is always among them",
    )
    add(
        "--prompts",
        required=True,
        metavar="FILE",
        help=f"one prompt a line, or JSON lines with a text in one of {', '.join(FIELDS)}; - for stdin",
    )
    options.add_target(parser, "code-target")
    add(
        "--draft",
        metavar="NAME",
        help="checkpoint that drafts for the methods whose own is of its kind (default: each method's own)",
    )
    options.add_draft_sizes(parser)
    options.add_temperature(parser)
    add(
        "--max-new-tokens",
        type=options.integer(1),
        default=128,
        metavar="N",
        help="tokens a prompt; nothing ends one earlier (default 128)",
    )
    add(
        "--batch",
        type=options.integer(1),
        default=1,
        metavar="N",
        help="prompts decoded at once (default 1)",
    )
    add(
        "--repeats",
        type=options.integer(1),
        default=5,
        metavar="N",
        help="timed runs of each method, after one that is not (default 5)",
    )
    options.add_seed(parser)
    add("--json", type=Path, metavar="FILE", help="write all numbers there")
    add("--chart", type=Path, metavar="FILE", help="draw a bar chart there, such as bench.svg")


def train(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `jaxdec train`."""
    add = parser.add_argument
    add("name", metavar="NAME", help="a preset: the name of a shipped checkpoint")
    add("--folder", type=Path, help="of the run, which resumes there (default runs/NAME)")
    add("--export", type=Path, metavar="DIR", help="of the checkpoint (default FOLDER/export)")
    add("--packages", action="store_true", help="learn from installed packages too")
    add("--corpus", type=Path, metavar="DIR", help="learn from the *.py below a folder instead")
    add("--teacher", metavar="NAME", help="checkpoint to distil from, if the preset does")
    for name in (*RUN, *MODEL):
        add(
            f"--{name.replace('_', '-')}",
            type=options.integer(1),
            metavar="N",
            help="of the preset; a run that has ended takes more"
            if name == "steps"
            else "of the preset",
        )
    add("--seed", type=options.integer(0, options.LARGEST_SEED), metavar="N", help="of the preset")


def info(parser: argparse.ArgumentParser) -> None:
    """`jaxdec info` takes no options."""


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": (
        "Decodes real prompts plainly and speculatively, and compares text, forwards and speed.",
        demo,
    ),
    "generate": ("Continues prompts with any method; text is written as it is made.", generate),
    "infill": (
        "Fills marked gaps of a file, given all text around them; shown as they fill.",
        infill,
    ),
    "denoise": (
        "Continues a prompt by canvas decoding, several tokens a forward in any order; shown as the canvas fills.",
        denoise,
    ),
    "serve": (
        "Answers requests, lines of JSON, as they come: rows are refilled inside the compiled loop.",
        serve_options.add,
    ),
    "bench": (
        "Decodes prompts of a file with several methods in turns and compares them with plain decoding.",
        bench,
    ),
    "train": (
        "Trains a shipped model from its preset, resumes a killed run, and exports a checkpoint with its card.",
        train,
    ),
    "plan": (
        "Compiles a decode for TPUs that need not be there: memory, traffic, least time, and whether to speculate.",
        plan_options.add,
    ),
    "info": ("Shows versions, devices, shipped checkpoints and methods.", info),
}
"""What each command does, and what adds its options; it is run by the module of its name."""
