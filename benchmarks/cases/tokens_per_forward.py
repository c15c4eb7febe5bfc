"""The pair without a clock, token for token against plain decoding."""

import numpy as np

from benchmarks.agreement import first_differences, ratio, trace
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import (
    EXACTNESS,
    IDENTICAL,
    METHOD,
    TEMPERATURE,
    Row,
    depths,
    differences,
    number,
)
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.variants import build, by_ratio, controls, drafting, plain
from benchmarks.workload import Workload
from jaxdec.measuring.comparison import counts, identical, new_tokens


def run(setting: Setting) -> list[Row]:
    """One row a method and temperature."""
    scale, rows = setting.scale, []
    held = setting.prompts(scale.many)
    length = 6 if 6 in scale.lengths else scale.lengths[0]
    base = plain(setting.target.model, setting.target.params)
    longest = scale.lengths[-1]
    looked_up = build(setting, "lookup", longest, name=f"prompt lookup {longest}")
    variants = [drafting(setting, length), looked_up]
    variants += by_ratio(setting, length) + controls(setting, length)
    for temperature in scale.temperatures:
        workload = Workload(held, scale.many, scale.tokens, temperature)
        expected = new_tokens([trace(base, workload)[0]])
        for variant in each(variants, lambda variant, t=temperature: f"{t:g}: {variant.name}"):
            decoded, proposed, accepted = trace(variant, workload)
            found, counted = new_tokens([decoded]), counts([decoded])
            rows.append(
                {
                    "method": variant.name,
                    "about": variant.about,
                    "exactness": variant.decoder.exactness.value,
                    "temperature": temperature,
                    "draft_length": variant.length,
                    "prompts": scale.many,
                    "prompt_tokens": int(held.lengths.sum()),
                    "new_tokens": scale.tokens,
                    **counted,
                    "acceptance_by_depth": [
                        ratio(
                            (accepted >= depth).sum(),
                            ((accepted >= depth - 1) & (proposed >= depth)).sum(),
                        )
                        for depth in range(1, variant.length + 1)
                    ],
                    "identical": identical(found, expected),
                    "identical_rows": sum(map(np.array_equal, found, expected)),
                    "first_differences": first_differences(base, workload, found, expected),
                }
            )
    return rows


CASE = Case(
    name="tokens_per_forward",
    order=4,
    about="Tokens a target forward over many prompts, with no clock, against plain decoding token for token.",
    models=CAUSAL,
    columns=(
        TEMPERATURE,
        METHOD,
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("acceptance", number("acceptance", ".1%")),
        IDENTICAL,
        ("differs from plain in", differences),
        ("acceptance by depth", depths),
        EXACTNESS,
    ),
    legend="",
    labels=("temperature", "method"),
    run=run,
)
