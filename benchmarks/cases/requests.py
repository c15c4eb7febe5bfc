"""Requests under load: the slot engine, static batches and a step loop on the host."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.case import CAUSAL, Case
from benchmarks.columns import Row, number, spread, word
from benchmarks.progress import Steps, steps
from benchmarks.serving import Batches, HostLoop, Load, Served, Server, Slotted
from benchmarks.setting import Setting
from benchmarks.variants import drafting, plain
from benchmarks.workload import Variant
from jaxdec import plotting
from jaxdec.generation.requests import (
    Call,
    Engine,
    FirstCome,
    Policy,
    SameRemaining,
    ShortestFirst,
)
from jaxdec.measuring.timing import Method, interleave, quartiles

SLOTS, PLACES, CHUNK = 8, 128, 64
SHORTEST, LONGEST = 16, 128
"""Tokens of a prompt."""
LEAST, MOST = 8, 128
"""New tokens of a request."""
DRAFTS = 4
BACKLOG_STEPS, LOAD_STEPS = 64, 4
"""Of the engine's loop between two looks of the host: under a backlog, and where tokens are streamed."""
KNOBS = {"temperature": 0.0}
STATIC, HOST, ONE, ENGINE = "static batches", "host loop", "engine, a step a call", "engine"
POLICIES: dict[str, Policy] = {
    "engine, shortest first": ShortestFirst(),
    "engine, same remaining": SameRemaining(),
}
BARS = {STATIC: 1.3, HOST: 1.1}
"""Times the throughput of static batches, and of the loop on the host, that the engine should reach."""
OCCUPANCY = 0.9
PERCENTILES = (50, 95)


def calls(setting: Setting, count: int) -> list[Call]:
    """A ragged mix: lengths of prompts and of what is generated are drawn evenly on a logarithmic scale."""
    draw = np.random.default_rng(0)
    held = setting.prompts(count)
    sizes, budgets = (
        np.exp(draw.uniform(np.log(low), np.log(high + 1), count)).astype(int)
        for low, high in ((SHORTEST, LONGEST), (LEAST, MOST))
    )
    return [
        Call(prompt=row[:size], rng=place, max_new_tokens=int(budget), eos=(), tag=place)
        for place, (row, size, budget) in enumerate(zip(held.tokens, sizes, budgets, strict=True))
    ]


def engine(variant: Variant, policy: Policy) -> Engine:
    """With room for the whole mix."""
    return Engine(
        variant.decoder,
        variant.params,
        slots=SLOTS,
        places=PLACES,
        ring=2 * SLOTS,
        max_prompt=LONGEST,
        max_new_tokens=MOST,
        chunk=CHUNK,
        policy=policy,
        **KNOBS,
    )


def servers(variant: Variant) -> dict[str, Server]:
    """Everything that is compared under a backlog, the slot engine last but for its other policies."""
    first = engine(variant, FirstCome())
    batches = Batches(variant.decoder, variant.params, SLOTS, MOST, KNOBS)
    batches.warm(LONGEST)
    return {
        STATIC: batches,
        HOST: HostLoop(first.template, SLOTS, CHUNK),
        ONE: Slotted(first, 1, streams=False),
        ENGINE: Slotted(first, BACKLOG_STEPS, streams=False),
        **{
            name: Slotted(engine(variant, policy), BACKLOG_STEPS, streams=False)
            for name, policy in POLICIES.items()
        },
    }


def run(setting: Setting) -> list[Row]:
    """One row a decoder and way of serving under a backlog, then one a rate of arrival."""
    held = calls(setting, setting.scale.served)
    variants = [plain(setting.target.model, setting.target.params), drafting(setting, DRAFTS)]
    rows: list[Row] = []
    with steps(len(variants) * (1 + len(setting.scale.rates))) as shown:
        for variant in variants:
            shown.begin(f"{variant.name}: backlog")
            serving = servers(variant)
            found = measured(serving, lambda _: Load.backlog(held), setting.scale.repeats)
            rows += backlog_rows(variant, found)
            pace = statistics.median(len(held) / float(s.last.max()) for s in found[ENGINE])
            rows += list(load_rows(setting, variant, serving, held, pace, shown))
    return rows


