"""What is decoded, and by what: held-out prompts, decoders with their parameters, and the facts of a decode."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.runner import Method
from jaxdec import text
from jaxdec.decoding import Decoder, Record, init, run
from jaxdec.generation import Result, prepare, result
from jaxdec.sampling import row_keys
from jaxdec.training.corpus import Source

SHORTEST, LONGEST = 129, 256  # one bucket of widths, so that all prompts share a program


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Windows of text.

    Attributes:
      tokens: int32 `[N, LONGEST]`, right-padded.
      lengths: int32 `[N]`.
    """

    tokens: np.ndarray
    lengths: np.ndarray

    def __getitem__(self, rows: slice) -> "Prompts":
        return Prompts(self.tokens[rows], self.lengths[rows])


def prompts(sources: tuple[Source, ...], count: int) -> Prompts:
    """Windows from the middle of files, in the files' order; a file gives a second one only after all gave one.

    Each starts with a line and is cut anywhere; the lengths spread over [SHORTEST, LONGEST].

    Raises:
      ValueError: if no file is long enough.
    """
    long = [source.content for source in sources if len(source.content) >= 4 * LONGEST]
    if not long:
        raise ValueError(f"no file of at least {4 * LONGEST} bytes among {len(sources)}")
    rounds = -(-count // len(long))
    tokens = np.full((count, LONGEST), text.PAD, np.int32)
    lengths = SHORTEST + np.arange(count) * 37 % (LONGEST - SHORTEST + 1)
    for row, length in enumerate(lengths):
        content = long[row % len(long)]
        middle = len(content) * (row // len(long) + 1) // (rounds + 1)
        start = min(content.find(b"\n", middle) + 1, len(content) - LONGEST)
        tokens[row, :length] = text.to_ids(content[start : start + length])
    return Prompts(tokens, lengths)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A decoder under test.

    Attributes:
      name: how rows call it.
      decoder: the algorithm.
      params: of its parts.
      length: drafts a step.
      about: what a control should show, or how the method came about.
    """

    name: str
    decoder: Decoder
    params: Any
    length: int = 0
    about: str = ""


@dataclasses.dataclass(frozen=True)
class Workload:
    """What every method of a comparison decodes: the prompts in groups of `batch`, one group after another.

    EOS is off, so that every method gives the same number of tokens.
    """

    prompts: Prompts
    batch: int
    new_tokens: int
    temperature: float

    def requests(self, variant: Variant) -> list[Any]:
        """One request a group."""
        return [
            prepare(
                variant.decoder,
                variant.params,
                self.prompts.tokens[start : start + self.batch],
                lengths=self.prompts.lengths[start : start + self.batch],
                max_new_tokens=self.new_tokens,
                temperature=self.temperature,
                eos=(),
            )
            for start in range(0, len(self.prompts.lengths), self.batch)
        ]

    def keys(self) -> list[jax.Array]:
        """Row keys of each group; a prompt has the same key at every batch size."""
        count = len(self.prompts.lengths)
        keys = row_keys(jax.random.key(0), count)
        return [keys[start : start + self.batch] for start in range(0, count, self.batch)]

    def method(self, variant: Variant) -> Method:
        """Decoding as a timed method: the prompts are read in the set-up, the loops are the work."""
        decoder, params = variant.decoder, variant.params
        requests, keys = self.requests(variant), self.keys()

        def setup():
            states = [init(decoder, params, request) for request in requests]
            return [(state, Record.start(state.rows)) for state in states]

        def work(held):
            return [
                result(*run(decoder, params, state, key, record=record))
                for (state, record), key in zip(held, keys, strict=True)
            ]

        return Method(variant.name, work, setup)


def new_tokens(results: list[Result]) -> list[np.ndarray]:
    """The tokens that each row added to its prompt."""
    rows = []
    for part in results:
        spans = zip(np.asarray(part.prompt_lengths), np.asarray(part.lengths), strict=True)
        rows += [row[a:b] for row, (a, b) in zip(np.asarray(part.tokens), spans, strict=True)]
    return rows


def counts(results: list[Result]) -> dict[str, Any]:
    """Forwards and drafts over all rows, and the trips of the loops (the slowest row of each group)."""
    stats = [result.stats for result in results]
    total = lambda name: sum(int(getattr(s, name).sum()) for s in stats)
    proposed = total("proposed")
    tokens = sum(int((r.lengths - r.prompt_lengths).sum()) for r in results)
    return {
        "tokens": tokens,
        "target_forwards": total("target_forwards"),
        "tokens_per_forward": tokens / total("target_forwards"),
        "acceptance": total("accepted") / proposed if proposed else None,
        "loop_steps": sum(int(s.target_forwards.max()) for s in stats),
    }


def identical(rows: list[np.ndarray], baseline: list[np.ndarray]) -> float:
    """The share of places at which rows hold the baseline's token; a missing token differs."""
    places = sum(max(len(a), len(b)) for a, b in zip(rows, baseline, strict=True))
    equal = 0
    for a, b in zip(rows, baseline, strict=True):
        shared = min(len(a), len(b))
        equal += int((a[:shared] == b[:shared]).sum())
    return equal / places


def nbytes(tree: Any) -> int:
    """Bytes of all arrays (or their shapes) in a tree."""
    return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))
