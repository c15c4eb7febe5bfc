"""Plans: what a decode would hold, move and take on chips that are not there, and whether to speculate on them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxdec.planning import work
from jaxdec.planning.chips import Chip, Topology
from jaxdec.planning.compiling import Job, compiled
from jaxdec.planning.fitting import memory
from jaxdec.planning.task import Task

TOKENS = (1, 8, 16, 32, 64)
"""Tokens a forward whose cost is told, relative to one."""
CHEAP = 1.25
"""How much a forward may cost, relative to one of a single token, while its further tokens count as cheap."""
FAST = 2**28
"""Bytes of weights on a chip that the programs which are compiled hold at least: twice the fast memory, where the
compiler keeps the first layers of a network that is small enough."""


def plan(
    task: Task,
    *,
    layers: Sequence[int] | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Compiles the decode for the chips, and counts.

    Args:
      task: what is planned.
      layers: of the programs that are compiled: two numbers, from which all counts are continued in a straight line to
        the model's own layers, or that number alone. If not given, the least two that `depths` finds.
      report: is called with what is compiled next.

    Returns:
      A JSON object; its keys are those of `docs/plan.md`.

    Raises:
      ValueError: for what cannot be planned, or if the TPU compiler is missing, or refuses a program for another
        reason than its size.
    """
    task.check()
    whole = task.target.config.layers
    compile_layers = depths(task) if layers is None else sorted({min(n, whole) for n in layers})
    if len(compile_layers) == 1 and compile_layers[0] != whole:
        raise ValueError(
            f"one number of layers must be the model's own {whole}, got {compile_layers[0]}"
        )
    kinds = [None, 1, TOKENS[-1]]
    if task.method == "autoregressive":
        kinds.remove(1)
    jobs = [Job(task, depth, tokens) for tokens in kinds for depth in compile_layers]
    found: dict[int | None, list[dict[str, Any]]] = {tokens: [] for tokens in kinds}
    report(jobs[0].about)
    for number, facts in enumerate(compiled(jobs)):
        found[jobs[number].tokens].append(facts)
        if number + 1 < len(jobs):
            report(jobs[number + 1].about)
    programs = {tokens: _continued(facts, compile_layers, whole) for tokens, facts in found.items()}
    programs.setdefault(1, programs[None])
    chip = Topology.parse(task.topology).chip
    return assembled(task, chip, programs, compile_layers)


def depths(task: Task) -> list[int]:
    """Layers of two programs that stand for the whole network, whose layers all compile to the same.

    The first holds `FAST` bytes of weights on a chip, the second twice as many layers; or the network itself, where it
    has no more layers than that.
    """
    size = lambda layers: sum(
        x.size * x.dtype.itemsize
        for x in jax.tree.leaves(task.target.network(layers, task.dtype)[1])
    )
    each = (size(2) - size(1)) / task.model_axis
    first, whole = math.ceil(FAST / each), task.target.config.layers
    return [first, 2 * first] if 2 * first < whole else [whole]


def _continued(facts: list[dict[str, Any]], depths: list[int], whole: int) -> dict[str, Any]:
    """Facts of a program with all layers."""
    names = ("seconds", "processor_seconds")
    spent = {name: [held[name] for held in facts] for name in names}
    if len(facts) == 1:
        return {**facts[0], **spent}
    at = (whole - depths[0]) / (depths[1] - depths[0])
    return {**work.along(facts[0], facts[1], at), **spent}