def measured(
    serving: dict[str, Server], load: Callable[[int], Load], repeats: int
) -> dict[str, list[Served]]:
    """Serves loads with each server in turns, after one that is not counted.

    Args:
      serving: by name.
      load: of each round; round 0 is not counted.
      repeats: rounds.
    """
    found: dict[str, list[Served]] = {name: [] for name in serving}

    def method(name: str, server: Server) -> Method:
        def work(_):
            served = server.serve(load(len(found[name])))
            found[name].append(served)
            return served.last

        return Method(name, work)

    interleave([method(name, server) for name, server in serving.items()], repeats=repeats)
    return {name: all_served[1:] for name, all_served in found.items()}


def backlog_rows(variant: Variant, found: dict[str, list[Served]]) -> Iterator[Row]:
    """How fast all requests are done that were there at the start."""
    expected = found[STATIC][0].tokens
    over: Any = lambda a, b: [x.rate() / y.rate() for x, y in zip(a, b, strict=True)]
    for name, all_served in found.items():
        against = {other: over(all_served, found[other]) for other in (STATIC, HOST)}
        bars = {
            f"bar_{key}": BARS[other] if name == ENGINE and variant.name == "plain" else None
            for key, other in (("static", STATIC), ("host", HOST))
        }
        yield {
            **_common(variant, name, all_served),
            "load": None,
            "requests_per_second": None,
            "times_static": statistics.median(against[STATIC]),
            "times_static_quartiles": quartiles(against[STATIC]),
            "times_host": statistics.median(against[HOST]),
            "times_host_quartiles": quartiles(against[HOST]),
            **bars,
            "bar_occupancy": OCCUPANCY if name == ENGINE else None,
            "identical": _identical(all_served[-1].tokens, expected),
        }


def load_rows(
    setting: Setting,
    variant: Variant,
    serving: dict[str, Server],
    held: list[Call],
    pace: float,
    shown: Steps,
) -> Iterator[Row]:
    """Latencies over rates of arrival, as shares of what the engine does under a backlog."""
    slotted = serving[ENGINE]
    assert isinstance(slotted, Slotted)
    compared: dict[str, Server] = {
        STATIC: serving[STATIC],
        ENGINE: Slotted(slotted.engine, LOAD_STEPS, streams=True),
    }
    for rate in setting.scale.rates:
        shown.begin(f"{variant.name}: {rate:.0%} of the most")
        load = lambda turn, rate=rate: Load.poisson(held, rate * pace, turn)
        found = measured(compared, load, setting.scale.repeats)
        for name, all_served in found.items():
            yield {
                **_common(variant, name, all_served),
                "load": rate,
                "requests_per_second": rate * pace,
                "identical": _identical(all_served[-1].tokens, found[STATIC][-1].tokens),
            }


def _common(variant: Variant, name: str, all_served: list[Served]) -> Row:
    rates = [served.rate() for served in all_served]
    row: Row = {
        "decoder": variant.name,
        "method": name,
        "about": "",
        "exactness": variant.decoder.exactness.value,
        "slots": SLOTS,
        "requests": len(all_served[0].tokens),
        "tokens": all_served[0].total,
        "repeats": len(all_served),
        "tokens_per_second": statistics.median(rates),
        "tokens_per_second_quartiles": quartiles(rates),
    }
    busy = [served.occupancy for served in all_served if not np.isnan(served.occupancy)]
    row["occupancy"] = statistics.median(busy) if busy else None
    for what in ("first", "token", "whole"):
        for percent in PERCENTILES:
            own = [float(np.percentile(s.waits()[what], percent)) for s in all_served]
            row[f"{what}_{percent}_seconds"] = statistics.median(own)
            row[f"{what}_{percent}_seconds_quartiles"] = quartiles(own)
    return row


