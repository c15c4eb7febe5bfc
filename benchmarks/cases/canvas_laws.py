"""How far the law of every method that decodes a canvas is from the joint law of its model."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.case import Case
from benchmarks.columns import EXACTNESS, METHOD, Row, number, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from jaxdec.catalogue import DENOISING, METHODS, Parts
from jaxdec.decoding import Decoder
from jaxdec.model import Model
from jaxdec.testing import oracles
from jaxdec.testing.draws import count_draws, distance

VOCAB, POSITIONS = 3, 5
FIRST = 1
"""The token of position 0, the prompt."""
BATCH = 20_000
FURTHER: dict[str, tuple[float, ...]] = {
    "joint_tokens": (2,),
    "guider_top": (1,),
    "line_confidence": (0.3,),
    "factor": (2,),
    "entropy_bound": (2.8,),
    "threshold": (0.5,),
    "steps": (2,),
    "minimum": (1,),
}
"""Settings beside a method's own, by the first knob that it has."""
SAMPLES = 4
"""Of a prompt, where they depend on one another."""


def built(name: str, model: Model) -> tuple[Decoder, str]:
    """The decoder of a method whose models are all the table, and what is to be said of these."""
    try:
        return METHODS[name].make(Parts(model, model)), ""
    except ValueError:  # it goes on from the states of masks
        masks = oracles.canvas(model)
        return METHODS[name].make(Parts(masks, masks)), "its network sees no prompt"


def points(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Settings of a method, and what they are called."""
    model, _ = oracles.joint_oracle(VOCAB, POSITIONS)
    decoder, said = built(name, model)
    knobs = decoder.knobs
    alike = "repulsion" in knobs or "line_confidence" in knobs
    together = {"hypotheses": SAMPLES} if alike else {}
    told = [f"{SAMPLES} samples a prompt"] * alike + [said] * bool(said)
    yield ", ".join(["its own", *told]), together
    for knob in (knob for knob in FURTHER if knob in knobs):
        for value in FURTHER[knob]:
            yield ", ".join([f"{knob} {value:g}", *told]), {knob: value, **together}
        return


def run(setting: Setting) -> list[Row]:
    """One row a method and setting; the first is exact."""
    model, table = oracles.joint_oracle(VOCAB, POSITIONS, seed=3)
    params = {"target": table, "draft": table}
    joint = np.asarray(table, np.float64)[FIRST]
    joint = joint / joint.sum()
    scale, rows = setting.scale, []
    every = [(name, *at) for name in DENOISING[: scale.policies] for at in points(name)]
    for name, label, knobs in each(every, "{0[0]}, {0[1]}".format):
        decoder, _ = built(name, model)
        batch = min(BATCH, scale.drawn)
        shape = joint.shape
        found, expected = distance(
            count_draws(
                decoder, params, shape, first=FIRST, draws=scale.drawn, batch=batch, **knobs
            ),
            joint,
        )
        rows.append(
            {
                "method": name,
                "about": "",
                "setting": label,
                "exactness": METHODS[name].exactness.value,
                "draws": scale.drawn,
                "total_variation": found,
                "of_exact_draws": expected,
            }
        )
    return rows


def table(rows: list[Row]) -> str:
    """A line a method, in the order of the rows: the distance at its own setting, and at another one."""
    lines = [
        "| method | total variation, by its own setting | at another | of exact draws |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["method"] for row in rows):
        own, *others = (row for row in rows if row["method"] == name)
        about = own["setting"].removeprefix("its own").removeprefix(", ")
        further = (
            f"{row['total_variation']:.3f} ({row['setting'].partition(', ')[0]})" for row in others
        )
        lines.append(
            f"| `{name}`{f' ({about})' * bool(about)} | {own['total_variation']:.3f} "
            f"| {', '.join(further) or '–'} | {own['of_exact_draws']:.3f} |"
        )
    return "\n".join(lines) + "\n"


CASE = Case(
    name="canvas_laws",
    order=19,
    about=(
        "How far the law of the texts that each method of canvases draws is from the joint law of the model. The model "
        "is a table of the joint law of five tokens of three kinds, conditioned on what a position sees; four tokens "
        "are drawn after the first, on a whole canvas at temperature 1, many times."
    ),
    models=None,
    columns=(
        METHOD,
        ("setting", word("setting")),
        ("total variation", number("total_variation", ".4f")),
        ("of exact draws", number("of_exact_draws", ".4f")),
        EXACTNESS,
    ),
    legend=(
        "*total variation*: half the sum of absolute differences between how often each text was drawn and its "
        "probability; *of exact draws*: what as many draws from the joint law itself are expected to show. One token a "
        "step in an order that looks at no draw is exact on such a model, whatever the method declares in general."
    ),
    labels=("method", "setting"),
    run=run,
)
