"""Byte by byte from a model of tokens: what a byte costs beside a token."""

import itertools
from collections import Counter

import jax
import numpy as np

import jaxdec
from benchmarks.case import Case
from benchmarks.columns import Row, number, word
from benchmarks.setting import Setting
from jaxdec import autoregressive, byte_level, text
from jaxdec.measuring.timing import Method, interleave, ratios
from jaxdec.models import TransformerConfig
from jaxdec.training.trainer import build

MERGES = 192


def pairs(source: bytes, count: int) -> list[tuple[int, int, int]]:
    """Merges of two bytes each, the most frequent of a text, as `(first, second, merged)`."""
    frequent = Counter(itertools.pairwise(source)).most_common(count)
    return [(*pair, text.VOCAB_SIZE + i) for i, (pair, _) in enumerate(frequent)]


def run(setting: Setting) -> list[Row]:
    """Plain decoding of tokens, and decoding of bytes from the same model, with and without tables."""
    scale = setting.scale
    merges = pairs(setting.corpus.train[0].content, MERGES)
    size = text.VOCAB_SIZE + len(merges)
    config = TransformerConfig(size, 256, 4, 4, 2, 64, 512)
    model, params = build(config, 0)
    pieces = [bytes([i]) if i < 256 else b"" for i in range(text.VOCAB_SIZE)]
    pieces += [pieces[a] + pieces[b] for a, b, _ in merges]
    prompts = setting.prompts(4)
    asked = dict(lengths=prompts.lengths, rng=0, max_new_tokens=scale.tokens, eos=())
    decoder = byte_level.byte_level(byte_level.member(model, start=text.BOS, ends=(text.EOS,)))
    tables = {
        "bytes, with merges": byte_level.byte_tokens(pieces=pieces, merges=merges),
        "bytes, no table of pairs": byte_level.byte_tokens(pieces=pieces, pairs=False),
    }

    def tokens(_: object) -> object:
        return jaxdec.generate(autoregressive(model), {"target": params}, prompts.tokens, **asked)

    work = [Method("tokens", tokens)]
    for name, table in tables.items():
        own = {"target": params, "bytes": table}
        work.append(
            Method(name, lambda _, own=own: jaxdec.generate(decoder, own, prompts.tokens, **asked))
        )
    timings, rows = interleave(work, repeats=scale.repeats), []
    for method in work:
        timing = timings[method.name]
        made = np.asarray(timing.output.lengths - timing.output.prompt_lengths).sum()
        rows.append(
            {
                "method": method.name,
                "vocabulary": size,
                "parameters": sum(np.size(x) for x in jax.tree.leaves(params)),
                "prompts": len(prompts),
                "new_tokens": scale.tokens,
                "seconds": timing.median,
                "unit_seconds": timing.median / scale.tokens,
                "times_tokens": float(np.median(ratios(timing, timings["tokens"]))),
                "forwards": float(np.asarray(timing.output.stats.target_forwards).sum() / made),
            }
        )
    return rows


CASE = Case(
    name="byte_level",
    order=33,
    about=(
        "Decoding byte by byte with the exact laws of a model of tokens, against decoding its tokens: a random network "
        "with 192 merges of two bytes, of which costs are measured and no text is judged. Prompts are read inside the "
        "clock on both sides."
    ),
    models=None,
    columns=(
        ("method", word("method")),
        ("parameters", number("parameters", ".1f", 1e-6)),
        ("vocabulary", number("vocabulary", "d")),
        ("ms a symbol", number("unit_seconds", ".3f", 1e3)),
        ("times tokens", number("times_tokens", ".2f")),
        ("forwards a symbol", number("forwards", ".2f")),
    ),
    legend="""\
A symbol is a token, or a byte; the prompt of bytes costs a forward each. A table of merges rules out strings of tokens
that encode no text.
""",
    labels=("method",),
    run=run,
)
