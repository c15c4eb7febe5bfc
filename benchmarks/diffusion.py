"""The cases about canvases: text quality against forwards by policy, and what caches are worth."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.infilling import entropy
from benchmarks.setting import Row, Setting, compile_all, compiling
from benchmarks.workload import Prompts, Variant, Workload, prompts
from jaxdec import text
from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue import METHODS, REFRESH_RULES, Parts
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import Decoder
from jaxdec.diffusion import denoise, schedules, unmask
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.measuring.timing import interleave, quartiles, ratios
from jaxdec.model import Inputs, Model, Params

BLOCK = 32
TEMPERATURES = (0.0, 0.5, 1.0)
WORSE = 0.05
"""What a faster setting may lose, as a share: more bits, or less entropy, which is how bits are won cheaply."""

Knobs = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A policy and the settings that are tried. Knobs are traced, so that a sweep compiles once.

    Attributes:
      method: in `catalogue.METHODS`.
      points: values of knobs, the slowest first.
      baseline: the method whose first point decodes one token a step where this one's does not.
      length: branches.
      block: positions of a block; None for the largest that the target was trained on.
    """

    method: str
    points: tuple[Knobs, ...]
    baseline: str | None = None
    length: int | None = None
    block: int | None = None

    def label(self, knobs: Knobs) -> str:
        """The setting in words."""
        branches = [] if self.length is None else [f"{self.length} branches"]
        return ", ".join([*branches, *(f"{name} {value:g}" for name, value in knobs.items())])


def _of(name: str, *values: float) -> tuple[Knobs, ...]:
    return tuple({name: value} for value in values)


def _gaps(*scales: float) -> tuple[Knobs, ...]:
    """Prophet's published limits, scaled."""
    return tuple({"early_gap": 7.5 * s, "middle_gap": 5 * s, "late_gap": 2.5 * s} for s in scales)


_THRESHOLDS = _of("threshold", 1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
_STEPS = _of("steps", 32, 16, 11, 8, 4)

SWEEPS = (
    Sweep("left-to-right", ({},)),
    Sweep("threshold", _THRESHOLDS),
    Sweep("threshold", _THRESHOLDS, block=16),
    Sweep("threshold", _THRESHOLDS, block=8),
    Sweep("factor", _of("factor", 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)),
    Sweep("dynamic-threshold", _THRESHOLDS),
    Sweep("entropy-bound", _of("entropy_bound", 0.0, 0.1, 0.2, 0.35, 0.7, 1.4, 2.8)),
    Sweep("credit", _THRESHOLDS),
    Sweep("llada", _STEPS),
    Sweep("dream", _STEPS),
    Sweep("prophet", _gaps(2.0, 1.0, 0.8, 0.6, 0.4), baseline="llada"),
    Sweep("saber", _of("minimum", 1, 2, 3, 4), baseline="llada"),
    *(Sweep("freedave", ({},), baseline="llada", length=n) for n in (2, 4, 8)),
    Sweep("first-hitting", _STEPS),
    Sweep("ancestral", _of("steps", 64, 32, 16, 8, 4), baseline="first-hitting"),
)
"""Each after its baseline."""


def split(setting: Setting, count: int, length: int) -> tuple[Prompts, np.ndarray]:
    """Held-out windows of `length` bytes: first halves as prompts, and the second halves `[N, length // 2]`."""
    half = length // 2
    windows = prompts(setting.corpus.held_out, count, length, length).tokens
    held = Prompts(windows[:, :half], np.full(len(windows), half))
    return held, windows[:, half:]


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model: Model, params: Params, tokens: jax.Array) -> jax.Array:
    """Of every token but the first, given those before it: `[N, L - 1]`."""
    law = jax.nn.log_softmax(model(params, Inputs.causal(tokens), None).logits[:, :-1])
    return jnp.take_along_axis(law, tokens[:, 1:, None], axis=-1)[..., 0]


