"""What a chip holds of a decode, whether that fits, and if not what would.

A program that no chip holds is refused by the compiler, which names what it would need. (It can be told to compile it
all the same, and then moves twice the bytes to save room: no figures of a step.)
"""

import re
from typing import Any

import jax
from jax.experimental import topologies

from jaxdec import parallel
from jaxdec.planning.chips import Chip, Topology
from jaxdec.planning.task import Task

_NAMED = re.compile(r"required for HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds")
_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def compiled(lowered: Any) -> tuple[Any, int]:
    """A program, if a chip holds it.

    Args:
      lowered: of `jax.jit`, for a TPU.

    Returns:
      The compiled program and 0; or None and the bytes that a chip would have to hold.

    Raises:
      jax.errors.JaxRuntimeError: for what is refused for another reason.
    """
    try:
        return lowered.compile(), 0
    except jax.errors.JaxRuntimeError as error:
        needed = named(str(error))
        if needed is None:
            raise
        return None, needed


def named(message: str) -> int | None:
    """The bytes that the compiler says a program needs, arguments included, when it refuses it; None in other words."""
    found = _NAMED.search(message)
    return None if found is None else round(float(found[1]) * 2 ** _POWERS[found[2]])


def bytes_held(program: Any, needed: int, params: int, cache: int) -> dict[str, int]:
    """Bytes a chip: all arguments, temporaries, code, parameters and caches; of no program by what it would need."""
    held = {"params": params, "cache": cache}
    if program is None:
        arguments = params + cache
        return {**held, "arguments": arguments, "temporaries": needed - arguments, "code": 0}
    memory = program.memory_analysis()
    return {
        **held,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }


def elsewhere(task: Task, params: Any, state: Any) -> dict[str, dict[str, int]]:
    """What a chip would hold of the same decode on other slices.

    Args:
      task: what is planned.
      params: shapes of parameters by part.
      state: of the loop, likewise.

    Returns:
      By topology and placement: `chips`, those that rows (`data`) and heads (`model`) are split over, and bytes a chip
      of `params` and `cache`.
    """
    chip = Topology.parse(task.topology).chip
    largest = topologies.get_topology_desc(platform="tpu", topology_name=chip.slices[-1])
    found: dict[str, dict[str, int]] = {}
    for name in chip.slices:
        chips = Topology.parse(name).chips
        for model in range(1, chips + 1):
            data, rest = divmod(chips, model * task.sequence)
            if rest or not data or task.batch % data or task.undivided(model):
                continue
            place = parallel.placement(
                data=data, sequence=task.sequence, model=model, devices=largest.devices[:chips]
            )
            caches: list[int] = []
            count = lambda cache, place=place, caches=caches: caches.append(
                place.bytes_a_device(cache, place.cache_specs(cache))
            )
            parallel.over_caches(count, lambda leaf: None, state)
            found[f"{name}, data {data} x model {model}"] = {
                "chips": chips,
                "data": data,
                "model": model,
                "params": place.bytes_a_device(params, place.specs(params)),
                "cache": sum(caches),
            }
    return found


def memory(task: Task, chip: Chip, own: dict[str, Any]) -> dict[str, Any]:
    """What the loop holds on a chip, whether it fits, and if not with how many rows or tokens, or where, it would.

    Temporaries are taken to grow with rows, and to be split over chips as rows and heads are.
    """
    held = own["memory"]
    other = max(0, held["arguments"] - held["params"] - held["cache"]) + held["code"]
    fixed = held["params"] + other
    needed = fixed + held["cache"] + held["temporaries"]
    rows = task.batch // task.data
    found = {
        "params": held["params"],
        "cache": held["cache"],
        "temporaries": held["temporaries"],
        "code_and_state": other,
        "needed": needed,
        "available": chip.usable,
        "fits": needed <= chip.usable,
    }
    room, grown = chip.usable - fixed, held["cache"] + held["temporaries"]
    most_rows = max(0, int(rows * room / grown)) * task.data if grown else 0
    share = (room - held["temporaries"]) / held["cache"] if held["cache"] else 0.0
    most_tokens = max(0, int(task.context * share)) // 64 * 64
    smallest = None if found["fits"] else _smallest(task, chip, own, other)
    return {**found, "most_rows": most_rows, "most_context": most_tokens, "smallest": smallest}


def _smallest(task: Task, chip: Chip, own: dict[str, Any], other: int) -> dict[str, Any] | None:
    """The slice of fewest chips that holds the decode, and of its placements that which holds least a chip."""
    here, found = task.data * task.model_axis * task.sequence, []
    for name, held in own["elsewhere"].items():
        temporaries = own["memory"]["temporaries"] * here // held["chips"]
        needed = held["params"] + held["cache"] + temporaries + other
        if needed <= chip.usable:
            topology = name.partition(",")[0]
            sizes = {"topology": topology, "data": held["data"], "model": held["model"]}
            found.append((held["chips"], needed, {**sizes, "needed": needed}))
    return min(found, key=lambda entry: entry[:2])[2] if found else None
