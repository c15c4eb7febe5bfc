"""The cases about speed on gaps: forwards a token, seconds by model size, and what the cache is worth."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks import costs
from benchmarks.setting import Row, Setting, compile_all, compiling, model_of, size_labels, sizes
from benchmarks.workload import Variant, Workload, gaps
from jaxdec import any_subset, text
from jaxdec.decoding import init
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import interleave, quartiles, ratios
from jaxdec.model import Model

RATES = (0.5, 0.95)


def _variant(name: str, decoder: Any, params: Any, length: int = 0, about: str = "") -> Variant:
    return Variant(name, decoder, params, length, about)


def forms(model: Model, setting: Setting) -> list[Variant]:
    """Every form of any-subset speculation of a target; sequential decoding, their baseline, comes first."""
    own = {"target": setting.target.params}
    both = {**own, "draft": setting.draft.params}
    token = jaxdec.verifiers.TokenRatio()
    assd, fused = any_subset.assd, any_subset.fused
    found = [
        _variant("sequential", jaxdec.autoregressive(model), own),
        _variant(
            "ASSD 6 as published",
            assd(model, width=6, verifier=token, bonus=False),
            own,
            6,
            "ratio rule, no bonus",
        ),
        *(_variant(f"ASSD {k}", assd(model, width=k), own, k) for k in (4, 6, 8)),
        _variant("ASSD 6, token ratio", assd(model, width=6, verifier=token), own, 6),
        _variant("ASSD n-gram 6", assd(model, width=6, draft="ngram"), own, 6),
        _variant(
            "ASSD adaptive",
            jaxdec.adaptive(lambda k: assd(model, width=k), (2, 4, 8)),
            own,
            8,
            "2, 4 or 8",
        ),
        *(_variant(f"fused {k}", fused(model, width=k), own, k) for k in (4, 6)),
        _variant("fused 6, token ratio", fused(model, width=6, verifier=token), own, 6),
        _variant(
            "fused 4, few outcomes",
            fused(model, width=4, outcomes=2),
            own,
            4,
            "2 outcomes",
        ),
        _variant(
            "fused 4, 6 nodes",
            fused(model, width=4, nodes=6, outcomes=4),
            own,
            4,
            "4 outcomes",
        ),
        _variant("fused 6, 16 nodes", fused(model, width=6, nodes=16), own, 6, "17 outcomes"),
        _variant("ASSD 8, 16 nodes", assd(model, width=8, nodes=16), own, 8),
    ]
    for k in (4, 6, 8):
        drafter = jaxdec.drafters.model(setting.draft.model, length=k)
        found.append(_variant(f"draft {k}", jaxdec.speculative(model, drafter=drafter), both, k))
    drafter = jaxdec.drafters.model(model, length=6)
    itself = {"target": setting.target.params, "draft": setting.target.params}
    found += [
        _variant(
            "draft 6, token ratio",
            jaxdec.speculative(
                model,
                drafter=jaxdec.drafters.model(setting.draft.model, length=6),
                verifier=token,
            ),
            both,
            6,
        ),
        _variant(
            "draft = target 6",
            jaxdec.speculative(model, drafter=drafter),
            itself,
            6,
            "control: accepts everything",
        ),
        _variant(
            "parallel 4",
            any_subset.parallel_sampling(model, width=4),
            own,
            0,
            "contrast: not verified",
        ),
    ]
    return found


def any_subset_forwards(setting: Setting) -> list[Row]:
    """Forwards of the large model a token, on held-out windows with masked bytes, at temperature 1 and no clock.

    Bytes are masked one by one, at random.
    """
    scale, rows = setting.scale, []
    model = setting.target.model
    for rate in RATES:
        held = gaps(setting.corpus.held_out, scale.windows, scale.window, rate)
        workload = Workload(held, scale.windows, 0, 1.0)
        expected = None
        for variant in forms(model, setting)[: scale.forms]:
            timing = workload.method(variant)
            decoded = jax.block_until_ready(timing.work(timing.setup()))
            found, counted = new_tokens(decoded), counts(decoded)
            expected = found if expected is None else expected
            rows.append(
                {
                    "masked": rate,
                    "method": variant.name,
                    "about": variant.about,
                    "exactness": variant.decoder.exactness.value,
                    "temperature": 1.0,
                    "draft_length": variant.length,
                    "prompts": scale.windows,
                    "new_tokens": int(held.masked.max()),
                    **counted,
                    "forwards_per_token": 1 / counted["tokens_per_forward"],
                    "rows_per_token": counted["target_rows"] / counted["tokens"],
                    "identical": identical(found, expected),
                    **judged(setting, held.filled(decoded), held.visible),
                }
            )
    return rows


def judged(setting: Setting, tokens: np.ndarray, visible: np.ndarray) -> Row:
    """Quality of filled windows: bits a byte under the model itself, and the entropy of the bytes written."""
    order = any_subset.lattice(visible)
    terms = any_subset.log_prob(
        setting.target.model, setting.target.params, jnp.asarray(tokens), order
    )
    written = np.bincount(tokens[~visible], minlength=256)
    share = written[written > 0] / written.sum()
    return {
        "bits_per_byte": -float(terms.sum()) / np.log(2) / int((~visible).sum()),
        "entropy": -float((share * np.log2(share)).sum()),
    }


def timed_forms(model: Model, params: Any, setting: Setting) -> list[Variant]:
    """The forms that could pay by the clock, for a target of any size; sequential decoding comes first."""
    own, both = {"target": params}, {"target": params, "draft": setting.draft.params}
    drafters = [jaxdec.drafters.model(setting.draft.model, length=k) for k in (4, 6)]
    found = [
        _variant("sequential", jaxdec.autoregressive(model), own),
        _variant("ASSD 4", any_subset.assd(model, width=4), own, 4),
        _variant("fused 3", any_subset.fused(model, width=3, outcomes=2), own, 3, "2 outcomes"),
    ]
    for drafter in drafters:
        name = f"draft {drafter.depth}"
        decoder = jaxdec.speculative(model, drafter=drafter)
        found.append(_variant(name, decoder, both, drafter.depth))
    return found


def any_subset_grown(setting: Setting) -> list[Row]:
    """Seconds against sequential any-order decoding, by size of the target: half of the bytes masked, temperature 1.

    Targets are grown, so that the text is that of the shipped one; the automatic choice is made on other windows.
    """
    scale, rows = setting.scale, []
    held = gaps(setting.corpus.held_out, 2, scale.window, RATES[0])
    held, tuned = held[:1], held[1:]
    workload = Workload(held, 1, 0, 1.0)
    for label, config, params in sizes(setting, scale.grown):
        raw = model_of(config, setting.target.model.eos)
        model = any_subset.two_stream(raw, text.MASK)
        variants = timed_forms(model, params, setting)[: scale.forms]
        compile_all(variants, workload)
        choice = jaxdec.auto_infill(
            {variant.name: variant.decoder for variant in variants},
            {"target": params, "draft": setting.draft.params},
            tuned.tokens,
            tuned.visible,
            rng=jax.random.key(1),
            repeats=min(scale.repeats, 3),
            temperature=1.0,
            banned=workload.banned(model),
        )
        chosen = next(variant for variant in variants if variant.name == choice.name)
        auto = dataclasses.replace(chosen, name="auto", about=f"chose {choice.name}")
        labels = size_labels(label, config, params)
        rows += _timed(setting, [*variants, auto], workload, labels, raw)
    return rows


def any_subset_cache(setting: Setting) -> list[Row]:
    """What the rank-order cache is worth: ASSD with it, and scoring every known token again in every forward."""
    scale = setting.scale
    held = gaps(setting.corpus.held_out, 2, scale.long_window, RATES[0])
    model, params = setting.target.model, {"target": setting.target.params}
    variants = [
        _variant("ASSD 4", any_subset.assd(model, width=4), params, 4, "cached"),
        _variant(
            "ASSD 4, no cache",
            any_subset.assd(any_subset.recomputed(model), width=4),
            params,
            4,
            "all tokens in every forward",
        ),
    ]
    workload = Workload(held, 1, 0, 1.0)
    rows = _timed(setting, variants, workload, {"window": scale.long_window, "bar": 5.0})
    for row in rows:
        row["times_cached"] = row["seconds"] / rows[0]["seconds"]
    return rows


def _timed(
    setting: Setting,
    variants: Sequence[Variant],
    workload: Workload,
    labels: Row,
    raw: Model | None = None,
) -> list[Row]:
    """Decodes with every variant in turns; the first one is the baseline."""
    scale = setting.scale
    compile_all(variants, workload)
    # Small targets decode in a moment, which takes more repeats to measure.
    small = sum(x.size for x in jax.tree.leaves(variants[0].params["target"])) < 30_000_000
    repeats = scale.repeats if small else min(scale.repeats, 3)
    timings = interleave([workload.method(v) for v in variants], repeats=repeats)
    baseline = timings[variants[0].name]
    tokens = new_tokens(baseline.output)
    verify = {} if raw is None else _verify_ratios(raw, variants, workload, timings, scale)
    rows = []
    for variant in variants:
        timing, counted = timings[variant.name], counts(timings[variant.name].output)
        ratio = ratios(baseline, timing)
        rows.append(
            {
                **labels,
                "method": variant.name,
                "about": variant.about,
                "exactness": variant.decoder.exactness.value,
                "batch": workload.batch,
                "temperature": workload.temperature,
                "masked": RATES[0],
                "draft_length": variant.length,
                "new_tokens": int(workload.prompts.masked.max()),
                **counted,
                "forwards_per_token": 1 / counted["tokens_per_forward"],
                "rows_per_forward": counted["target_rows"] / counted["target_forwards"],
                "verify_ratio": verify.get(variant.name),
                "seconds": timing.median,
                "seconds_quartiles": quartiles(timing.seconds),
                "repeats": len(timing.seconds),
                "prefill_seconds": timing.setup_median,
                "compile_seconds": compiling(variant, workload),
                "tokens_per_second": counted["tokens"] / timing.median,
                "wall_ratio": None if variant is variants[0] else statistics.median(ratio),
                "wall_ratio_quartiles": None if variant is variants[0] else quartiles(ratio),
                "identical": identical(new_tokens(timing.output), tokens),
            }
        )
    return rows


def _verify_ratios(raw, variants, workload, timings, scale) -> dict[str, float]:
    """R by variant: a bare forward of the rows that its forwards score, over one of sequential decoding's two."""
    first = variants[0]
    cache = init(first.decoder, first.params, workload.requests(first)[0]).cache
    widths = {}
    for variant in variants:
        counted = counts(timings[variant.name].output)
        widths[variant.name] = round(counted["target_rows"] / counted["target_forwards"])
    methods = {
        width: costs.forward_method(
            f"rows {width}", raw, first.params["target"], cache, width, scale.steps
        )
        for width in sorted({2, *widths.values()})
    }
    measured = interleave(list(methods.values()), repeats=scale.repeats)
    over = lambda width: statistics.median(ratios(measured[f"rows {width}"], measured["rows 2"]))
    return {name: over(width) for name, width in widths.items()}
