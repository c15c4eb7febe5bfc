"""What a case is, which models it takes, and what its results file holds."""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import jaxdec
from benchmarks import costs, degenerate
from benchmarks.columns import Column, Row
from benchmarks.setting import QUICK, Scale, Setting
from jaxdec.checkpoints import Checkpoint
from jaxdec.measuring import machine
from jaxdec.training.corpus import Corpus


@dataclasses.dataclass(frozen=True)
class Models:
    """The checkpoints that a case is for, by name; others of the same kind can take their place.

    Attributes:
      target: is decoded.
      second: drafts, or judges what was written; None where nobody does.
      kinds: of the models, see `kind`.
      role: of the second one, `"draft"` or `"judge"`.
    """

    target: str
    second: str | None
    kinds: tuple[str, ...]
    role: str = "draft"

    def named(self, target: Checkpoint | None, second: Checkpoint | None) -> dict[str, Any]:
        """The two by their roles, the second one only if there is one."""
        return {"target": target} | ({} if self.second is None else {self.role: second})


CAUSAL = Models("code-target", "code-draft", ("causal", "causal"))
ANY_SUBSET = Models("code-infill", "code-infill-draft", ("any-subset", "any-subset"))
CANVAS = Models("code-block", "code-target", ("canvas", "causal"), role="judge")
FILLED = Models("tasks-mdm", None, ("canvas",))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the small table of methods says of one of them.

    Attributes:
      tokens_per_forward: of the target.
      times_plain: seconds of one token a forward over seconds of the method, on a target of about 25M parameters at
        batch 1; None where no clock ran.
      about: the setting, where it is not the method's own.
    """

    tokens_per_forward: float
    times_plain: float | None = None
    about: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    """A comparison.

    Attributes:
      name: of the case, and the beginning of its results file.
      order: its place among the cases, unique.
      about: what is compared, and how.
      models: that it takes; None without models.
      columns: of its table.
      legend: what the columns and methods are that no other case has.
      labels: the values of a row that tell it apart from the others.
      run: makes the rows.
      check: raises `ValueError` if what the case needs besides models is missing.
      modules: of other packages that it needs.
      by_clock: methods that the clock chooses, so that their counts may differ from run to run.
      chart: draws a picture of the rows of a result as a figure.
      figures: what the rows say of methods of the catalogue, for the small table.
      writes: whether rows are about text that was written: those of degenerate text are then withheld everywhere.
    """

    name: str
    order: int
    about: str
    models: Models | None
    columns: tuple[Column, ...]
    legend: str
    labels: tuple[str, ...]
    run: Callable[[Setting], list[Row]]
    check: Callable[[], object] = lambda: None
    modules: tuple[str, ...] = ()
    by_clock: tuple[str, ...] = ()
    chart: Callable[[list[Row]], Any] | None = None
    figures: Callable[[list[Row]], Mapping[str, Figures]] = lambda rows: {}
    writes: bool = False

    def sound(self, rows: list[Row]) -> list[Row]:
        """The rows that may be printed, drawn and quoted."""
        return degenerate.sound(rows) if self.writes else rows

    def withheld(self, rows: list[Row]) -> str:
        """How many may not and why, a sentence; empty where all may."""
        return degenerate.withheld(rows) if self.writes else ""


def kind(model: jaxdec.Model) -> str:
    """What a model predicts: the next token, any subset, or a canvas."""
    if model.any_subset:
        return "any-subset"
    return "canvas" if model.canvas else "causal"


def check(case: Case, target: Checkpoint | None, second: Checkpoint | None) -> None:
    """Raises `ValueError` if checkpoints are not for the case or not for each other, or the case's data is missing."""
    models = case.models
    if models is not None:
        given = models.named(target, second)
        if None in given.values():
            raise ValueError(f"the case {case.name} needs a {' and a '.join(given)}")
        for (role, held), wanted in zip(given.items(), models.kinds, strict=True):
            if kind(held.model) != wanted:
                raise ValueError(
                    f"the case {case.name} needs a model of kind {wanted} as its {role}; "
                    f"{held.name!r} is of kind {kind(held.model)}"
                )
        sizes = {role: held.model.vocab_size for role, held in given.items()}
        if len({*sizes.values()}) > 1:
            raise ValueError(
                f"the {models.role} has a vocabulary of {sizes[models.role]}, "
                f"the target of {sizes['target']}"
            )
    for name in case.modules:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"the case {case.name} needs {name} (extras test and parity)")
    case.check()


def run_case(
    case: Case,
    target: Checkpoint | None,
    second: Checkpoint | None,
    corpus: Corpus,
    scale: Scale,
) -> dict[str, Any]:
    """Runs a case: everything that its results file holds. A case without models takes None for both.

    Raises:
      ValueError: as `check`.
    """
    check(case, target, second)
    held = {} if case.models is None else case.models.named(target, second)
    bandwidth = costs.copy_bandwidth(scale.copied, repeats=scale.repeats)
    setting = Setting(target, second or target, corpus, scale, bandwidth)
    start = time.perf_counter()
    rows = case.run(setting)
    return {
        "case": case.name,
        "about": case.about,
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
