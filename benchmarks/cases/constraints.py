"""Constrained decoding: what masking each law by itself does to the law of texts, and what weights make good."""

import itertools
from typing import Any

import numpy as np

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import Row, number, word
from benchmarks.progress import each
from benchmarks.setting import Setting
from jaxdec import autoregressive, search, text
from jaxdec.decoding import Decoder
from jaxdec.measuring.timing import Method, interleave, ratios
from jaxdec.model import Inputs, Model, Params
from jaxdec.testing import oracles
from jaxdec.text import Automaton

PATTERN = r"[a-z_]{1,12}\((self|x)(, [a-z]{1,4}){0,2}\):\n"
"""What is to follow `def `."""
BEFORE = b"\n\ndef "
TOKENS, WINDOW = 48, 96
LENGTH, SYMBOLS, DRAWS = 3, 4, 4096
"""Of the oracle: tokens of a text, of which one more ends it; texts that are drawn."""


def run(setting: Setting) -> list[Row]:
    """One row a method on the oracle, whose law is enumerated, and one on the shipped model."""
    return [*_on_oracle(setting.scale.constrained), *_on_text(setting)]


def _methods(model: Model, sizes: tuple[int, ...]) -> list[tuple[str, Decoder, int]]:
    drawn = search.awrs(model, max_rejects=64)
    return [
        ("local masking", autoregressive(model), 1),
        *(("smc of awrs" if n > 1 else "awrs, weighted", search.smc(drawn), n) for n in sizes),
    ]


def even(model: Model) -> Automaton:
    """As many tokens 1 as tokens 0, of which there is at least one; token 2 at the beginning alone."""

    def step(state: tuple[int, int, bool], token: int) -> tuple[int, int, bool] | None:
        ones, zeros, first = state
        if token == 2:
            return (0, 0, False) if first else None
        if token in model.eos or ones + zeros > 3:
            return None
        return ones + (token == 1), zeros + (token == 0), False

    return Automaton.explore(
        (0, 0, True), step, lambda state: state[0] == state[1] > 0, model.vocab_size
    )


def laws(
    model: Model, params: Params, prompt: tuple[int, ...], language: Automaton
) -> tuple[dict[tuple[int, ...], float], float]:
    """The law of accepted texts of an oracle given that they are accepted, and their mass."""
    end = SYMBOLS - 1
    words = [w for n in range(LENGTH + 1) for w in itertools.product(range(end), repeat=n)]
    exact = {}
    for word_ in words:
        if not language.accepts(word_):
            continue
        whole = [*word_, end][:LENGTH]
        given = np.array([[*prompt, *whole]], np.int32)
        logits = np.asarray(model(params, Inputs.causal(given), None).logits[0], np.float64)
        log_law = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        start = len(prompt) - 1
        exact[word_] = np.exp(sum(log_law[start + i, v] for i, v in enumerate(whole)))
    mass = sum(exact.values())
    return {w: p / mass for w, p in exact.items()}, mass


