"""What steps cost by load and draft length, measured on this machine, and kept in a file.

Legend: R numbers of rows, L draft lengths, N prompts, P prompt width.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec.decoding import Record, Request, init, run
from jaxdec.files import write_whole
from jaxdec.generation import prepare
from jaxdec.measuring import machine
from jaxdec.measuring.timing import Method, interleave
from jaxdec.model import Params
from jaxdec.sampling import row_keys
from jaxdec.speculative import Adaptive, LoadCosts, Speculative, adaptive
from jaxdec.speculative.lengths import given

KIND = "jaxdec load costs"
"""What a file of costs says that it is."""

_GIVEN = given()


def verify_costs(
    make: Callable[[int], Speculative],
    params: Params,
    prompts: Any,
    *,
    rows: Sequence[int] = (1, 2, 4, 8, 16, 32),
    lengths: Sequence[int] = (0, 1, 2, 4, 8),
    slots: int | None = None,
    prompt_lengths: Any = None,
    steps: int = 16,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> LoadCosts:
    """Seconds of a step of `adaptive`, drafting included, by rows and draft lengths: what `lengths.by_load` takes.

    Every number of rows is one program for all lengths, compiled before the clock runs; then loops of `steps` steps
    take turns, in an order of their own in every repeat. A cost is the median over the repeats, over the steps.

    Args:
      make: as in `adaptive`.
      params: parameters by part name, those of the target and the drafter.
      prompts: int `[N, P]`, as long as what is to be decoded; row r has prompt `r % N`.
      rows: R numbers of rows that run, ascending.
      lengths: L draft lengths, ascending; those that the drafter can have.
      slots: rows of the batch that they run in, for decoding in a batch of that many slots of which some are empty or
        have ended; if not given, each number of rows is a batch of its own.
      prompt_lengths: int `[N]`, tokens of each prompt; all P if not given.
      steps: of a loop, at least 1.
      repeats: measurements of each, at least 1.
      clock: returns seconds; read just before and just after each loop.
      **settings: further arguments of `prepare`, such as `temperature`.

    Returns:
      Costs in seconds.

    Raises:
      ValueError: for impossible arguments.
    """
    LoadCosts.of(np.ones((len(rows), len(lengths))), rows, lengths, slots)  # checks them
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    for name in ("max_new_tokens", "eos"):
        if name in settings:
            raise ValueError(f"{name} is set by the measurement: no row may end in it")
    decoder = adaptive(make, lengths, rule=_GIVEN)
    asked = _Asked(decoder, params, np.asarray(prompts), prompt_lengths, steps, settings)
    methods = []
    for count in rows:
        request = asked.request(count, count if slots is None else slots)
        methods += [
            _loop(f"{count} rows, {length} drafts", asked, request, place)
            for place, length in enumerate(lengths)
        ]
    timings = interleave(methods, repeats=repeats, clock=clock)
    seconds = [timings[method.name].median / steps for method in methods]
    return LoadCosts.of(np.reshape(seconds, (len(rows), len(lengths))), rows, lengths, slots)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the loops decode."""

    decoder: Adaptive
    params: Params
    prompts: np.ndarray
    prompt_lengths: Any
    steps: int
    settings: dict[str, Any]

    def request(self, running: int, batch: int) -> Request:
        """Rows of which the first ones run, through all steps, whatever they accept."""
        if self.prompts.ndim != 2 or not len(self.prompts):
            raise ValueError(f"prompts must have shape [N, P], got {list(self.prompts.shape)}")
        chosen = np.arange(batch) % len(self.prompts)
        held = self.prompt_lengths
        budget = (self.steps + 1) * self.decoder.width
        return prepare(
            self.decoder,
            self.placed(0),
            self.prompts[chosen],
            lengths=None if held is None else np.asarray(held)[chosen],
            max_new_tokens=jnp.asarray(np.where(np.arange(batch) < running, budget, 0)),
            eos=(),
            **self.settings,
        )

    def placed(self, place: int) -> dict[str, Params]:
        """The parameters, and the place of the length that all rows draft."""
        return {**self.params, _GIVEN.name: jnp.int32(place)}


def _loop(name: str, asked: _Asked, request: Request, place: int) -> Method:
    params, keys = asked.placed(place), row_keys(jax.random.key(0), len(request.lengths))
    start = init(asked.decoder, params, request)
    held = start, Record.start(start.rows, getattr(start, "shelf", None))

    def work(copy):
        state, record = copy
        return run(asked.decoder, params, state, keys, asked.steps, record)[0].rows.length

    return Method(name, work, lambda: jax.tree.map(jnp.copy, held))


def save_costs(costs: LoadCosts, path: str | Path) -> None:
    """Writes costs as JSON, with facts about the machine that they belong to.

    Raises:
      OSError: if the file cannot be written.
    """
    held = {
        "kind": KIND,
        "rows": costs.rows,
        "lengths": costs.lengths,
        "slots": costs.slots,
        "seconds": np.asarray(costs.seconds).tolist(),
        "machine": machine.facts(),
    }
    write_whole(path, json.dumps(held, indent=1, allow_nan=False) + "\n")


def load_costs(path: str | Path) -> LoadCosts:
    """Reads costs that `save_costs` wrote.

    Raises:
      OSError: if there is no such file.
      ValueError: if it holds something else.
    """
    try:
        held = json.loads(Path(path).read_text())
        if not isinstance(held, dict) or held.get("kind") != KIND:
            raise ValueError(f"it does not say that it holds {KIND}")
        return LoadCosts.of(held["seconds"], held["rows"], held["lengths"], held["slots"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} holds no costs: {type(error).__name__}: {error}") from error
