"""The cases: what is compared, and the rows that come of it."""

import dataclasses
import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxdec
from benchmarks import costs
from benchmarks.agreement import tokens_per_forward
from benchmarks.any_subset import any_subset_cache, any_subset_forwards, any_subset_grown
from benchmarks.diffusion import diffusion, diffusion_cache
from benchmarks.infilling import infilling
from benchmarks.kernels import kernels
from benchmarks.optimal import optimal_acceptance
from benchmarks.setting import (
    QUICK,
    Row,
    Scale,
    Setting,
    compile_all,
    compiling,
    controls,
    drafting,
    lookup,
    model_of,
    plain,
    size_labels,
    sizes,
)
from benchmarks.speculation import CURVES, build, speculation
from benchmarks.workload import Variant, Workload, nbytes
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import init, target_params
from jaxdec.measuring import machine
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import Timing, interleave, quartiles, ratios
from jaxdec.training.corpus import Corpus


def traffic(variant: Variant, batch: int, capacity: int, trips: int) -> int:
    """Bytes of weights and cache that the loops read: every forward reads all weights and the whole cache."""

    def forward(model, params):
        return nbytes(params) + nbytes(jax.eval_shape(lambda: model.init_cache(batch, capacity)))

    drafter = getattr(variant.decoder, "drafter", None)
    total = trips * forward(variant.decoder.model, target_params(variant.params))
    if drafter is not None and drafter.forwards:
        one = forward(drafter.model, variant.params[drafter.params_key])
        total += trips * drafter.forwards * one
    return total


def compare(
    setting: Setting,
    variants: list[Variant],
    workload: Workload,
    known: dict[str, costs.Costs],
    **labels: Any,
) -> tuple[list[Row], list[np.ndarray]]:
    """Decodes with every variant in turns; the first one is the baseline.

    Returns:
      One row a variant, and the baseline's new tokens.
    """
    timings = interleave(
        [workload.method(variant) for variant in variants], repeats=setting.scale.repeats
    )
    baseline = timings[variants[0].name]
    tokens = new_tokens(baseline.output)
    rows = []
    for variant in variants:
        timing, first = timings[variant.name], variant is variants[0]
        counted = counts(timing.output)
        capacity = workload.requests(variant)[0].capacity
        read = traffic(variant, workload.batch, capacity, counted["loop_steps"])
        cost = known.get(variant.name)
        ratio = ratios(baseline, timing)
        row = {
            **labels,
            "method": variant.name,
            "about": variant.about,
            "exactness": variant.decoder.exactness.value,
            "batch": workload.batch,
            "temperature": workload.temperature,
            "draft_length": variant.length,
            "prompts": len(workload.prompts.lengths),
            "prompt_tokens": int(workload.prompts.lengths.sum()),
            "new_tokens": workload.new_tokens,
            **counted,
            "identical": None if first else identical(new_tokens(timing.output), tokens),
            **timed(timing),
            "compile_seconds": compiling(variant, workload),
            "tokens_per_second": counted["tokens"] / timing.median,
            "wall_ratio": None if first else statistics.median(ratio),
            "wall_ratio_quartiles": None if first else quartiles(ratio),
            "end_to_end_ratio": None if first else end_to_end(baseline) / end_to_end(timing),
            "bytes_per_second": read / timing.median,
            "bandwidth_share": read / timing.median / setting.bandwidth,
            "verify_ratio": cost and cost.verify_ratio,
            "draft_ratio": cost and cost.draft_ratio,
            "predicted_ratio": cost and cost.speedup(counted["tokens_per_forward"], variant.length),
        }
        rows.append(row)
    return rows, tokens


def timed(timing: Timing) -> Row:
    """Seconds of the loops and of reading the prompts."""
    return {
        "seconds": timing.median,
        "seconds_quartiles": quartiles(timing.seconds),
        "prefill_seconds": timing.setup_median,
        "repeats": len(timing.seconds),
    }


def end_to_end(timing: Timing) -> float:
    """Seconds of reading the prompts and decoding."""
    return timing.median + timing.setup_median


