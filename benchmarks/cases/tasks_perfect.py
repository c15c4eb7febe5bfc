"""Policies of canvas decoding with a perfect model: what is lost is lost by drawing several tokens at once."""

from collections.abc import Mapping
from typing import Any

from benchmarks.case import Case
from benchmarks.cases import tasks
from benchmarks.columns import EXACTNESS, METHOD, Row, number, word
from benchmarks.progress import steps
from benchmarks.setting import Setting
from benchmarks.solved import Held, swept
from jaxdec import text
from jaxdec.catalogue import Parts
from jaxdec.model import Model, Params
from jaxdec.testing import oracles
from jaxdec.testing.listed import listed
from jaxdec.training.tasks import Agreement, Insert, Problem, Replace, Shuffle, Task
from jaxdec.training.tasks.canvases import laid_out

PROMPTS = {
    Shuffle((5, 5)): "Hbqdkw\n",
    Insert((5, 5)): "Ibqdkw+x\n",
    Replace((5, 5)): "Pbqdkw+x\n",
    Agreement(): "Tfeed dog\n",
}
"""One problem a task stands for all, which differ in their names alone."""


def perfect(prompts: Mapping[Any, str]) -> tuple[Model, Params]:
    """A canvas model that knows the solutions of some problems, all equally likely, and its parameters."""
    canvases = [
        [*laid_out(task, Problem(prompt, solution))[0]]
        for task, prompt in prompts.items()
        for solution in task.solutions(prompt)
    ]
    longest = max(map(len, canvases))
    rows = [[*canvas, *[text.EOS] * (longest - len(canvas))] for canvas in canvases]
    model, params = listed(rows, text.VOCAB_SIZE)
    return oracles.canvas(model, mask_token=text.MASK), params


def run(setting: Setting) -> list[Row]:
    """One row a policy and setting of its knobs, at temperature 1."""
    scale = setting.scale
    some = dict([*PROMPTS.items()][: scale.tasks])
    model, params = perfect(some)
    held: Held = {task: [Problem(prompt, "")] * (2 * scale.solved) for task, prompt in some.items()}
    rows: list[Row] = []
    own = Parts(model)
    chosen = tasks.methods(own)[: scale.policies]
    with steps(len(chosen)) as shown:
        for method in chosen:
            shown.begin(method.name)
            rows += swept(method, own, params, held, (1.0,), scale.points)
    return tasks.judged(rows, (1.0,))


def _of(task: Task) -> list[tuple[str, Any]]:
    """The columns of a task: what is right, and what as many forwards in fixed groups would give."""
    cell = lambda what: (
        lambda row: (
            format(row["by_task"][task.name][what], ".1%") if task.name in row["by_task"] else "–"
        )
    )
    return [(task.name, cell("exact")), ("fixed groups", cell("limit"))]


CASE = Case(
    name="tasks_perfect",
    order=18,
    about=(
        "Exact answers against tokens a forward with a perfect model of tasks that have several solutions, at "
        "temperature 1: every policy of canvas decoding over its knob, without a network and without a clock."
    ),
    models=None,
    columns=(
        METHOD,
        ("setting", word("setting")),
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("exact", number("exact", ".1%")),
        ("standard error", number("exact_error", ".1%")),
        ("fixed groups", number("limit", ".1%")),
        *(column for task in PROMPTS for column in _of(task)),
        ("best within 1%", lambda row: "yes" if row["best"] else ""),
        ("area", number("area", ".2f")),
        EXACTNESS,
    ),
    legend=(
        "The model knows the exact law of every hidden token, given those that stand there. *fixed groups*, behind "
        "each task too: how often it is right with as many forwards as each row took, in the best groups fixed "
        "beforehand; the rest as in `tasks`."
    ),
    labels=("method", "setting"),
    run=run,
    chart=tasks.chart,
)
