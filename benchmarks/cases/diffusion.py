"""Policies of canvas decoding over their knobs, without a clock."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.canvases import QUALITY, Judge, Knobs, decode, parts, split, variant_of
from benchmarks.case import CANVAS, Case, Figures
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, TEMPERATURE, Row, number, word
from benchmarks.degenerate import TRUE_TEXT
from benchmarks.panels import CONTROL, panels
from benchmarks.progress import Steps, steps
from benchmarks.setting import Setting
from benchmarks.workload import Variant, Workload
from jaxdec import plotting, text
from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue import METHODS, Parts
from jaxdec.measuring.comparison import counts

SAMPLINGS = ((0.0, 1.0), (1.0, 0.9))
"""Temperatures, each with its top-p."""
WORSE = 0.05
"""What a faster setting may lose, as a share: more bits, or less entropy, which is how bits are won cheaply."""
BASELINE = "left-to-right"
"""One token a forward in the order of the text: what all policies are held against, never themselves."""
BAR = 3.0
"""Tokens a forward that the best setting of a threshold should reach."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A policy and the settings that are tried. Knobs are traced, so that a sweep compiles once.

    Attributes:
      method: in `catalogue.METHODS`.
      points: values of knobs, the slowest first.
      baseline: the method whose first point decodes one token a step where this one's does not; texts are compared with
        its texts, token by token.
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
    Sweep(BASELINE, ({},)),
    Sweep("threshold", _THRESHOLDS),
    Sweep("threshold", _THRESHOLDS, block=16),
    Sweep("threshold", _THRESHOLDS, block=8),
    Sweep("fast-dllm-v2", _THRESHOLDS),
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


def run(setting: Setting) -> list[Row]:
    """One row a policy, block, setting of its knob and sampling, and one of the true text."""
    scale = setting.scale
    held, true = split(setting, scale.canvases, scale.canvas)
    judge = Judge(setting, held)
    common = {"prompts": len(held), "new_tokens": true.shape[1]}
    control = {"method": TRUE_TEXT, "about": "control: what stood there", "exactness": None}
    rows: list[Row] = [{**control, **common, **judge.worth(true), "best": False}]
    with steps(len(SAMPLINGS) * (1 + len(SWEEPS[: scale.policies]))) as shown:
        for temperature, top_p in SAMPLINGS:
            workload = Workload(held, len(held), true.shape[1], temperature)
            sampling = {**common, "temperature": temperature, "top_p": top_p}
            rows += _best(_swept(setting, workload, judge, sampling, shown))
            shown.begin(f"{temperature:g}: diffuspec")
            rows.append({**_drafting(setting, workload, judge, top_p), **sampling})
    return rows


def _swept(
    setting: Setting, workload: Workload, judge: Judge, sampling: Row, shown: Steps
) -> list[Row]:
    """The rows of all policies under a sampling, the reference first."""
    scale, temperature = setting.scale, workload.temperature
    cache = "block" if setting.target.fills == "blocks" else "none"
    first: dict[tuple[str, int | None], np.ndarray] = {}
    reference = None
    found: list[Row] = []
    for sweep in SWEEPS[: scale.policies]:
        shown.begin(f"{temperature:g}: {sweep.method}")
        own = parts(setting.target, cache, sweep.block, sweep.length)
        decoder = METHODS[sweep.method].make(own)
        points = sweep.points[:: 2 if temperature else 1]
        for knobs in points[: scale.points]:
            decoded, written = decode(
                variant_of(
                    setting, sweep.method, decoder, knobs={**knobs, "top_p": sampling["top_p"]}
                ),
                workload,
            )
            counted = counts(decoded)
            first.setdefault((sweep.method, sweep.block), written)
            slowest = first[sweep.baseline or sweep.method, sweep.block]
            reference = written if reference is None else reference
            found.append(
                {
                    "method": sweep.method,
                    "about": "",
                    "exactness": decoder.exactness.value,
                    "block": own.block,
                    "cache": cache,
                    "setting": sweep.label(knobs),
                    **sampling,
                    **counted,
                    "rows_per_token": counted["target_rows"] / counted["tokens"],
                    **judge.worth(written, reference, slowest),
                    "bar": BAR if sweep.method == "threshold" else None,
                }
            )
    return found


