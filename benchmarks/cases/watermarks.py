"""Watermarks: how many tokens it takes to find one, what it costs, and what it does to the text."""

from typing import Any

import jax
import numpy as np

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import Row, number, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from jaxdec import autoregressive, drafters, speculative, watermarks
from jaxdec.measuring.timing import Method, interleave, ratios

LEVEL = 0.02
MARKS: dict[str, Any] = {
    "none": lambda secret: None,
    "EXP": lambda secret: watermarks.Exponential(secret=secret, length=256),
    "ITS": lambda secret: watermarks.InverseTransform(secret=secret, length=256),
    "green list": lambda secret: watermarks.GreenList(secret=secret),
}


def run(setting: Setting) -> list[Row]:
    """One row a watermark and length of text."""
    scale, model, params = setting.scale, setting.target.model, {"target": setting.target.params}
    prompts = setting.prompts(scale.canvases * 4)
    # A secret of its own for each text: texts of one secret are no independent tests.
    secrets, others = (jax.random.split(jax.random.key(seed), len(prompts)) for seed in (7, 8))
    asked: dict[str, Any] = dict(
        lengths=prompts.lengths, rng=0, max_new_tokens=scale.tokens, temperature=1.0, eos=()
    )
    call = lambda decoder, mark: jaxdec.generate(
        decoder, params, prompts.tokens, watermark=mark, **asked
    )
    plain = autoregressive(model)
    fast = speculative(model, drafter=drafters.prompt_lookup(length=4))
    work = [
        Method(name, lambda _, make=make: call(plain, make(secrets)))
        for name, make in MARKS.items()
    ]
    timings = interleave(work, repeats=scale.repeats)
    rows = []
    for name, make in each(list(MARKS.items()), lambda one: one[0]):
        result = timings[name].output
        drafted = call(fast, make(secrets))
        new, forwards = scale.tokens * len(prompts), np.asarray(drafted.stats.target_forwards).sum()
        same = bool((np.asarray(drafted.tokens) == np.asarray(result.tokens)).all())
        start = np.asarray(result.prompt_lengths)[:, None] + np.arange(scale.tokens)
        tokens = np.take_along_axis(np.asarray(result.tokens), start, 1)
        raw = np.take_along_axis(np.asarray(result.raw_log_probs), start, 1)
        bits = -raw.mean(1) / np.log(2)
        facts: Row = {
            "watermark": name,
            "prompts": len(prompts),
            "bits": float(bits.mean()),
            "bits_error": float(2 * bits.std(ddof=1) / np.sqrt(len(bits))),
            "times_plain": float(np.median(ratios(timings[name], timings["none"]))),
            "tokens_per_forward": float(new / forwards),
            "identical": same,
        }
        if name == "none":
            rows.append(facts)
            continue
        for count in scale.marked:
            for whose, keys in (("found", secrets), ("false", others)):
                p = np.array(
                    [
                        _p_value(make(key), row[:count], model.vocab_size, scale.nulls)
                        for key, row in zip(keys, tokens, strict=True)
                    ]
                )
                facts[whose] = float((p <= LEVEL).mean())
                facts[f"{whose}_median"] = float(np.median(p))
            rows.append({**facts, "new_tokens": count})
    return rows


def _p_value(mark: Any, tokens: np.ndarray, vocab_size: int, nulls: int) -> float:
    if isinstance(mark, watermarks.GreenList):
        return float(watermarks.count_green(mark, tokens, vocab_size=vocab_size).p_value[0])
    found = watermarks.detect(mark, tokens, vocab_size=vocab_size, rng=1, nulls=nulls)
    return float(found.p_value[0])


CASE = Case(
    name="watermarks",
    order=32,
    about=(
        "Watermarked text of code-target at temperature 1 after held-out prompts, a secret each: the share of texts in "
        "which the watermark is found at a level of 0.02, and the share in which another secret is."
    ),
    models=CAUSAL,
    columns=(
        ("watermark", word("watermark")),
        ("tokens", number("new_tokens", "d")),
        ("found", number("found", ".1%")),
        ("median p", number("found_median", ".3f")),
        ("another secret", number("false", ".1%")),
        ("median p of another", number("false_median", ".3f")),
        ("bits per byte", number("bits", ".3f")),
        ("±", number("bits_error", ".3f")),
        ("times plain", number("times_plain", ".2f")),
        ("drafted: tokens/forward", number("tokens_per_forward", ".2f")),
        ("drafted: same", word("identical")),
    ),
    legend="""\
*bits per byte*: of the text under the model that wrote it: the same for watermarks that keep the law (but for the
draw), more for a green list. *times plain*: seconds over those without a watermark. *drafted*: with prompt lookup of 4
tokens, and whether all tokens are those of plain decoding with the same watermark.
""",
    labels=("watermark", "new_tokens"),
    run=run,
)
