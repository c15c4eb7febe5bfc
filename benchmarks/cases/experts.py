"""Experts over devices: what stays, what moves, and what can be guessed, on the trained mixture."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks.case import Case
from benchmarks.columns import Row, number, plus_minus, word
from benchmarks.progress import each
from benchmarks.routes import Routes, routes
from benchmarks.setting import Setting
from benchmarks.workload import prompts
from jaxdec.models.layers.expert_parallel import by_device, capacity_of
from jaxdec.parallel.expert_placement import expert_affinity, in_order, place_experts
from jaxdec.parallel.expert_prediction import hit_rate, token_table
from jaxdec.parallel.expert_traffic import (
    all_reduce,
    context,
    one_all_to_all,
    two_all_to_alls,
    visited,
)

MODEL = "code-mixture"
DEVICES = 2, 4
SHUFFLES = 16
GROUP = 2048
"""Tokens that are routed together."""
GATE, KNOWN = "by the gate, before the attention", "known"
NUMBER = 2
"""Bytes of a number that is moved: bfloat16."""


def run(setting: Setting) -> list[Row]:
    """One row a number of devices, placement and guess; the first has the counts of transitions that were traced."""
    scale, loaded, rows = setting.scale, jaxdec.load(MODEL), []
    config: Any = loaded.config
    experts, layers = config.mixture.experts, config.layers - config.mixture.first
    seen, held = (
        routes(loaded.model, loaded.params, prompts(sources, count))
        for sources, count in (
            (setting.corpus.train, scale.traced),
            (setting.corpus.held_out, scale.routed),
        )
    )
    facts = {"prompts": scale.routed, "tokens": len(held.tokens), "traced": len(seen.tokens)}
    size, cached = NUMBER * config.width, 2 * config.kv_heads * config.head_dim
    counts = expert_affinity(seen.experts, experts)
    for devices in each(DEVICES, "{} devices".format):
        facts["sum"] = size * all_reduce(layers, devices)
        fixed = {
            "all_reduce": facts["sum"],
            "context": NUMBER * context(layers, devices, cached),
        }
        best = place_experts(counts, devices)
        numbered = in_order(layers, experts, devices)
        generator = np.random.default_rng(0)
        shuffled = [generator.permuted(numbered, axis=1) for _ in range(SHUFFLES)]
        for name, places in (
            ("as numbered", [numbered]),
            (f"{SHUFFLES} at random", shuffled),
            ("ExFlow", [best.devices]),
        ):
            labels = {"devices": devices, "placement": name}
            row = {**labels, "guess": "none", **facts, **fixed}
            if name == "ExFlow":
                row["bound"], row["experts_on"] = best.bound, best.devices.tolist()
            elif not rows:
                row["transitions"] = counts.astype(int).tolist()
            rows.append({**row, **moves(held, places, devices, size)})
            if len(places) == 1:
                rows += [
                    {**labels, **row, **facts}
                    for row in guessed(seen, held, places[0], devices, size, config.vocab_size)
                ]
    return rows


def moves(held: Routes, places: list[np.ndarray], devices: int, size: int) -> Row:
    """What tokens do whose homes are their places in the batch, on average over placements."""
    homes = np.arange(len(held.tokens)) % devices

    def mean(name: str, of: Callable[[np.ndarray], np.ndarray], unit: float = 1.0) -> Row:
        return held.figure(name, np.mean([of(place) for place in places], axis=0), unit)

    def local(place: np.ndarray) -> np.ndarray:
        at = place[np.arange(len(place))[:, None, None], held.experts]
        return (at[:-1, :, :, None] == at[1:, :, None, :]).mean((0, 2, 3))

    one = lambda place: one_all_to_all(held.experts, place, devices, homes)
    return {
        **mean("local", local),
        **mean("stays", lambda place: one(place)[1], 1 / len(held.experts)),
        **mean("two", lambda place: two_all_to_alls(held.experts, place, devices, homes), size),
        **mean("one", lambda place: one(place)[0], size),
        **(padded(held, places[0], devices, None, size) if len(places) == 1 else {}),
    }


def guessed(
    seen: Routes, held: Routes, place: np.ndarray, devices: int, size: int, vocab_size: int
) -> Iterator[Row]:
    """What tokens do that begin on the device of their guessed best expert; tables are of the traced windows."""
    (layers, experts), per_token = place.shape, held.experts.shape[-1]
    table = lambda tokens: token_table(tokens, seen.experts, vocab_size, experts)
    by_token = np.asarray(table(seen.tokens).guess(jnp.asarray(held.tokens), per_token))
    by_before = np.asarray(table(seen.before).guess(jnp.asarray(held.before), per_token))
    by_gate = np.concatenate([by_token[:1], held.next_gate])
    best = lambda guess: np.take_along_axis(place, guess[:, :, 0], axis=1)
    home = np.asarray(table(seen.tokens).home(jnp.asarray(held.tokens), place, devices))
    for name, guess, homes in (
        ("by the token before", by_before, best(by_before)),
        ("by the token", by_token, best(by_token)),
        ("by the token, one home for all layers", None, home[None].repeat(layers, 0)),
        ("by the layer before", by_gate, best(by_gate)),
        (GATE, held.own_gate, best(held.own_gate)),
        (KNOWN, held.experts, best(held.experts)),
    ):
        at = place[np.arange(layers)[:, None, None], held.experts]
        right = (at == homes[:, :, None]).any(-1).mean(0)
        two = two_all_to_alls(held.experts, place, devices, homes)
        hits = {}
        if guess is not None:
            rate = np.asarray(hit_rate(jnp.asarray(guess), jnp.asarray(held.experts)))
            hits = held.figure("hits", rate.mean(0))
        yield {
            "guess": name,
            **hits,
            **held.figure("right", right),
            **held.figure("two", two, size),
            **padded(held, place, devices, homes, size),
        }


def padded(
    held: Routes, place: np.ndarray, devices: int, homes: np.ndarray | None, size: int
) -> Row:
    """Bytes a token of `dispatch` as it is, rounds of fixed capacity, for groups of tokens that are routed together."""
    group = min(GROUP, len(held.tokens) // 2)
    share, found = group // devices, []
    group = share * devices
    capacity = capacity_of(share, held.experts.shape[-1], devices)
    for start in range(0, len(held.tokens) - group + 1, group):
        rounds = 0
        for layer, to in enumerate(visited(held.experts[:, start : start + group], place, devices)):
            order = np.arange(group)
            if homes is not None:
                order = np.asarray(
                    by_device(jnp.asarray(homes[layer, start : start + group]), devices)
                )
            pairs = to[order].reshape(devices, share, devices).sum(1)
            np.fill_diagonal(pairs, 0)
            rounds += -(-pairs.max() // capacity)
        found.append(2 * size * rounds * capacity * devices * (devices - 1) / group)
    error = 2 * np.std(found, ddof=1) / np.sqrt(len(found))
    return {"padded": float(np.mean(found)), "padded_error": float(error), "together": group}


def whole(row: Row) -> str:
    """What layers send, the attention's sum with the mixture, in the form that a row stands for."""
    if row["guess"] == "none":
        return f"{2 * row['sum']:.0f} (replicated)"
    forms = {GATE: ("speculative", 1.0), KNOWN: ("dispatch", 1.5)}
    if row["guess"] not in forms:
        return "–"
    form, sums = forms[row["guess"]]
    return f"{sums * row['sum'] + row['padded']:.0f} ({form})"