def _drafting(setting: Setting, workload: Workload, judge: Judge, top_p: float) -> Row:
    """The same canvas model as a drafter of the causal one that judges: DiffuSpec."""
    target, draft = setting.draft, setting.target
    block = draft.block_size if draft.fills == "blocks" else None
    decoder = METHODS["diffuspec"].make(Parts(target.model, draft=draft.model, block=block))
    params = {"target": target.params, "draft": draft.params}
    knobs = {"banned": np.arange(target.model.vocab_size) >= text.BOS, "top_p": top_p}
    write = lambda decoder: decode(Variant("diffuspec", decoder, params, knobs=knobs), workload)
    _, plain = write(autoregressive(target.model))
    decoded, written = write(decoder)
    counted = counts(decoded)
    return {
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


def figures(rows: list[Row]) -> dict[str, Figures]:
    """Of the best setting of each policy at temperature 0, at the largest block."""
    found: dict[str, Figures] = {}
    for row in sorted(rows, key=lambda row: row.get("block") or 0):
        if row["best"] and row.get("temperature") == 0:
            found[row["method"]] = Figures(row["tokens_per_forward"], about=row["setting"])
    return found


def curves(rows: list[Row]) -> dict[str, dict[float, list[tuple[float, float]]]]:
    """(tokens per forward, bits per byte) over the knob, by policy and temperature, at the largest block."""
    found: dict[str, dict[float, list[tuple[float, float]]]] = {}
    held = [row for row in rows if row.get("temperature") is not None and not row["about"]]
    largest = max((row["block"] for row in held), default=None)
    for row in held:
        if row["block"] == largest:
            points = found.setdefault(row["method"], {}).setdefault(row["temperature"], [])
            points.append((row["tokens_per_forward"], row["bits_per_byte"]))
    return found


def chart(rows: list[Row]) -> Any:
    """A panel a policy, a line a temperature; dashed, one token a forward from left to right."""
    found = curves(rows)
    baseline = found.pop(BASELINE, {})

    def draw(policy: str, ax: Any) -> None:
        lines = found[policy]
        plotting.trade_off({f"{t:g}": points for t, points in lines.items()}, ax=ax)
        for line, temperature in zip(list(ax.lines), lines, strict=True):
            for _, bits in baseline.get(temperature, ()):
                ax.axhline(bits, **{**CONTROL, "color": line.get_color()}, zorder=0)
            line.set(markersize=4)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")

    return panels(
        list(found),
        draw,
        height=2.1,
        up="bits per byte, by another model",
        control="one token a forward, from left to right",
    )


CASE = Case(
    name="diffusion",
    order=12,
    about=(
        "Forwards a token against text quality: every policy of canvas decoding over its knob, with no clock. Held-out "
        "Python files are continued in blocks, with the exact cache. Another model, which is causal, judges."
    ),
    models=CANVAS,
    columns=(
        TEMPERATURE,
        ("top-p", number("top_p", ".1f")),
        ("block", word("block")),
        METHOD,
        ("setting", word("setting")),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("rows/token", number("rows_per_token", ".1f")),
        ("bits/byte", number("bits_per_byte", ".2f")),
        ("worse than left to right", number("worse", "+.1%")),
        ("entropy", number("entropy", ".2f")),
        ("distinct", number("distinct", ".0%")),
        ("blanks", number("blanks", ".0%")),
        ("identical rows", number("identical_rows", ".0%")),
        ("best within 5%", lambda row: "yes" if row["best"] else ""),
        ("bar of the best", number("bar", ".0f")),
        ("standard error of bits", number("bits_error", ".2f")),
        ("of worse", number("worse_error", ".1%")),
        IDENTICAL,
        ("acceptance", number("acceptance", ".1%")),
        EXACTNESS,
    ),
    legend=(
        f"{QUALITY}*worse than left to right*: bits over those of the same model, one token a forward from left to "
        "right; *best within 5%*: the setting of most tokens a forward that has at most 5% more bits and at most 5% "
        "less entropy. *identical rows*: texts that are those of the same policy, or the one that it speeds up, at one "
        "token a forward. *true text*: what the files go on with."
    ),
    labels=("temperature", "top_p", "block", "method", "setting"),
    run=run,
    chart=chart,
    figures=figures,
    writes=True,
)
