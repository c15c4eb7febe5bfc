"""What relaxed acceptance buys, and what it costs: how far its law is from the target's, and what the text is like."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxdec
from benchmarks.case import CAUSAL, Case
from benchmarks.columns import EXACTNESS, TEMPERATURE, Row, number, plus_minus, word
from benchmarks.progress import each
from benchmarks.repeats import error, repeated
from benchmarks.scoring import log_probs
from benchmarks.setting import Setting
from benchmarks.variants import plain
from benchmarks.workload import Variant, Workload
from jaxdec import verifiers
from jaxdec.catalogue.speculation import RULES
from jaxdec.catalogue.speculation.family import JUDGES
from jaxdec.checkpoints import load
from jaxdec.decoding import Exactness
from jaxdec.generation import Result
from jaxdec.measuring.comparison import counts
from jaxdec.model import Model, Params
from jaxdec.speculative import Verifier
from jaxdec.testing import oracles
from jaxdec.testing.draws import count_draws, distance

JUDGE = "code-mixture"
"""Another model of the same text, which has nothing to do with the target."""
DRAFTS, REPEATED = 4, 16
VOCAB, TOKENS, BATCH = 4, 3, 20_000
"""Of the oracle: tokens that there are, and that are drawn."""
CLOSE = 0.5
"""How far the oracle's drafter is from a model of its own towards another one."""
POINTS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "mixed": ({"mix": 0.1}, {"mix": 0.3}),
    "clusters": ({"cluster_gap": 0.05}, {"cluster_gap": 0.2}),
    "near": ({"near_mass": 0.1}, {"near_mass": 0.4}),
    "reflective": ({"reflection": 0.3}, {"reflection": 0.6}),
    "judge": ({"judge_threshold": 0.8}, {"judge_threshold": 0.5}),
    "typical": ({"posterior_threshold": 0.3}, {"posterior_threshold": 0.09}),
    "margin": ({"beta": 3, "tau": 1.0}, {"beta": 5, "tau": 3.0}),
}
"""Settings of the relaxed rules, the stricter one first."""
MAKE: dict[str, Callable[[], Verifier]] = {
    "mixed": lambda: verifiers.MixedTarget(verifiers.TokenRatio())
}
"""Rules that are made for a chain."""


def points(setting: Setting) -> list[tuple[str, Mapping[str, Any]]]:
    """A rule that is exact, and the relaxed ones that the target has weights for, with their settings."""
    names = [name for name in POINTS if name != "judge" or setting.target.name in JUDGES]
    found = [(name, knobs) for name in names for knobs in POINTS[name]]
    return [("token", {}), *found][: setting.scale.speculations]


