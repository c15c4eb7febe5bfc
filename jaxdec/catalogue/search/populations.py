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


def _steps(parts: Parts) -> search.Segment:
    return search.of_length(parts.length or STEP)


def _likely() -> search.Scorer:
    return search.scorers.log_prob(mean=True)


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


def _row(
    name: str,
    title: str,
    paper: str,
    make: Callable[[Parts], Decoder],
    tests: str,
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
        "",
        searches=True,
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
        lambda parts: search.smc(autoregressive(parts.target)),
        "tests/search/test_particles.py",
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
        lambda parts: search.particle_filter(
            autoregressive(parts.target), _likely(), segment=_steps(parts)
        ),
        "tests/search/test_particles.py",
    ),
    _row(
        "particle-gibbs",
        "particle Gibbs: particle filters in turn, each with a trajectory of the one before",
        "2502.01618",
        lambda parts: search.conditional_filter(
            autoregressive(parts.target), _likely(), segment=_steps(parts)
        ),
        "tests/search/test_particle_gibbs.py",
    ),
    _row(
        "deep-prune",
        "DeepPrune: traces that a judge expects to end alike stop early, all but one",
        "2510.08483",
        lambda parts: search.deep_prune(
            autoregressive(parts.target), shared_tokens, after=parts.length or 4 * STEP
        ),
        "tests/search/test_deep_prune.py",
    ),
    _row(
        "a-star",
        "A*-decoding: best-first search over steps of reasoning by a process reward",
        "2505.13672",
        lambda parts: search.a_star(autoregressive(parts.target), _likely(), segment=_steps(parts)),
        "tests/search/test_best_first.py",
    ),
    _row(
        "first-finish",
        "First Finish Search: the first of several traces that ends is the answer",
        "2505.18149",
        lambda parts: search.first_finish(autoregressive(parts.target)),
        "tests/search/test_first_finish.py",
    ),
    _row(
        "short-m-at-k",
        "short-m@k: the traces that think the shortest go on to their answers",
        "2505.17813",
        lambda parts: search.short_m_at_k(autoregressive(parts.target), 3),
        "tests/search/test_first_finish.py",
        sample=lambda target, draft: search.short_m_at_k(autoregressive(target), 1),
    ),
]
