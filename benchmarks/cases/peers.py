"""The same weights, prompts and stops here and in transformers."""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax import nnx

from benchmarks import antibodies, packages
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import IDENTICAL, Row, number, spread, word
from benchmarks.peers import OURS, THEIRS, Ours, Task, Theirs, checkpoint_of, memory
from benchmarks.progress import each
from benchmarks.setting import QUICK, Setting
from benchmarks.workload import Prompts
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import Timing, compile_seconds, interleave, quartiles, ratios
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, TransformerConfig, huggingface

BARS = {
    ("shipped", "plain"): 6.0,
    ("IgLM", "plain"): 2.0,
    ("100M", "plain"): 1.7,
    ("shipped", "draft model"): 4.0,
    ("IgLM", "draft model"): 2.0,
}
"""Times faster than the same method of transformers."""
SAME = {"plain": "plain", "draft model": "assisted", "prompt lookup": "prompt lookup"}
"""Our methods, and what they are there."""


def _shape(width: int, layers: int, hidden: int, vocab: int = 32_000) -> TransformerConfig:
    heads = width // 64
    return TransformerConfig(
        vocab_size=vocab,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads // 4,
        head_dim=64,
        hidden=hidden,
    )


SHAPES = {
    "tiny": _shape(256, 2, 128, vocab=64),
    "100M": _shape(768, 12, 2048),
    "350M": _shape(1024, 24, 3328),
}
"""Of random models; like Llama."""
PROMPT, TOKENS = 64, 32
"""Tokens of their prompts, and new ones."""


def tasks(setting: Setting, folder: Path) -> Iterator[Task]:
    """What is decoded; the shipped pair and random models are written to the folder as Hugging Face files."""
    scale = setting.scale
    yield Task(
        "shipped",
        checkpoint_of(folder / "target", setting.target),
        checkpoint_of(folder / "draft", setting.draft),
        setting.prompts(scale.prompts),
        scale.tokens,
    )
    try:
        numbers = packages.vocabulary("iglm")
    except ValueError as error:
        if scale != QUICK:
            raise
        print(f"left out of a quick run: {error}", file=sys.stderr)
    else:
        held, _ = antibodies.prompts(numbers, scale.prompts, ("begun",))
        barred = antibodies.banned(numbers, "[CLS]", "[SEP]", "[MASK]")
        pair = (packages.path(name) for name in ("iglm", "iglm-s"))
        yield Task("IgLM", *pair, held, scale.tokens, (numbers["[CLS]"],), barred)
    for name in scale.shapes:
        yield random_task(name, folder, min(scale.tokens, TOKENS))


def random_task(name: str, folder: Path, tokens: int) -> Task:
    """A model of a shape with random weights, and one random prompt."""
    config = SHAPES[name]
    _, params = from_nnx(Transformer(config, rngs=nnx.Rngs(0)))
    huggingface.save(folder / name, params, config, "llama")
    prompt = np.random.default_rng(0).integers(3, config.vocab_size, (1, PROMPT), np.int32)
    return Task(name, folder / name, None, Prompts(prompt, np.array([PROMPT])), tokens)