def _on_oracle(sizes: tuple[int, ...]) -> list[Row]:
    """The total variation from the conditional law, by many texts; populations give their weighted share."""
    model, params = oracles.hash_oracle(SYMBOLS, seed=8, scale=1.2, eos=(SYMBOLS - 1,))
    language, prompt, rows = even(model), (1, 2), []
    exact, mass = laws(model, params, prompt, language)
    words = sorted(exact)
    for name, decoder, n in _methods(model, sizes):
        prompts = max(1, DRAWS // n)
        result = jaxdec.generate(
            decoder,
            {"target": params},
            np.repeat([prompt], prompts, 0),
            rng=3,
            hypotheses=n,
            max_new_tokens=LENGTH,
            constraint=language,
        )
        said = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
        texts = [tuple(t for t in row[len(prompt) : m] if t != SYMBOLS - 1) for row, m in said]
        own = np.array([words.index(one) if one in exact else -1 for one in texts])
        weights = None if result.pool is None else np.exp(_log_weights(result, n))
        row: Row = {"models": "oracle", "method": name, "hypotheses": n, "prompts": prompts}
        target = np.array([exact[w] for w in words])
        rows.append({**row, **_distances(own.reshape(prompts, n), weights, target, mass)})
    return rows


def _log_weights(result: Any, n: int) -> np.ndarray:
    return np.asarray(result.pool.log_weights, np.float64).reshape(-1, n)


def _distances(own: np.ndarray, weights: np.ndarray | None, target: np.ndarray, mass: float) -> Row:
    """How far what is answered lies from the law `target [W]`; `own [P, H]` are the texts, by their numbers."""

    def away(values: np.ndarray) -> float:
        law = np.array([values[own == i].sum() for i in range(len(target))])
        return 0.5 * float(np.abs(law / law.sum() - target).sum())

    if weights is None:
        return {"distance": away(np.ones(own.shape))}
    total = weights.sum(1, keepdims=True)
    evidence = weights.mean(1) / mass
    # A population answers by its own weights; what dies has no answer.
    return {
        "distance": away(weights / np.where(total > 0, total, 1)),
        "pooled_distance": away(weights),
        "evidence": float(evidence.mean()),
        "evidence_spread": float(evidence.std()),
    }


def _on_text(setting: Setting) -> list[Row]:
    """How unequal the weights of local masking are on the shipped model, and what it costs to know them."""
    scale, model, params = setting.scale, setting.target.model, {"target": setting.target.params}
    held = setting.prompts(scale.canvases * 4)
    windows = [
        bytes(row[n - WINDOW : n].astype(np.uint8).tolist()).decode("latin-1").encode("latin-1")
        for row, n in zip(held.tokens, held.lengths, strict=True)
    ]
    prompts = np.array([list(one + BEFORE) for one in windows], np.int32)
    language = text.regex(PATTERN, text.BYTES, vocab_size=model.vocab_size)
    rows, work = [], []
    for name, decoder, n in each(_methods(model, scale.constrained), lambda one: one[0]):

        def call(_: Any, decoder: Decoder = decoder, n: int = n) -> Any:
            return jaxdec.generate(
                decoder,
                params,
                prompts,
                rng=0,
                hypotheses=n,
                max_new_tokens=TOKENS,
                constraint=language,
            )

        result = call(None)
        row: Row = {"models": setting.target.name, "method": name, "hypotheses": n}
        row["prompts"] = len(prompts)
        if result.pool is not None:
            row["log_evidence"] = float(np.median(np.asarray(result.pool.log_evidence(n))))
            row["dead"] = float(np.isneginf(_log_weights(result, n)).mean())
        rows.append(row)
        work.append(Method(f"{name} {n}", call))
    timings = interleave(work, repeats=scale.repeats)
    base = timings[work[0].name]
    for row, method in zip(rows, work, strict=True):
        row["seconds"] = timings[method.name].median
        row["times_masking"] = float(np.median(ratios(timings[method.name], base)))
    return rows


CASE = Case(
    name="constraints",
    order=31,
    about=(
        "Texts that follow a constraint: local masking, which renormalises each law by itself, against adaptive "
        "weighted rejection sampling, alone and as particles. On an oracle of four symbols all accepted texts are "
        "enumerated; on code-target held-out windows go on with the head of a function."
    ),
    models=CAUSAL,
    columns=(
        ("models", word("models")),
        ("method", word("method")),
        ("n", number("hypotheses", "d")),
        ("prompts", number("prompts", "d")),
        ("total variation", number("distance", ".3f")),
        ("of the weighted texts", number("pooled_distance", ".3f")),
        ("evidence / mass", number("evidence", ".3f")),
        ("its spread", number("evidence_spread", ".3f")),
        ("median log evidence", number("log_evidence", ".2f")),
        ("of weight 0", number("dead", ".1%")),
        ("ms", number("seconds", ".0f", 1e3)),
        ("times masking", number("times_masking", ".2f")),
    ),
    legend="""\
*total variation*: of what a population answers, a text by its weight, from the model's law given that the text is
accepted; a row alone answers its text. *of the weighted texts*: all texts of all populations by their weights, which
approach that law. *evidence / mass*: the mean weight over the mass of accepted texts, 1 if unbiased; *its spread*: the
standard deviation over populations. *times masking*: seconds of all prompts with n rows each over local masking with
one.
""",
    labels=("models", "method", "hypotheses"),
    run=run,
    modules=("outlines_core",),
)
