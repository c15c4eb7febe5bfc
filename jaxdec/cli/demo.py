"""Decodes real prompts plainly and speculatively, and compares text, forwards and speed."""

import argparse
import dataclasses
import statistics

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxdec
from jaxdec import catalogue
from jaxdec.cli import loading
from jaxdec.cli.decode import Decoded, live, whole
from jaxdec.cli.display import DRAFTED, LEGEND, OWN, Page, output, waiting
from jaxdec.decoding import Decoder, Request
from jaxdec.model import Params
from jaxdec.text import Tokenizer

PROMPTS = (
    '''class Stack:
    """A last-in, first-out stack."""

    def __init__(self):
        self._items = []

    def push(self, item):
''',
    '''def read_config(path, encoding="utf-8"):
    """Return the settings in a file as a dictionary."""
    settings = {}
    with open(path, encoding=encoding) as file:
        for line in file:
''',
    """import unittest


class TestParser(unittest.TestCase):

    def setUp(self):
        self.parser = Parser()

    def test_empty(self):
        self.assertEqual(self.parser.parse(""), [])

    def test_""",
    """    def __eq__(self, other):
        if not isinstance(other, Point):
            return NotImplemented
        return self.x == other.x and self.y == other.y

    def __lt__(self, other):
""",
)
TEMPERATURES = (0.0, 0.8)
METHODS = {"autoregressive": "plain", "draft": "draft model", "lookup": "prompt lookup"}
ROUNDS = 3

COLUMNS = """\
T               temperature; 0 is greedy
tokens/forward  new tokens a forward of the target, averaged over all prompts
acceptance      drafted tokens that were kept, of those that were checked
tokens/s        new tokens a second, all prompts as one batch, compilation and reading the prompts apart; \
the median of {rounds} runs
x plain         that speed relative to plain decoding at the same temperature
identical       whether every token of every prompt equals that of plain decoding with the same key (compared here)"""


@dataclasses.dataclass(frozen=True)
class _Case:
    """A method at a temperature, ready to decode."""

    method: str
    temperature: float
    decoder: Decoder
    request: Request


def run(arguments: argparse.Namespace) -> None:
    """Decodes and prints.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if a law is not finite.
    """
    console = output()
    target = loading.load(arguments.target)
    draft = loading.load(arguments.draft or catalogue.METHODS["draft"].draft)
    params = {"target": target.params, "draft": draft.params}
    console.print(
        f"target {target.name}: {target.size:,} parameters; draft {draft.name}: {draft.size:,} parameters; "
        f"device: {loading.device()}",
        soft_wrap=True,
    )
    parts = catalogue.Parts(target.model, draft.model)
    tokenizer = loading.tokenizer(target)
    tokens, lengths = tokenizer.encode_batch(PROMPTS)
    cases = []
    for temperature in TEMPERATURES:
        for method in METHODS:
            decoder = catalogue.find(method).make(parts)
            request = jaxdec.prepare(
                decoder,
                params,
                np.asarray(tokens),
                max_new_tokens=arguments.max_new_tokens,
                lengths=lengths,
                eos=(),  # texts of equal length make fair timings
                temperature=temperature,
            )
            cases.append(_Case(method, temperature, decoder, request))
    rng = jax.random.key(arguments.seed)
    for case in cases:
        if case.method == "draft":
            _write(console, case, params, rng, tokenizer)
    # One after another in each round, so that a busy machine slows all methods alike.
    rounds = [
        [whole(case.decoder, params, case.request, rng, waiting) for case in cases]
        for _ in range(ROUNDS)
    ]
    console.print(_table(cases, rounds))
    for line in COLUMNS.format(rounds=ROUNDS).splitlines():
        console.print(Text(line, "dim"), soft_wrap=True)


def _write(
    console: Console, case: _Case, params: Params, rng: jax.Array, tokenizer: Tokenizer
) -> None:
    """Shows the texts as they are written."""
    console.print()
    console.rule(f"draft-model speculation at temperature {case.temperature:g}", align="left")
    console.print(LEGEND)
    console.print()
    page = Page(console, len(PROMPTS), tokenizer)

    def begin():
        for row, prompt in enumerate(PROMPTS):
            page.prompt(row, tokenizer.to_ids(prompt))

    def show(row, new, drafted, ended):
        page.add(row, new, [DRAFTED if mark else OWN for mark in drafted])
        if ended:
            page.say(row, "\n")
            page.end(row)

    live(case.decoder, params, case.request, rng, show, begin=begin, waiting=waiting)


def _table(cases: list[_Case], rounds: list[list[Decoded]]) -> Table:
    """A row a case; the plain method of each temperature comes first and is what the others are compared with."""
    table = Table("method", box=box.SIMPLE, padding=0)  # fits 80 columns
    for name in ("T", "tokens/forward", "acceptance", "tokens/s", "x plain", "identical"):
        table.add_column(name, justify="right", no_wrap=True)
    plain, plain_speed = rounds[0][0], 0.0
    for i, case in enumerate(cases):
        decoded = rounds[0][i]
        speed = statistics.median(each[i].speed or 0.0 for each in rounds)
        if case.method == "autoregressive":
            plain, plain_speed = decoded, speed
        table.add_row(
            METHODS[case.method],
            f"{case.temperature:g}",
            f"{decoded.tokens_per_forward:.2f}",
            "" if decoded.acceptance is None else f"{decoded.acceptance:.0%}",
            f"{speed:.0f}",
            f"{speed / plain_speed:.2f}" if plain_speed else "",
            "" if decoded is plain else _identical(decoded, plain),
        )
    return table


def _identical(decoded: Decoded, plain: Decoded) -> str:
    equal = [a == b for a, b in zip(decoded.tokens, plain.tokens, strict=True)]
    return "yes" if all(equal) else f"no ({equal.count(False)} of {len(equal)} prompts differ)"
