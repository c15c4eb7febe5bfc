"""Speculation on gaps without a clock."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks.any_subset import LEGEND, RATES
from benchmarks.case import ANY_SUBSET, Case
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, Row, number
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.variants import build
from benchmarks.workload import Variant, Workload, gaps
from jaxdec import any_subset
from jaxdec.measuring.comparison import counts, identical, new_tokens


def forms(setting: Setting) -> list[Variant]:
    """Every form of any-subset speculation; sequential decoding, their baseline, comes first."""

    def form(method: str, name: str, length: int | None = None, about: str = "") -> Variant:
        return build(setting, method, length, name=name, about=about)

    return [
        form("any-order", "sequential"),
        as_published(setting),
        *(form("assd", f"ASSD {k}", k) for k in (4, 6, 8)),
        form("assd-token", "ASSD 6, token ratio", 6),
        form("assd-ngram", "ASSD n-gram 6", 6),
        form("assd-adaptive", "ASSD adaptive", 8, "2, 4 or 8"),
        *(form("fused", f"fused {k}", k) for k in (4, 6)),
        form("fused-token", "fused 6, token ratio", 6),
        *other_shapes(setting),
        *(form("any-order-draft", f"draft {k}", k) for k in (4, 6, 8)),
        form("any-order-draft-token", "draft 6, token ratio", 6),
        own_draft(setting),
        dataclasses.replace(
            form("parallel", "parallel 4", 4), length=0, about="contrast: not verified"
        ),
    ]


def as_published(setting: Setting) -> Variant:
    """The published rule, which emits no token beyond the accepted drafts."""
    rule = jaxdec.verifiers.TokenRatio()
    decoder = any_subset.assd(setting.target.model, width=6, verifier=rule, bonus=False)
    params = {"target": setting.target.params}
    return Variant("ASSD 6 as published", decoder, params, 6, "ratio rule, no bonus")


def other_shapes(setting: Setting) -> list[Variant]:
    """Other numbers of nodes and outcomes than the methods' own."""
    model, params = setting.target.model, {"target": setting.target.params}
    assd, fused = any_subset.assd, any_subset.fused
    few, six = fused(model, width=4, outcomes=2), fused(model, width=4, nodes=6, outcomes=4)
    return [
        Variant("fused 4, few outcomes", few, params, 4, "2 outcomes"),
        Variant("fused 4, 6 nodes", six, params, 4, "4 outcomes"),
        Variant("fused 6, 16 nodes", fused(model, width=6, nodes=16), params, 6, "17 outcomes"),
        Variant("ASSD 8, 16 nodes", assd(model, width=8, nodes=16), params, 8),
    ]


def own_draft(setting: Setting) -> Variant:
    """The target as its own small model."""
    model, params = setting.target.model, setting.target.params
    decoder = jaxdec.speculative(model, drafter=jaxdec.drafters.model(model, length=6))
    both = {"target": params, "draft": params}
    return Variant("draft = target 6", decoder, both, 6, "control: accepts everything")


def run(setting: Setting) -> list[Row]:
    """One row a method and share of masked bytes."""
    scale, rows = setting.scale, []
    for rate in RATES:
        held = gaps(setting.corpus.held_out, scale.windows, scale.window, rate)
        workload = Workload(held, scale.windows, 0, 1.0)
        expected = None
        variants = forms(setting)[: scale.forms]
        for variant in each(variants, lambda variant, r=rate: f"{r:.0%}: {variant.name}"):
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


CASE = Case(
    name="any_subset",
    order=8,
    about=(
        "Forwards of the large model a token, on held-out windows with masked bytes, at temperature 1 and no clock. "
        "Bytes are masked one by one, at random."
    ),
    models=ANY_SUBSET,
    columns=(
        ("masked", number("masked", ".0%")),
        METHOD,
        ("forwards/token", number("forwards_per_token", ".3f")),
        ("rows/token", number("rows_per_token", ".1f")),
        ("acceptance", number("acceptance", ".1%")),
        IDENTICAL,
        ("bits/byte", number("bits_per_byte", ".2f")),
        ("entropy", number("entropy", ".2f")),
        EXACTNESS,
    ),
    legend=(
        f"{LEGEND}*bits/byte*: of the bytes filled in, under the target's own law. *entropy*: of the frequencies of "
        "all of them, in bits."
    ),
    labels=("masked", "method"),
    run=run,
)