def told(knobs: Mapping[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{name} {value:g}" for name, value in knobs.items())


def rule(name: str) -> Verifier:
    """A verifier by its name."""
    return MAKE.get(name, RULES[name].make)()


def distances(
    every: Sequence[tuple[str, Mapping[str, Any]]], draws: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """How far the law of each rule and setting is from the oracle's, and what as many draws of that would show."""
    model, target = oracles.hash_oracle(VOCAB, seed=3, scale=1.0)
    draft = oracles.blend(target, oracles.hash_oracle(VOCAB, seed=4, scale=1.0)[1], CLOSE)
    drafter = jaxdec.drafters.model(model, length=TOKENS - 1)
    texts = np.array(list(itertools.product(range(VOCAB), repeat=TOKENS)))
    texts = np.concatenate([np.ones((len(texts), 1), int), texts], axis=1)
    chances = log_probs(model, target, jnp.asarray(texts, jnp.int32))
    law = np.exp(np.asarray(chances, np.float64).sum(1)).reshape((VOCAB,) * TOKENS)
    found = {}
    for name, knobs in each([*every], lambda point: f"oracle: {point[0]} {told(point[1])}"):
        decoder = jaxdec.speculative(model, drafter=drafter, verifier=rule(name))
        sample = RULES[name].sample
        own = {} if sample is None else sample(VOCAB)
        params = {"target": target, "draft": draft, **own}
        drawn = count_draws(
            decoder, params, law.shape, draws=draws, batch=min(BATCH, draws), **knobs
        )
        found[name, told(knobs)] = distance(drawn, law)
    return found


def bits(model: Model, params: Params, result: Result) -> float:
    """Bits a token of what was written, under a model at temperature 1."""
    found = np.asarray(log_probs(model, params, result.tokens), np.float64)
    places = np.arange(1, found.shape[1] + 1)
    start, end = (np.asarray(x)[:, None] for x in (result.prompt_lengths, result.lengths))
    new = (places >= start) & (places < end)
    return float(-found[new].mean() / np.log(2))


def variant(setting: Setting, name: str, knobs: Mapping[str, Any]) -> Variant:
    """Chains of the draft model under a rule."""
    drafter = jaxdec.drafters.model(setting.draft.model, length=DRAFTS)
    decoder = jaxdec.speculative(setting.target.model, drafter=drafter, verifier=rule(name))
    weights = RULES[name].weights
    own = {} if weights is None else weights(setting.target)
    params = {"target": setting.target.params, "draft": setting.draft.params, **own}
    return Variant(name, decoder, params, DRAFTS, knobs=knobs)


def run(setting: Setting) -> list[Row]:
    """One row a temperature, rule and setting; the first of a temperature is plain decoding."""
    scale, rows = setting.scale, []
    rules, held, judge = points(setting), setting.prompts(scale.many), load(JUDGE)
    found = distances(rules, scale.drawn)
    base = plain(setting.target.model, setting.target.params)
    variants = [base, *(variant(setting, *point) for point in rules)]
    every = list(itertools.product(scale.temperatures, variants))
    for temperature, one in each(
        every, lambda each: f"{each[0]:g}: {each[1].name} {told(each[1].knobs)}"
    ):
        method = Workload(held, scale.many, scale.tokens, temperature).method(one)
        (result,) = decoded = method.work(method.setup())
        away = found.get((one.name, told(one.knobs)))
        exactness = one.decoder.exactness
        rows.append(
            {
                "rule": one.name,
                "setting": told(one.knobs),
                "temperature": temperature,
                "exactness": exactness.value,
                "relaxed": exactness in (Exactness.APPROXIMATE, Exactness.HEURISTIC),
                "prompts": scale.many,
                "new_tokens": scale.tokens,
                "draws": scale.drawn,
                "total_variation": None if away is None else away[0],
                "of_exact_draws": None if away is None else away[1],
                **counts(decoded),
                "tokens_per_forward_error": error(result),
                "target_bits": bits(setting.target.model, setting.target.params, result),
                "judge_bits": bits(judge.model, judge.params, result),
                "repeated": repeated(result, REPEATED),
            }
        )
    return rows


CASE = Case(
    name="relaxed",
    order=34,
    about=(
        f"Relaxed rules of acceptance: chains of {DRAFTS} drafts of the small model, held-out Python, no clock; beside "
        f"them the distance of their laws on an oracle of {VOCAB} tokens, of which {TOKENS} are drawn at temperature 1 "
        "many times, with a drafter that resembles it by half."
    ),
    models=CAUSAL,
    columns=(
        TEMPERATURE,
        ("rule", word("rule")),
        ("setting", word("setting")),
        ("total variation", number("total_variation", ".4f")),
        ("of exact draws", number("of_exact_draws", ".4f")),
        ("tokens/forward", plus_minus("tokens_per_forward", ".2f")),
        ("bits by the target", number("target_bits", ".3f")),
        ("bits by a judge", number("judge_bits", ".3f")),
        ("repeated 16-grams", number("repeated", ".0%")),
        EXACTNESS,
    ),
    legend=(
        "*rule*: of the catalogue, the last word of a method's name; *token* is exact. *total variation*: of the law "
        "of the oracle's texts, at temperature 1 whatever the row's; *of exact draws*: what as many draws of the law "
        "itself are expected to show. *bits*: a byte of what was written, under the target and under "
        f"`{JUDGE}`, a model that had no part in it, both at temperature 1: more than plain decoding's is text that "
        "they find worse; text that repeats itself has few. *tokens/forward*: give or take one standard error over the "
        "prompts."
    ),
    labels=("temperature", "rule", "setting"),
    run=run,
)