def pair(setting: Setting) -> list[Row]:
    """The shipped pair: plain, a draft model, prompt lookup and two controls, by batch and temperature."""
    scale, rows = setting.scale, []
    middle = scale.lengths[len(scale.lengths) // 2]
    speculations = [drafting(setting, length) for length in scale.lengths]
    speculations += [lookup(setting, scale.lengths[-1]), *controls(setting, middle)]
    variants = [plain(setting.target.model, setting.target.params), *speculations]
    for batch in scale.batches:
        known = None
        for temperature in scale.temperatures:
            held = setting.prompts(max(batch, scale.prompts))
            workload = Workload(held, batch, scale.tokens, temperature)
            compile_all(variants, workload)
            if known is None:  # the cost of a forward does not depend on the temperature
                known = costs.measure(
                    speculations, workload, steps=scale.steps, repeats=scale.repeats
                )
            rows += compare(setting, variants, workload, known)[0]
    return rows


def grown(setting: Setting) -> list[Row]:
    """Targets of growing cost and equal text at temperature 0: plain, some lengths, and the automatic one.

    The length is chosen on other prompts than those that are timed.
    """
    scale, rows = setting.scale, []
    batch = scale.batches[0]
    held = setting.prompts(2 + batch)  # two to time, the others to tune on
    reference = None
    for label, config, params in sizes(setting, scale.grown):
        model = model_of(config, setting.target.model.eos)
        variants = [plain(model, params)]
        variants += [drafting(setting, length, model, params) for length in scale.lengths]
        workload = Workload(held[:2], batch, scale.tokens, 0.0)
        compile_all(variants, workload)
        known = costs.measure(variants[1:], workload, steps=scale.steps, repeats=scale.repeats)
        choice = jaxdec.auto_draft_length(
            model,
            lambda length: jaxdec.drafters.model(setting.draft.model, length=length),
            {"target": params, "draft": setting.draft.params},
            held.tokens[2:],
            rng=jax.random.key(1),
            lengths=scale.lengths,
            # Fewer than are timed, but of the same bucket: nothing compiles again.
            new_tokens=3 * scale.tokens // 4,
            prompt_lengths=held.lengths[2:],
            temperature=0.0,
            eos=(),
        )
        auto = Variant(
            "auto", choice.decoder, variants[1].params, choice.length, f"chose {choice.length}"
        )
        variants.append(auto)
        if choice.length:
            known["auto"] = known[f"draft {choice.length}"]
        labels = size_labels(label, config, params)
        new, text = compare(setting, variants, workload, known, **labels)
        reference = text if reference is None else reference
        for row in new:
            row["same_text_as_shipped"] = identical(text, reference)
        rows += new
    return rows


def speculation_grown(setting: Setting) -> list[Row]:
    """Seconds against plain decoding for a few drafters, on a grown target at batch 1: trees of 16 nodes, and others.

    The text is that of the shipped target.
    """
    scale, rows = setting.scale, []
    goals = scale.grown and scale.grown[1:2]  # 25M
    label, config, params = sizes(setting, goals)[-1]
    model = model_of(config, setting.target.model.eos)
    target = dataclasses.replace(setting.target, model=model, params=params)
    named = [(name, depth(16), 16) for name, depth in CURVES.items()]
    named += [(name, None, None) for name in ("draft", "lookup", "recycling")]
    variants = [plain(model, params)]
    for name, depth, nodes in named[: scale.speculations]:
        found = build(setting, name, depth, nodes, target)
        about = "" if nodes is None else f"{nodes} nodes"
        variants.append(dataclasses.replace(found, about=about))
    for temperature in scale.temperatures:
        workload = Workload(setting.prompts(2), 1, scale.tokens, temperature)
        compile_all(variants, workload)
        rows += compare(setting, variants, workload, {}, **size_labels(label, config, params))[0]
    return rows


def step_overhead(setting: Setting) -> list[Row]:
    """A plain decoding step in its loop against a bare forward of one token in a loop, with the same cache.

    The step also draws the token, stores the cache entry, tests the stops and keeps the record.
    """
    scale, rows = setting.scale, []
    batch = scale.batches[0]
    goals = scale.grown and scale.grown[1:2]  # 25M
    for label, config, params in sizes(setting, goals):
        variant = plain(model_of(config, setting.target.model.eos), params)
        for temperature in scale.temperatures:
            workload = Workload(setting.prompts(batch), batch, scale.tokens, temperature)
            cache = init(variant.decoder, variant.params, workload.requests(variant)[0]).cache
            bare = costs.forward_method(
                "bare", variant.decoder.model, params, cache, 1, scale.tokens
            )
            timings = interleave([workload.method(variant), bare], repeats=scale.repeats)
            step, forward = timings["plain"], timings["bare"]
            ratio = ratios(step, forward)
            read = traffic(variant, batch, cache.capacity, scale.tokens)
            rows.append(
                {
                    **size_labels(label, config, params),
                    "batch": batch,
                    "temperature": temperature,
                    "new_tokens": scale.tokens,
                    "step_seconds": step.median / scale.tokens,
                    "forward_seconds": forward.median / scale.tokens,
                    "overhead": statistics.median(ratio),
                    "overhead_quartiles": quartiles(ratio),
                    "bar": 1.15,
                    **timed(step),
                    "bytes_per_second": read / step.median,
                    "bandwidth_share": read / step.median / setting.bandwidth,
                }
            )
    return rows


@dataclasses.dataclass(frozen=True)
class Models:
    """The pair of checkpoints that a case is for, by name; others of the same kind can take their place.

    Attributes:
      target: is decoded.
      second: drafts, or judges what was written.
      kinds: of the two models, see `kind`.
      role: of the second one, `"draft"` or `"judge"`.
    """

    target: str
    second: str
    kinds: tuple[str, str]
    role: str = "draft"


CAUSAL = Models("code-target", "code-draft", ("causal", "causal"))
ANY_SUBSET = Models("code-infill", "code-infill-draft", ("any-subset", "any-subset"))
CANVAS = Models("code-block", "code-target", ("canvas", "causal"), role="judge")


@dataclasses.dataclass(frozen=True)
class Case:
    """A comparison: `run` makes its rows, and its docstring says what is compared; `models` is None without models."""

    run: Callable[[Setting], list[Row]]
    models: Models | None


CASES = {
    "pair": Case(pair, CAUSAL),
    "grown": Case(grown, CAUSAL),
    "step_overhead": Case(step_overhead, CAUSAL),
    "tokens_per_forward": Case(tokens_per_forward, CAUSAL),
    "speculation": Case(speculation, CAUSAL),
    "speculation_grown": Case(speculation_grown, CAUSAL),
    "optimal_acceptance": Case(optimal_acceptance, CAUSAL),
    "any_subset": Case(any_subset_forwards, ANY_SUBSET),
    "any_subset_grown": Case(any_subset_grown, ANY_SUBSET),
    "any_subset_cache": Case(any_subset_cache, ANY_SUBSET),
    "infilling": Case(infilling, ANY_SUBSET),
    "diffusion": Case(diffusion, CANVAS),
    "diffusion_cache": Case(diffusion_cache, CANVAS),
    "kernels": Case(kernels, None),
}


def kind(model: jaxdec.Model) -> str:
    """What a model predicts: the next token, any subset, or a canvas."""
    if model.any_subset:
        return "any-subset"
    return "canvas" if model.canvas else "causal"


def check(name: str, target: Checkpoint | None, second: Checkpoint | None) -> None:
    """Raises `ValueError` if there is no such case, or the checkpoints are not for it or not for each other."""
    if name not in CASES:
        raise ValueError(f"no case {name!r}; there are {', '.join(CASES)}")
    models = CASES[name].models
    if models is None or target is None or second is None:
        if models is not None:
            raise ValueError(f"the case {name} needs a target and a {models.role}")
        return
    pair = zip(("target", models.role), (target, second), models.kinds, strict=True)
    for role, held, wanted in pair:
        if kind(held.model) != wanted:
            raise ValueError(
                f"the case {name} needs a model of kind {wanted} as its {role}; "
                f"{held.name!r} is of kind {kind(held.model)}"
            )
    if target.model.vocab_size != second.model.vocab_size:
        raise ValueError(
            f"the {models.role} has a vocabulary of {second.model.vocab_size}, "
            f"the target of {target.model.vocab_size}"
        )


def run_case(
    name: str,
    target: Checkpoint | None,
    second: Checkpoint | None,
    corpus: Corpus,
    scale: Scale,
) -> dict[str, Any]:
    """Runs a case: everything that its results file holds. A case without models takes None for both.

    Raises:
      ValueError: as `check`, or if the data of the case is missing.
    """
    check(name, target, second)
    run, models = CASES[name].run, CASES[name].models
    held = {} if models is None else {"target": target, models.role: second}
    bandwidth = costs.copy_bandwidth(scale.copied, repeats=scale.repeats)
    setting = Setting(target, second, corpus, scale, bandwidth)
    start = time.perf_counter()
    rows = run(setting)
    return {
        "case": name,
        "about": inspect.cleandoc(run.__doc__ or ""),
        "quick": scale == QUICK,
        "machine": {**machine.facts(), "copy_bytes_per_second": bandwidth},
        "models": {
            role: {
                "name": checkpoint.name,
                "parameters": checkpoint.size,
                "dtype": "float32",
                "config": dataclasses.asdict(checkpoint.config),
            }
            for role, checkpoint in held.items()
        },
        "corpus": {"fingerprint": corpus.fingerprint(), "held_out_files": len(corpus.held_out)},
        "scale": dataclasses.asdict(scale),
        "seconds": time.perf_counter() - start,
        "rows": rows,
    }