class Judge:
    """What texts are worth to the causal model that judges; it is not the one that wrote them."""

    def __init__(self, setting: Setting, held: Prompts):
        self._judge, self._prompts = setting.draft, held.tokens

    def bits(self, written: np.ndarray) -> np.ndarray:
        """Bits a byte of each text of `[N, n]`, given its prompt."""
        tokens = jnp.asarray(np.concatenate([self._prompts, written], axis=1))
        terms = _log_probs(self._judge.model, self._judge.params, tokens)
        return -np.asarray(terms[:, -written.shape[1] :].mean(1)) / math.log(2)

    def worth(self, written: np.ndarray, baseline: np.ndarray | None = None) -> Row:
        """Quality of all texts; where there is a baseline, how much worse they are and how sure that is."""
        bits = self.bits(written)
        found = {
            "bits_per_byte": float(bits.mean()),
            "bits_error": _error(bits),
            "entropy": _varied(written),
        }
        if baseline is None:
            return found
        expected = self.bits(baseline)
        varied = _varied(baseline)
        return {
            **found,
            "worse": float(bits.mean() / expected.mean() - 1),
            "worse_error": _error(bits - expected) / float(expected.mean()),
            "less_varied": 1 - found["entropy"] / varied if varied else 0.0,
            "identical": identical(list(written), list(baseline)),
            "identical_rows": float((written == baseline).all(1).mean()),
        }


def _varied(written: np.ndarray) -> float:
    """Entropy of the bytes of a text, the mean over texts."""
    return statistics.fmean(entropy(bytes(row.tolist())) for row in written)


def _error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def parts(target: Checkpoint, refresh: str, block: int | None = None, length: int | None = None):
    """What a decoder of a canvas is made of: block-causal for a checkpoint that fills blocks."""
    return Parts(
        target=target.model,
        length=length,
        block=block or target.block_size or BLOCK,
        causal=target.fills == "blocks",
        refresh=refresh,
    )


def _variant(
    setting: Setting, name: str, decoder: Decoder, about: str = "", knobs: Knobs | None = None
) -> Variant:
    """A decoder that writes bytes alone."""
    target = setting.target
    banned = np.arange(target.model.vocab_size) >= text.BOS
    own = {**(knobs or {}), "banned": banned}
    return Variant(name, decoder, {"target": target.params}, about=about, knobs=own)


def _decode(variant: Variant, workload: Workload) -> tuple[list[Result], np.ndarray]:
    """The results, and the new tokens `[N, n]`."""
    timing = workload.method(variant)
    decoded = jax.block_until_ready(timing.work(timing.setup()))
    return decoded, np.stack(new_tokens(decoded))


def diffusion(setting: Setting) -> list[Row]:
    """Forwards a token against text quality: every policy of canvas decoding over its knob, with no clock.

    Held-out Python files are continued in blocks, with the exact cache. Another model, which is causal, judges.
    """
    scale, target = setting.scale, setting.target
    held, true = split(setting, scale.canvases, scale.canvas)
    judge = Judge(setting, held)
    cache = "block" if target.fills == "blocks" else "none"
    common = {"prompts": len(held), "new_tokens": true.shape[1]}
    control = {"method": "true text", "about": "control: what stood there", "exactness": None}
    rows: list[Row] = [{**control, **common, **judge.worth(true), "best": False}]
    for temperature in TEMPERATURES:
        workload = Workload(held, len(held), true.shape[1], temperature)
        first: dict[tuple[str, int | None], np.ndarray] = {}
        found: list[Row] = []
        for sweep in SWEEPS[: scale.policies]:
            own = parts(target, cache, sweep.block, sweep.length)
            decoder = METHODS[sweep.method].make(own)
            points = sweep.points[:: 2 if temperature else 1]
            for knobs in points[: scale.points]:
                variant = _variant(setting, sweep.method, decoder, knobs=knobs)
                decoded, written = _decode(variant, workload)
                counted = counts(decoded)
                first.setdefault((sweep.method, sweep.block), written)
                slowest = first[sweep.baseline or sweep.method, sweep.block]
                found.append(
                    {
                        "method": sweep.method,
                        "about": "",
                        "exactness": decoder.exactness.value,
                        "temperature": temperature,
                        "block": own.block,
                        "cache": cache,
                        "setting": sweep.label(knobs),
                        **common,
                        **counted,
                        "rows_per_token": counted["target_rows"] / counted["tokens"],
                        **judge.worth(written, slowest),
                        "bar": 3.0 if sweep.method == "threshold" else None,
                    }
                )
        rows += _best(found)
        rows += [
            {**row, **common, "temperature": temperature}
            for row in _drafting(setting, workload, judge)
        ]
    return rows