def _identical(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The share of requests whose tokens are the same."""
    pairs = zip(found, expected, strict=True)
    return statistics.fmean(bool(np.array_equal(a, b)) for a, b in pairs)


def figure(rows: list[Row]) -> Any:
    """Throughput under a backlog as bars; over rates of arrival, latencies as lines with their quartiles."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9.5, 6.5), layout="constrained")
    top, *below = drawn.subplot_mosaic([["bars", "bars"], ["first", "whole"]]).values()
    backlog = [row for row in rows if row["load"] is None]
    names = {f"{row['decoder']}: {row['method']}": row for row in backlog}
    plotting.bars(
        {"times static batches": {name: row["times_static"] for name, row in names.items()}},
        spreads={
            "times static batches": {
                name: row["times_static_quartiles"] for name, row in names.items()
            }
        },
        ax=top,
    )
    for ax, what, title in zip(
        below, ("first", "whole"), ("to the first token", "to the last token"), strict=True
    ):
        for label, points in latencies(rows, what).items():
            x, y, low, high = np.array(points).T
            ax.errorbar(x, y, [y - low, high - y], marker="o", ms=4, capsize=2, label=label)
        ax.set(xlabel="requests a second", ylabel=f"seconds {title}, 95 of 100", yscale="log")
        ax.spines[["top", "right"]].set_visible(False)
    below[-1].legend(frameon=False)
    return drawn


def latencies(rows: list[Row], what: str) -> dict[str, list[tuple[float, ...]]]:
    """(requests a second, seconds, first and third quartile) by decoder and way of serving."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        if row["load"] is not None:
            name = f"{what}_{PERCENTILES[-1]}_seconds"
            point = (row["requests_per_second"], row[name], *row[f"{name}_quartiles"])
            found.setdefault(f"{row['decoder']}: {row['method']}", []).append(point)
    return found


def _of_most(row: Row) -> str:
    return "backlog" if row["load"] is None else f"{row['load']:.0%}"


CASE = Case(
    name="requests",
    order=25,
    about=(
        "The same requests, of ragged lengths, through the slot engine, in static batches in order of arrival, and "
        "through a loop on the host that calls the same compiled step and refills rows between steps: all there at the "
        "start (backlog), or arriving at random at a rate. In turns in one process. With static batches, who arrives "
        "while others run waits for them to end; Flover's claim is what the engine saves of that wait. *same "
        "remaining* is EXSPEC's grouping, on ragged rows."
    ),
    models=CAUSAL,
    columns=(
        ("decoder", word("decoder")),
        ("served by", word("method")),
        ("rate, of the engine's most", _of_most),
        ("requests/s", number("requests_per_second", ".1f")),
        ("tokens/s", spread("tokens_per_second", ".0f")),
        ("times static", spread("times_static", ".2f")),
        ("bar", number("bar_static", ".1f")),
        ("times host loop", spread("times_host", ".2f")),
        ("bar", number("bar_host", ".1f")),
        ("occupancy", number("occupancy", ".1%")),
        ("bar", number("bar_occupancy", ".0%")),
        *(
            (f"{title} ms, {percent}%", spread(f"{what}_{percent}_seconds", form, 1e3))
            for what, title, form in (
                ("first", "first token", ".0f"),
                ("token", "a token", ".1f"),
                ("whole", "whole", ".0f"),
            )
            for percent in PERCENTILES
        ),
        ("identical", number("identical", ".0%")),
    ),
    legend=(
        f"{SLOTS} slots; prompts of {SHORTEST} to {LONGEST} tokens, {LEAST} to {MOST} new ones, both even on a "
        "logarithmic scale. Medians and quartiles over the repeats; percentiles over the requests of one repeat. "
        "*occupancy*: of the slots, while requests wait for one. *first token*: when whoever asked could have it: a "
        "batch gives its tokens when it ends, the engine after each call, the loop on the host after each step. "
        "*identical*: requests whose tokens are those of static batches."
    ),
    labels=("decoder", "method", "load"),
    run=run,
    chart=figure,
)
