"""IgLM, an antibody language model with a small one beside it, from a package of the Python index."""

import dataclasses

import jax
import numpy as np

import jaxdec
from benchmarks import antibodies, packages
from benchmarks.agreement import first_differences
from benchmarks.case import Case
from benchmarks.columns import (
    EXACTNESS,
    IDENTICAL,
    METHOD,
    TEMPERATURE,
    Row,
    differences,
    number,
    spread,
    word,
)
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compare, compile_all
from benchmarks.variants import build, drafting, plain
from benchmarks.workload import Variant, Workload
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts, identical, new_tokens

TEMPERATURES = (0.0, 1.0)
LONG = ("begun", "first loop")
"""Prompts that a whole domain follows, for the clock."""
CLOCKS = ("seconds", "prefill_seconds", "compile_seconds", "tokens_per_second", "wall_ratio")


def run(setting: Setting) -> list[Row]:
    """One row a method and temperature."""
    numbers, scale = packages.vocabulary("iglm"), setting.scale
    target, draft = (jaxdec.load(packages.path(name)) for name in ("iglm", "iglm-s"))
    own = dataclasses.replace(setting, target=target, draft=draft)
    held, of = antibodies.prompts(numbers, scale.antibodies)
    long, _ = antibodies.prompts(numbers, scale.prompts, LONG)
    barred = antibodies.banned(numbers, "[CLS]", "[SEP]", "[MASK]")
    variants = [dataclasses.replace(variant, knobs={"banned": barred}) for variant in methods(own)]
    rows = []
    for temperature in each(TEMPERATURES, "temperature {:g}".format):
        shared = (scale.tokens, temperature, target.model.eos)
        clocked = Workload(long, 1, *shared)
        compile_all(variants, clocked)
        timed, _ = compare(own, variants, clocked, {}, target="IgLM")
        found = counted(variants, Workload(held, len(held), *shared), of)
        for row, other in zip(found, timed, strict=True):
            assert row["method"] == other["method"]
            clocks = {name: other[name] for name in other if name.startswith(CLOCKS)}
            rows.append({**row, **clocks, "timed_tokens": other["tokens"]})
    return rows


def methods(setting: Setting) -> list[Variant]:
    """Plain decoding, the small model's chains and trees, and drafts that cost nothing."""
    longest = setting.scale.lengths[-1]
    found = [
        plain(setting.target.model, setting.target.params),
        *(drafting(setting, length) for length in setting.scale.lengths),
        build(setting, "dynamic-tree"),
        build(setting, "sequoia"),
        build(setting, "rsd-s"),
        build(setting, "recycling"),
        build(setting, "lookup", longest, name=f"prompt lookup {longest}"),
    ]
    return found[: setting.scale.speculations and setting.scale.speculations + 1]


def counted(variants: list[Variant], workload: Workload, of: np.ndarray) -> list[Row]:
    """What each method does without a clock; the first one is the baseline."""
    rows, expected = [], None
    for variant in variants:
        timing = workload.method(variant)
        (result,) = decoded = jax.block_until_ready(timing.work(timing.setup()))
        found = new_tokens(decoded)
        expected = found if expected is None else expected
        drafter = getattr(variant.decoder, "drafter", None)
        rows.append(
            {
                "method": variant.name,
                "about": variant.about,
                "exactness": variant.decoder.exactness.value,
                "temperature": workload.temperature,
                "nodes": drafter and drafter.nodes,
                "depth": drafter and drafter.depth,
                "prompts": len(found),
                "prompt_tokens": int(workload.prompts.lengths.sum()),
                "new_tokens": workload.new_tokens,
                **counts(decoded),
                "tokens_per_forward_error": antibodies.error(per_forward(result), of),
                "identical": identical(found, expected),
                "identical_rows": sum(map(np.array_equal, found, expected)),
                "first_differences": first_differences(variants[0], workload, found, expected),
                **antibodies.variety(found),
            }
        )
    return rows


def per_forward(result: Result) -> np.ndarray:
    """Tokens a forward of each row."""
    written = np.asarray(result.lengths) - np.asarray(result.prompt_lengths)
    return written / np.asarray(result.stats.target_forwards)


CASE = Case(
    name="iglm",
    order=20,
    about=(
        "IgLM 0.1.0 (12.9M parameters) continues antibodies and fills masked spans of them in its own format; IgLM-S "
        "(1.4M) of the same package drafts. A text ends at [CLS], as in the package. Counts are of all prompts in one "
        "batch; clocks of the long ones, one at a time."
    ),
    models=None,
    columns=(
        TEMPERATURE,
        METHOD,
        ("nodes", word("nodes")),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("standard error", number("tokens_per_forward_error", ".2f")),
        ("acceptance", number("acceptance", ".1%")),
        ("times plain", spread("wall_ratio", ".2f")),
        ("tokens/s", number("tokens_per_second", ".0f")),
        IDENTICAL,
        ("differs from plain in", differences),
        ("entropy", number("entropy", ".2f")),
        ("repetition", number("repetition", ".1%")),
        ("prompts", word("prompts")),
        ("tokens", word("tokens")),
        ("prefill s", number("prefill_seconds", ".3f")),
        ("compile s", number("compile_seconds", ".1f")),
        EXACTNESS,
    ),
    legend=(
        "The weights are fetched from the package index by `python -m benchmarks.packages` and are no part of this "
        "repository; their licence (JHU Academic Software License) allows non-commercial use. *standard error*: of "
        "tokens a forward, over the sequences that the prompts come from. *entropy*: of the residues of one text, in "
        "bits; *repetition*: the share of runs of four that the text held before; means over texts."
    ),
    labels=("temperature", "method"),
    run=run,
    check=lambda: [packages.path(name) for name in ("iglm", "iglm-s")],
)
