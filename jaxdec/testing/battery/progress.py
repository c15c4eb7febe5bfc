"""Step by step: what a step does to rows that run, and that it does nothing to those that have ended."""

from typing import Any

import jax
import numpy as np

from jaxdec import decoding
from jaxdec.decoding import Status
from jaxdec.testing.battery.cases import CASES, Kind
from jaxdec.testing.battery.report import Difference
from jaxdec.testing.battery.runs import COUNTS
from jaxdec.testing.battery.subject import Subject


class Watch:
    """Looks at a stream: rows that have ended stay as they are and cost nothing; those that run count their steps."""

    def __init__(self, subject: Subject, state: Any):
        self.subject = subject
        self.rows: Any = jax.device_get(state.rows)
        self.counts = {name: np.zeros(len(CASES), int) for name in COUNTS}

    def step(self, state: Any, info: Any) -> None:
        """Raises a `Difference` at the first row to which a step did what it must not do."""
        before, rows, info = self.rows, jax.device_get(state.rows), jax.device_get(info)
        ended = before.status != Status.RUNNING
        for b, case in enumerate(CASES):
            took = int(rows.rounds[b]) - int(before.rounds[b])
            if took != int(not ended[b]):
                raise Difference("steps that the row took part in", row=case.name, got=took)
            if not ended[b]:
                self._steps(case.name, b, int(before.rounds[b]), info)
                continue
            for name in ("tokens", "length", "status"):
                one, two = (np.asarray(getattr(x, name))[b] for x in (before, rows))
                if (one != two).any():
                    raise Difference(f"{name} of a row that had ended", row=case.name, got=two)
            for name in ("count", *COUNTS):
                if getattr(info, name)[b]:
                    raise Difference(f"{name} of a row that had ended", row=case.name)
        for name in COUNTS:
            self.counts[name] += getattr(info, name)
        self.rows = rows

    def _steps(self, name: str, b: int, step: int, info: Any) -> None:
        """All that a step writes it chose, where nothing is written that was chosen earlier."""
        written = info.steps[b, : info.count[b]]
        if self.subject.kind is not Kind.CANVAS and (written != step).any():
            raise Difference("the step of a token", row=name, expected=step, got=written.tolist())

    def finish(self) -> None:
        """Raises a `Difference` unless the counts of all steps are those of the run."""
        for b, case in enumerate(CASES):
            for name in COUNTS:
                expected, got = self.subject.free[case.name].counts[name], int(self.counts[name][b])
                if expected != got:
                    raise Difference(f"{name}, summed", row=case.name, expected=expected, got=got)


def check_bounded(subject: Subject) -> None:
    """A run that is bounded takes as many steps, and no more."""
    for steps in (1, 3):
        state = decoding.init(subject.counted, subject.params, subject.request())
        state, _ = decoding.run(subject.counted, subject.params, state, subject.keys, steps)
        got = int(np.asarray(state.rows.rounds).max())
        if got != steps:
            raise Difference("steps of a bounded run", expected=steps, got=got)
