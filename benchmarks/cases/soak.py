"""Thousands of requests of every kind through the slot engine, and each of them alone.

Parts that are done are kept in the folder that `JAXDEC_PARTS` names, if it does (`benchmarks.parts`).
"""

import collections
import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import METHOD, Row, number, word
from benchmarks.parts import part
from benchmarks.poison import poisoned
from benchmarks.progress import Steps, steps
from benchmarks.setting import Setting
from benchmarks.soaking import WARM, Soak, mismatches
from benchmarks.traffic import LETTERS, STRINGS, Letters, Traffic
from jaxdec import text
from jaxdec.catalogue import METHODS, Parts
from jaxdec.decoding import Decoder
from jaxdec.generation.requests import Engine, ShortestFirst
from jaxdec.model import Model, Params
from jaxdec.testing import oracles
from jaxdec.text import Tokenizer

BAR = 0.02
"""Growth of memory from the second quarter of the polls to the last, as a share."""
POISON = 255
"""A byte that no text holds; on the oracles, a token that is no letter."""
SHARES = {
    ("oracle", "autoregressive"): 0.34,
    ("oracle", "dynamic-tree"): 0.28,
    ("oracle", "threshold"): 0.26,
    ("shipped", "autoregressive"): 0.05,
    ("shipped", "dynamic-tree"): 0.04,
    ("shipped", "threshold"): 0.03,
}
"""Of all requests, by models and method."""
NODES, DRAFTS, BLOCK, QUARTERS = 8, 4, 8, 4


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a part of the soak goes through.

    Attributes:
      models: `oracle` or `shipped`.
      method: of the catalogue.
      decoder: on models with a poison.
      params: parameters by part name.
      traffic: what arrives.
      settings: of the engine.
    """

    models: str
    method: str
    decoder: Decoder
    params: Mapping[str, Params]
    traffic: Traffic
    settings: Mapping[str, Any]


def _oracles() -> tuple[Model, Params, Params]:
    """A model of `Letters`, its parameters, and those of a model like it; both write letters most of the time."""
    size = Letters().vocab_size
    model, params = oracles.hash_oracle(size)
    _, other = oracles.hash_oracle(size, seed=1)
    rare = jnp.where(jnp.arange(size) < len(LETTERS), 0.0, -8.0)
    return model, params + rare, oracles.blend(params, other, 0.35) + rare


def _decoder(method: str, model: Model, draft: Model, block: int, poison: int) -> Decoder:
    parts = Parts(poisoned(model, poison), poisoned(draft, poison))
    if METHODS[method].denoises:
        parts = Parts(parts.target, block=block, causal=True, refresh="block")
    elif METHODS[method].draft:
        parts = dataclasses.replace(parts, length=DRAFTS, nodes=NODES)
    return METHODS[method].make(parts)


def subjects(setting: Setting) -> Iterator[Subject]:
    """The parts of the soak, in the order of `SHARES`."""
    names = list(SHARES)
    for seed, (models, method) in enumerate(names):
        canvas = METHODS[method].denoises
        knobs = {"temperature": 1.0, "top_p": 1.0}
        if not canvas:
            knobs["repetition_penalty"] = 1.0
        if models == "oracle":
            model, params, other = _oracles()
            draft, block, held, sizes = model, BLOCK, None, (24, 24)
            tokenizer: Tokenizer = Letters()
            poison = len(LETTERS)
            if canvas:
                model = oracles.canvas(model, mask_token=tokenizer.mask_token)
        else:
            target = jaxdec.load("code-block") if canvas else setting.target
            model, params, block = target.model, target.params, target.block_size or BLOCK
            draft, other = setting.draft.model, setting.draft.params
            held, sizes = np.concatenate(list(setting.prompts(8).tokens)), (64, 48)
            held = held[held < text.BOS]
            tokenizer, poison = text.BYTES, POISON
        traffic = Traffic(seed, tokenizer, poison, *sizes, knobs, held)
        settings = {
            "slots": 8,
            "places": 32,
            "chunk": 16,
            "max_prompt": sizes[0],
            "max_new_tokens": sizes[1],
            "stop_strings": STRINGS,
            "tokenizer": tokenizer,
            **({"policy": ShortestFirst()} if method == "dynamic-tree" else {}),
            **({} if canvas else {"reads": 2}),
            **knobs,
        }
        decoder = _decoder(method, model, draft, block, poison)
        own = {"target": params}
        if METHODS[method].draft:
            own["draft"] = other
        yield Subject(models, method, decoder, own, traffic, settings)


def soaked(subject: Subject, count: int, shown: Steps) -> Row:
    """The row of a part."""
    about = f"{subject.models} {subject.method}"
    shown.begin(f"{about}: first requests")
    engine = Engine(subject.decoder, subject.params, **subject.settings)
    engine.warm_up()
    quarter = 0

    def progress(done: int) -> None:
        nonlocal quarter
        while quarter < QUARTERS and done * QUARTERS >= quarter * count:
            quarter += 1
            shown.begin(f"{about}: quarter {quarter} of {count} requests")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "completed"
        with path.open("wb") as file:
            Soak(engine, subject.traffic, file).run(count, WARM)
        with path.open("wb") as file:
            soak = Soak(engine, subject.traffic, file)
            soak.run(0, count, progress)
        shown.begin(f"{about}: alone")
        compared, differing = mismatches(
            subject.decoder,
            subject.params,
            subject.traffic,
            path,
            bits=subject.models == "oracle",
        )
    return {
        "models": subject.models,
        "method": subject.method,
        "about": "",
        **soak.row(),
        "compared": compared,
        "mismatches": len(differing),
        "differing": differing[:20],
        "bar": BAR,
    }


def run(setting: Setting) -> list[Row]:
    """One row a part."""
    counts = [max(round(setting.scale.soaked * share), 1) for share in SHARES.values()]
    counts[0] += setting.scale.soaked - sum(counts)
    rows = []
    with steps(len(counts) * (QUARTERS + 2)) as shown:
        for subject, count in zip(subjects(setting), counts, strict=True):
            make = functools.partial(soaked, subject, count, shown)
            rows.append(part(f"soak-{subject.models}-{subject.method}-{count}", make))
    return [*rows, total(rows)]


def total(rows: list[Row]) -> Row:
    """All parts: sums of counts, and the most that memory grew."""
    summed = ("requests", "refused", "wrongly_refused", "samples", "lost", "duplicates", "compiled")
    outcomes: collections.Counter[str] = collections.Counter()
    for row in rows:
        outcomes.update(row["outcomes"])
    return {
        "models": "all",
        "method": "",
        "about": "",
        **{name: sum(row[name] for row in rows) for name in summed},
        **{name: sum(row[name] for row in rows) for name in ("compared", "mismatches", "seconds")},
        "outcomes": dict(outcomes),
        "memory_growth": max(row["memory_growth"] for row in rows),
        "bar": BAR,
    }


def _outcomes(row: Row) -> str:
    found = {**row["outcomes"], "refused": row["refused"]}
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.items())


def _quarters(row: Row) -> str:
    return " ".join(f"{held / 1e6:.0f}" for held in row.get("memory_quarters", ())) or "–"


CASE = Case(
    name="soak",
    order=26,
    about=(
        "Requests that arrive at random, more and fewer than the slots can serve by turns, of random lengths, budgets, "
        "knobs, seeds, samples, priorities and stops; some are taken back, some have deadlines, some hold a token that "
        "makes laws and cache NaN, some cannot be served. Each that came back is compared with `generate` of it alone, "
        "in a batch of one: on the oracles with log-probabilities and bit for bit, on the shipped models token for "
        "token. Those that were cut have the first tokens of what they have alone."
    ),
    models=CAUSAL,
    columns=(
        ("models", word("models")),
        METHOD,
        ("requests", number("requests", "d")),
        ("samples", number("samples", "d")),
        ("outcomes", _outcomes),
        ("wrongly refused or not", number("wrongly_refused", "d")),
        ("lost", number("lost", "d")),
        ("duplicates", number("duplicates", "d")),
        ("compared", number("compared", "d")),
        ("mismatches", number("mismatches", "d")),
        ("compiled after the first", number("compiled", "d")),
        ("MB by quarter", _quarters),
        ("last over second", number("memory_growth", "+.1%")),
        ("bar", number("bar", ".0%")),
        ("occupancy", number("occupancy", ".0%")),
        ("requests/s", number("requests_per_second", ".0f")),
    ),
    legend=(
        f"*outcomes*: samples by status, and requests that were refused. *compiled after the first*: programs that "
        f"were compiled after {WARM} requests of other numbers. *MB by quarter*: memory of the process, the mean over "
        "each quarter of the polls."
    ),
    labels=("models", "method"),
    run=run,
)
