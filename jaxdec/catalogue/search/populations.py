"""Populations: particles, best-first search, first finishers."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxdec import search
from jaxdec.autoregressive import autoregressive
from jaxdec.catalogue.method import Method, Parts, Sample
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Params
from jaxdec.speculative import drafters, speculative, verifiers

STEP = 16
"""Tokens of a step where nothing says what a step is."""
PAUSES = (10, 46)
"""Where trials end if nothing else is said: a new line and a full stop, in bytes."""
BRANCHES = 4
"""Steps by which a past is continued, unless it is said."""
KEPT = 3
"""Traces that are kept, unless it is said."""


SCORERS: dict[str, search.Scorer] = {
    "log-prob": search.scorers.log_prob(),
    "mean-log-prob": search.scorers.log_prob(mean=True),
}
"""What a past can be worth without a network that judges it, by name."""


def _steps(parts: Parts) -> search.Segment:
    return parts.segment or search.of_length(STEP)


def _reward(parts: Parts) -> search.Scorer:
    return parts.scorer or SCORERS["mean-log-prob"]


def _cautious(parts: Parts) -> Decoder:
    segment = parts.segment
    if segment is None or not segment.delimiters:
        size = parts.target.vocab_size
        pauses = [token for token in PAUSES if token < size] or [size - 1]
        return search.cautious(parts.target, delimiters=pauses, phrase=STEP)
    return search.cautious(parts.target, delimiters=segment.delimiters, phrase=segment.most)


def _short(parts: Parts) -> Decoder:
    segment = parts.segment or search.whole()
    if segment.most is not None:
        raise ValueError(
            f"thinking ends with a delimiter; method 'short-m-at-k' takes no steps of {segment.most} tokens"
        )
    m = KEPT if parts.m is None else parts.m
    return search.short_m_at_k(parts.within, m, end_of_thinking=segment.delimiters)


def _a_star(parts: Parts) -> Decoder:
    branches = BRANCHES if parts.branches is None else parts.branches
    return search.a_star(parts.within, _reward(parts), segment=_steps(parts), branches=branches)


def even(tokens: jax.Array, prompt_length: jax.Array, length: jax.Array) -> jax.Array:
    """A potential for tests, which falls with every odd new token; arguments as of `scorers.of_tokens`."""
    place = jnp.arange(tokens.shape[1])
    new = (place >= prompt_length[:, None]) & (place < length[:, None])
    return -0.5 * jnp.sum(new & (tokens % 2 == 1), axis=1)


def shared_tokens(
    params: Params, tokens: jax.Array, prompt_length: jax.Array, length: jax.Array
) -> jax.Array:
    """A judge without training: the share of the places at which two traces say the same; see `search.deep_prune`."""
    place = jnp.arange(tokens.shape[-1])
    new = (place >= prompt_length[..., None]) & (place < length[..., None])
    both = new[..., :, None, :] & new[..., None, :, :]
    same = both & (tokens[..., :, None, :] == tokens[..., None, :, :])
    return same.sum(-1) / jnp.maximum(both.sum(-1), 1)


def _pruned(parts: Parts) -> Decoder:
    segment = parts.segment or search.of_length(4 * STEP)
    if segment.most is None or segment.delimiters:
        raise ValueError(
            "traces are judged after a number of tokens; method 'deep-prune' takes no delimiters"
        )
    return search.deep_prune(parts.within, shared_tokens, after=segment.most)


def _row(
    name: str,
    title: str,
    paper: str,
    make: Callable[[Parts], Decoder],
    tests: str,
    takes: tuple[str, ...] = (),
    sample: Sample | None = None,
    variants: Mapping[str, Sample] | None = None,
) -> Method:
    return Method(
        name,
        title,
        paper,
        Exactness.HEURISTIC,
        make,
        tests,
        "search",
        searches=True,
        takes=("inner", *takes),
        sample=sample,
        variants=variants or {},
    )


def _drafted(target, draft):
    chain = drafters.model(draft, length=2)
    return speculative(target, drafter=chain, verifier=verifiers.TokenRatio())


ROWS = [
    _row(
        "smc",
        "sequential Monte Carlo: weighted particles, drawn again when few carry the weight",
        "2306.03081, 2504.13139",
        lambda parts: search.smc(parts.within, segment=parts.segment, potential=parts.scorer),
        "tests/search/test_particles.py",
        takes=("segment", "scorer"),
        variants={
            "of drafted steps": lambda target, draft: search.smc(
                _drafted(target, draft),
                segment=search.until([2], most=4),
                potential=search.scorers.of_tokens(even),
            ),
        },
    ),
    _row(
        "particle-filter",
        "particle filtering by a process reward after each step of reasoning",
        "2502.01618",
        lambda parts: search.particle_filter(parts.within, _reward(parts), segment=_steps(parts)),
        "tests/search/test_particles.py",
        takes=("segment", "scorer"),
    ),
    _row(
        "particle-gibbs",
        "particle Gibbs: particle filters in turn, each with a trajectory of the one before",
        "2502.01618",
        lambda parts: search.conditional_filter(
            parts.within, _reward(parts), segment=_steps(parts)
        ),
        "tests/search/test_particle_gibbs.py",
        takes=("segment", "scorer"),
    ),
    _row(
        "deep-prune",
        "DeepPrune: traces that a judge expects to end alike stop early, all but one",
        "2510.08483",
        _pruned,
        "tests/search/test_deep_prune.py",
        takes=("segment",),
    ),
    _row(
        "a-star",
        "A*-decoding: best-first search over steps of reasoning by a process reward",
        "2505.13672",
        _a_star,
        "tests/search/test_best_first.py",
        takes=("segment", "scorer", "branches"),
    ),
    _row(
        "cautious",
        "Cautious Next Token Prediction: trials to the next pause where the law is unsure; the likeliest stays",
        "2507.03038",
        _cautious,
        "tests/search/test_cautious.py",
        takes=("segment",),
        sample=lambda target, draft: search.cautious(target, delimiters=[2, 5], phrase=4),
    ),
    _row(
        "first-finish",
        "First Finish Search: the first of several traces that ends is the answer",
        "2505.18149",
        lambda parts: search.first_finish(parts.within),
        "tests/search/test_first_finish.py",
    ),
    _row(
        "short-m-at-k",
        "short-m@k: the traces that think the shortest go on to their answers",
        "2505.17813",
        _short,
        "tests/search/test_first_finish.py",
        takes=("segment", "m"),
        sample=lambda target, draft: search.short_m_at_k(autoregressive(target), 1),
    ),
]
