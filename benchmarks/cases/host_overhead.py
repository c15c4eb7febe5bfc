"""What a call of `generate` costs beside its device work."""

import statistics
from typing import Any

import jax
import jax.numpy as jnp

import jaxdec
from benchmarks.case import Case, Models
from benchmarks.columns import METHOD, TEMPERATURE, Row, number, spread, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.variants import build
from benchmarks.workload import Variant
from jaxdec.measuring.timing import Method, Timing, interleave, quartiles
from jaxdec.model import Inputs

PROMPT = 16
"""Tokens of a prompt: few, so that the device has next to nothing to do."""
BATCHES = (1, 8)
BAR = 3e-3
"""Seconds of the host that a call may take."""
CALL, BARE, PREPARE = "generate", "bare", "prepare"


def run(setting: Setting) -> list[Row]:
    """One row a batch and temperature."""
    variant = build(setting, "autoregressive")
    places = [(batch, t) for batch in BATCHES for t in setting.scale.temperatures]
    rows = []
    for batch, temperature in each(places, "batch {0[0]}, temperature {0[1]:g}".format):
        tokens = jnp.asarray(setting.prompts(batch).tokens[:, :PROMPT])
        calls = methods(variant, tokens, temperature)
        timings = interleave(calls, repeats=setting.scale.calls)
        host = beside(timings[CALL], timings[BARE])
        rows.append(
            {
                "method": variant.name,
                "about": "",
                "exactness": variant.decoder.exactness.value,
                "batch": batch,
                "temperature": temperature,
                "prompt_tokens": batch * PROMPT,
                "new_tokens": 1,
                "tokens": int((timings[CALL].output.lengths - PROMPT).sum()),
                "repeats": setting.scale.calls,
                "seconds": timings[CALL].median,
                "seconds_quartiles": quartiles(timings[CALL].seconds),
                "bare_seconds": timings[BARE].median,
                "prepare_seconds": timings[PREPARE].median,
                "host_seconds": statistics.median(host),
                "host_seconds_quartiles": quartiles(host),
                "bar": BAR,
            }
        )
    return rows


def methods(variant: Variant, tokens: jax.Array, temperature: float) -> list[Method]:
    """A call of `generate` for one token, the part of it that is `prepare`, and a bare jitted forward of the prompt."""
    model, params = variant.decoder.model, variant.params["target"]
    key = jax.random.key(0)
    knobs: dict[str, Any] = {"max_new_tokens": 1, "temperature": temperature, "eos": ()}

    @jax.jit
    def bare(params, tokens):
        logits = model(params, Inputs.causal(tokens), None).logits
        return jnp.argmax(logits[:, -1], -1)

    decode = lambda _: jaxdec.generate(variant.decoder, variant.params, tokens, rng=key, **knobs)
    return [
        Method(CALL, decode),
        Method(PREPARE, lambda _: jaxdec.prepare(variant.decoder, variant.params, tokens, **knobs)),
        Method(BARE, lambda _: bare(params, tokens)),
    ]


def beside(call: Timing, bare: Timing) -> list[float]:
    """Seconds of each call over those of the bare one of the same round."""
    return [a - b for a, b in zip(call.seconds, bare.seconds, strict=True)]


CASE = Case(
    name="host_overhead",
    order=14,
    about=(
        "A call of `generate` for one token of a tiny model against a bare jitted forward of the prompt, both warm: "
        "the difference is what the host adds to every call."
    ),
    models=Models("code-draft", "code-draft", ("causal", "causal")),
    columns=(
        ("batch", word("batch")),
        TEMPERATURE,
        METHOD,
        ("call ms", number("seconds", ".2f", 1e3)),
        ("of it `prepare` ms", number("prepare_seconds", ".2f", 1e3)),
        ("bare forward ms", number("bare_seconds", ".2f", 1e3)),
        ("host ms", spread("host_seconds", ".2f", 1e3)),
        ("bar ms", number("bar", ".0f", 1e3)),
    ),
    legend="*host ms*: the call less the bare forward of the same round, median and quartiles over the rounds.",
    labels=("batch", "temperature", "method"),
    run=run,
)