CASE = Case(
    name="experts",
    order=15,
    about=(
        "Experts of code-mixture (4 layers, 8 experts, 2 a token, width 128) over 2 and 4 devices: transitions between "
        "layers that stay on a device, bytes that a token moves in all layers by several schemes, and how well its "
        "experts are guessed. Counted from the routes of held-out text; placements and tables of tokens are made from "
        "training text. Nothing is timed."
    ),
    models=None,
    columns=(
        ("devices", word("devices")),
        ("placement", word("placement")),
        ("tokens begin", word("guess")),
        ("local transitions", plus_minus("local", ".1%")),
        ("at most", number("bound", ".1%")),
        ("stays", plus_minus("stays", ".1%")),
        ("all-reduce, bytes", number("all_reduce", ".0f")),
        ("two all-to-alls, bytes", plus_minus("two", ".0f")),
        ("in rounds, bytes", plus_minus("padded", ".0f")),
        ("whole layers, bytes", whole),
        ("one all-to-all, bytes", plus_minus("one", ".0f")),
        ("and context, bytes", number("context", ".0f")),
        ("experts guessed", plus_minus("hits", ".1%")),
        ("home right", plus_minus("right", ".1%")),
    ),
    legend="""\
± is twice the standard error over prompts. *local transitions*: pairs of an expert of one layer and one of the next,
both of one token, on one device; *at most*: what the integer programme proved for the text that it saw. Bytes a token,
all layers, in bfloat16. *all-reduce*: every device has all tokens and adds up its own experts (`"replicated"`, what
decode loops do). *two all-to-alls*: from a token's home to its experts and back; its home is its place in the batch
(*none*), or where it was guessed that its best expert is: by tables of tokens, by the layer before through the next
gate (the first layer's guess is that of the token), or by the gate itself on the residual before the attention, which
is what `"speculative"` does; *known* is what `"dispatch"` does where the residual lies on all devices. To be there
again takes half the bytes of the all-reduce, in an all-gather. *in rounds*: the same as the program sends it, of 2,048
tokens together, in rounds of one capacity for all pairs of devices, of which the fullest decides; ± over such groups.
*whole layers*: with the sum of the attention: two all-reduces (what decode loops do), a reduce-scatter, an all-gather
and rounds (`"speculative"`), or an all-reduce, an all-gather and rounds (`"dispatch"`). *one all-to-all*: tokens stay
where their experts were (ExFlow), *stays* is how often one need not move; the keys and values of new tokens then go to
all devices, *and context*. *experts guessed*: share of a token's experts among as many guessed; *home right*: the
device has one of them. A wrong guess costs bytes and changes no token.
""",
    labels=("devices", "placement", "guess"),
    run=run,
)