def run(setting: Setting) -> list[Row]:
    """One row a pair of weights, side and method."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        # One after another, so that the weights of one are gone before those of the next are made.
        for task in each_lazily(tasks(setting, Path(folder)), 2 + len(setting.scale.shapes)):
            rows += compared(task, setting.scale.peers)
    return rows


def each_lazily(found: Iterator[Task], count: int) -> Iterator[Task]:
    """The tasks, each made when it begins."""
    for _ in each(range(count), lambda place: f"weights {place + 1}"):
        task = next(found, None)
        if task is not None:
            yield task


def compared(task: Task, repeats: int) -> list[Row]:
    """The rows of a task: all methods of both sides in turns."""
    ours, theirs = Ours(task), Theirs(task)
    methods = [theirs.method(name) for name in theirs.options()]
    methods += [ours.method(name) for name in ours.decoders()]
    methods += [side.method("plain", tokens=1) for side in (ours, theirs)]
    compiled = {method.name: compile_seconds(method) for method in methods}
    timings = interleave(methods, repeats=repeats)
    parameters = ours.target.size
    expected = timings[f"{THEIRS}: plain"].output
    needs = {OURS: memory(OURS, task), THEIRS: memory(THEIRS, task)}
    rows = []
    for side, names in ((THEIRS, theirs.options()), (OURS, ours.decoders())):
        first = timings[f"{side}: plain first"].median
        for name in names:
            timing = timings[f"{side}: {name}"]
            texts = timing.output if side == THEIRS else new_tokens(timing.output)
            tokens = sum(map(len, texts))
            forwards = (
                theirs.forwards[name]
                if side == THEIRS
                else counts(timing.output)["target_forwards"] + len(texts)  # each prompt is one
            )
            rows.append(
                {
                    "weights": task.name,
                    "parameters": parameters,
                    "side": side,
                    "method": name,
                    "prompts": len(texts),
                    "prompt_tokens": int(task.prompts.lengths.sum()),
                    "tokens": tokens,
                    "repeats": repeats,
                    "seconds": timing.median,
                    "seconds_quartiles": quartiles(timing.seconds),
                    "tokens_per_second": tokens / timing.median,
                    "first_token_seconds": first / len(texts),
                    "step_seconds": (timing.median - first) / max(tokens - len(texts), 1),
                    "tokens_per_call": tokens / forwards,
                    "compile_seconds": compiled[f"{side}: {name}"],
                    "memory": needs[side]["peak"],
                    "memory_of_imports": needs[side]["imports"],
                    "memory_beside_imports": needs[side]["peak"] - needs[side]["imports"],
                    "identical": identical(texts, expected),
                    **against(task.name, side, name, timings),
                }
            )
    return rows


def against(weights: str, side: str, name: str, timings: dict[str, Timing]) -> Row:
    """How many times faster one of our methods is than the same one there."""
    if side == THEIRS:
        return {"times": None, "bar": None}
    over = ratios(timings[f"{THEIRS}: {SAME[name]}"], timings[f"{OURS}: {name}"])
    return {
        "times": statistics.median(over),
        "times_quartiles": quartiles(over),
        "bar": BARS.get((weights, name)),
    }


CASE = Case(
    name="peers",
    order=22,
    about=(
        "The same weights, prompts and stops in transformers and here: float32, temperature 0, one prompt at a time, "
        "whole calls of `generate` with their prompts, in turns in one process. Shipped pair; IgLM and IgLM-S; random "
        "models in the shape of a Llama."
    ),
    models=CAUSAL,
    columns=(
        ("weights", word("weights")),
        ("parameters", number("parameters", ".1f", 1e-6)),
        ("side", word("side")),
        ("method", word("method")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        ("times the same there", spread("times", ".2f")),
        ("bar", number("bar", ".1f")),
        ("ms a token", number("step_seconds", ".2f", 1e3)),
        ("first token ms", number("first_token_seconds", ".1f", 1e3)),
        ("tokens/forward", number("tokens_per_call", ".2f")),
        IDENTICAL,
        ("compile s", number("compile_seconds", ".1f")),
        ("peak GB", number("memory", ".2f", 1e-9)),
        ("beside imports", number("memory_beside_imports", ".2f", 1e-9)),
    ),
    legend=(
        "*ms a token*: after the first one. *tokens/forward*: the forward of the prompt is counted. *identical*: share "
        "of tokens equal to those of plain decoding in transformers. *assisted* and *static cache* have the settings "
        "that transformers proposes; *prompt lookup* copies up to 8 tokens on both sides; *draft model* drafts 4 a "
        "step. *peak GB*: of a process of its own that loads the weights and decodes, by the small model where there "
        "is one; *beside imports*: without what the packages take before anything is loaded. transformers uses as many "
        "threads as there are cores."
    ),
    labels=("weights", "side", "method"),
    run=run,
    modules=("torch", "transformers"),
)