def assembled(
    task: Task, chip: Chip, programs: dict[int | None, dict[str, Any]], depths: Sequence[int]
) -> dict[str, Any]:
    """A plan of the facts of its programs: None is the task's own, numbers are those that score as many tokens.

    What is counted in a program that the compiler refused, because no chip holds it, is None.
    """
    own, ends = programs[None], (programs[1], programs[TOKENS[-1]])
    scored = all(held["usual"] is not None for held in ends)
    judged = scored and own["usual"] is not None
    return {
        "task": dataclasses.asdict(task),
        "chip": dataclasses.asdict(chip),
        "layers": {"whole": task.target.config.layers, "compiled": list(depths)},
        "tokens_a_forward": own["tokens"],
        "compile_seconds": _spent(programs, "seconds"),
        "compile_processor_seconds": _spent(programs, "processor_seconds"),
        "memory": memory(task, chip, own),
        "step": _step(task, chip, own),
        "wide_step": None
        if own["widest"] is None
        else {**own["widest"], "seconds": work.seconds(chip, own["widest"])},
        "verification": verification(chip, *ends) if scored else None,
        "speculation": speculation(chip, programs) if judged else None,
    }


def _step(task: Task, chip: Chip, own: dict[str, Any]) -> dict[str, Any] | None:
    """A usual step beside the least possible."""
    step = own["usual"]
    if step is None:
        return None
    least = _least(task, own)
    total = sum(least.values())
    return {
        **step,
        "least_bytes": least,
        "times_least": step["bytes"] / total,
        "seconds": work.seconds(chip, step),
        "least_seconds": total / chip.bandwidth,
    }


def _spent(programs: dict[int | None, dict[str, Any]], name: str) -> dict[str, list[float]]:
    """What the programs took to compile, one figure a depth, by what they score."""
    return {
        "step" if tokens is None else f"{tokens} tokens": held[name]
        for tokens, held in programs.items()
    }


def _least(task: Task, own: dict[str, Any]) -> dict[str, int]:
    held, caches = own["weights"], sorted(own["caches"], reverse=True)
    seen = min(1.0, task.context / own["slots"])
    vocabulary = task.target.config.vocab_size
    divides = vocabulary % task.model_axis == 0
    return work.least_bytes(
        weights=held["target"]["read"],
        draft_weights=held.get("draft", {}).get("read", 0),
        keys=round(caches[0] * seen) if caches else 0,
        draft_keys=round(sum(caches[1:]) * seen),
        depth=own["depth"] if "draft" in held else 0,
        rows=task.batch // task.data,
        tokens=own["tokens"],
        vocab_size=vocabulary // task.model_axis if divides else vocabulary,
    )


def verification(chip: Chip, one: dict[str, Any], many: dict[str, Any]) -> list[dict[str, float]]:
    """What a forward of some tokens costs relative to one of a single token.

    Bytes, flops and what is sent are those of the two programs that were compiled, and between them on a straight line.
    """
    plain = work.seconds(chip, one["usual"])
    rows = []
    for tokens in TOKENS:
        at = (tokens - 1) / (TOKENS[-1] - 1)
        step = {
            name: work.along(float(one["usual"][name]), float(many["usual"][name]), at)
            for name in ("bytes", "flops", "sent")
        }
        seconds = work.seconds(chip, step)
        rows.append({"tokens": tokens, **step, "seconds": seconds, "times_one": seconds / plain})
    return rows


def speculation(chip: Chip, programs: dict[int | None, dict[str, Any]]) -> dict[str, Any]:
    """How many tokens a forward must give to pay, how many can be scored cheaply, and what follows."""
    rows = verification(chip, programs[1], programs[TOKENS[-1]])
    own = programs[None]
    cost = work.seconds(chip, own["usual"]) / rows[0]["seconds"]
    cheap = max(row["tokens"] for row in rows if row["times_one"] <= CHEAP)
    most = own["depth"] + 1 if own["depth"] else own["tokens"]
    if own["tokens"] == 1:
        words = (
            f"Forwards of up to {cheap} tokens cost at most {CHEAP:g} times one of a single token: "
            + ("speculate." if cheap > 1 else "do not speculate at this batch and context.")
        )
    elif cost < most:
        words = f"Yes: a step costs {cost:.2f} plain ones and pays from as many tokens on; it can give {most}."
    else:
        words = f"No: a step costs {cost:.2f} plain ones and can give {most} tokens at most; it never pays here."
    return {"break_even": cost, "most_tokens": most, "cheap_tokens": cheap, "words": words}