def _drafting(setting: Setting, workload: Workload, judge: Judge) -> Iterable[Row]:
    """The same canvas model as a drafter of the causal one that judges: DiffuSpec."""
    target, draft = setting.draft, setting.target
    block = draft.block_size if draft.fills == "blocks" else None
    decoder = METHODS["diffuspec"].make(Parts(target.model, draft=draft.model, block=block))
    params = {"target": target.params, "draft": draft.params}
    knobs = {"banned": np.arange(target.model.vocab_size) >= text.BOS}
    write = lambda decoder: _decode(Variant("diffuspec", decoder, params, knobs=knobs), workload)
    _, plain = write(autoregressive(target.model))
    decoded, written = write(decoder)
    counted = counts(decoded)
    yield {
        "method": "diffuspec",
        "about": f"{target.name} is the target, {draft.name} drafts",
        "exactness": decoder.exactness.value,
        "block": block,
        "cache": "none",
        "setting": f"{decoder.drafter.depth} drafts at most",
        **counted,
        "rows_per_token": counted["target_rows"] / counted["tokens"],
        **judge.worth(written, plain),
        "best": True,
    }


def _best(rows: list[Row]) -> list[Row]:
    """Marks the fastest setting of each method and block that loses at most `WORSE`."""
    best: dict[tuple[str, int], Row] = {}
    for row in rows:
        key = row["method"], row["block"]
        if row["worse"] <= WORSE and row["less_varied"] <= WORSE:
            best[key] = max(best.get(key, row), row, key=lambda held: held["tokens_per_forward"])
    return [{**row, "best": best.get((row["method"], row["block"])) is row} for row in rows]


def cached(setting: Setting) -> Iterable[tuple[Variant, str]]:
    """Threshold decoding with every cache, and the name of the variant whose text it stands in for."""
    target = setting.target
    causal = target.fills == "blocks"
    for name in REFRESH_RULES if causal else ("none", "prefix", "dual", "frozen"):
        decoder = METHODS["threshold"].make(parts(target, name))
        if name != "sub-block":
            yield _variant(setting, name, decoder), "none"
            continue
        size = parts(target, name).block
        schedule = schedules.blocks(size // 4, within=size, from_start=True)
        plain = denoise(
            target.model, unmask=unmask.threshold(), schedule=schedule, attention="causal"
        )
        control = "none, sub-blocks"
        yield _variant(setting, control, plain, "control: the schedule alone"), control
        yield _variant(setting, name, decoder), control


def diffusion_cache(setting: Setting) -> list[Row]:
    """What caches of a canvas are worth: seconds of threshold decoding with each, one row at temperature 0.

    Text quality and agreement are those of more rows.
    """
    scale = setting.scale
    held, true = split(setting, scale.long_canvases, scale.long_canvas)
    judge = Judge(setting, held)
    pairs = list(cached(setting))[: scale.caches]
    variants = [variant for variant, _ in pairs]
    single = Workload(held[:1], 1, true.shape[1], 0.0)
    compile_all(variants, single)
    timings = interleave([single.method(v) for v in variants], repeats=min(scale.repeats, 3))
    many = Workload(held, len(held), true.shape[1], 0.0)
    written = {variant.name: _decode(variant, many)[1] for variant in variants}
    rows = []
    for variant, reference in pairs:
        timing, baseline = timings[variant.name], timings["none"]
        counted, ratio = counts(timing.output), ratios(baseline, timing)
        rows.append(
            {
                "positions": scale.long_canvas,
                "method": variant.name,
                "about": variant.about,
                "exactness": variant.decoder.exactness.value,
                "temperature": 0.0,
                "batch": 1,
                "prompts": len(held),
                "new_tokens": true.shape[1],
                **counted,
                "rows_per_forward": counted["target_rows"] / counted["target_forwards"],
                "seconds": timing.median,
                "seconds_quartiles": quartiles(timing.seconds),
                "forward_seconds": timing.median / counted["loop_steps"],
                "repeats": len(timing.seconds),
                "prefill_seconds": timing.setup_median,
                "compile_seconds": compiling(variant, single),
                "tokens_per_second": counted["tokens"] / timing.median,
                "wall_ratio": None if variant.name == "none" else statistics.median(ratio),
                "wall_ratio_quartiles": None if variant.name == "none" else quartiles(ratio),
                "bar": 4.0 if variant.name == "block" else None,
                "reference": reference,
                **judge.worth(written[variant.name], written[reference]),
            }
        )
    return rows
