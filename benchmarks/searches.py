"""The searches in the loop that solve tasks, and how each says its answer."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.metered import Run, spend
from benchmarks.solutions import MOST, Found, Solver, found
from jaxdec import autoregressive, search
from jaxdec.catalogue.search.populations import shared_tokens
from jaxdec.decoding import Decoder
from jaxdec.generation.particle_gibbs import forced, references
from jaxdec.search import selection
from jaxdec.training.tasks import DELIMITER, Problem, Task

LINE = search.until([ord(DELIMITER)], most=24)
"""A step of a solution."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A search in the loop.

    Attributes:
      name: of its row of the catalogue.
      make: the decoder.
      answer: what it says of each problem.
      about: which reward, and other settings.
      knobs: of the decoder.
      temperature: of the draws, one or one a hypothesis.
      alone: whether it has one hypothesis.
    """

    name: str
    make: Callable[[Solver, int], Decoder]
    answer: Callable[[Found], Any]
    about: str = ""
    knobs: Callable[[int], dict[str, Any]] = lambda n: {}
    temperature: Callable[[int], Any] = lambda n: 1.0
    alone: bool = False


def heaviest(held: Found) -> Any:
    """The hypothesis of the largest weight, the first of several."""
    return np.argmax(np.where(np.isnan(held.weights), -np.inf, held.weights), axis=1)


def voted(held: Found) -> Any:
    """The vote of all hypotheses by their weights."""
    weights = held.weights - held.weights.max(1, keepdims=True)
    return selection.vote(held.answers, np.exp(np.nan_to_num(weights, nan=-np.inf))).winner


def of_kept(held: Found) -> Any:
    """The vote of those that were kept, ties to the shortest."""
    ids = np.where(np.isfinite(held.weights), held.answers, -1)
    return selection.vote(ids, tie="shortest", lengths=held.lengths).winner


def by_inclusion(held: Found) -> Any:
    """The vote of sequences drawn without replacement, by the weights that make sums over them unbiased."""
    weights = search.beam_rules.importance(held.log_probs, held.scores)
    weights = np.exp(np.asarray(weights, np.float64))
    return selection.vote(held.answers[:, :-1], weights).winner


def best_scored(held: Found) -> Any:
    """The hypothesis of the highest reward among those that ended."""
    return selection.best_of_n(held.scores, held.answers >= 0)


def first(held: Found) -> Any:
    """The only hypothesis, or the first."""
    return np.zeros(len(held.answers), int)


def log_reward(solver: Solver) -> search.Scorer:
    """The log of the value in (0, 1) as a potential."""
    logit = solver.value.logit
    return search.scorers.of_hidden(
        lambda params, hidden: jax.nn.log_sigmoid(logit(params, hidden)), "value"
    )


def plain(solver: Solver) -> Decoder:
    return autoregressive(solver.model)


def _routed(make: Callable[..., Decoder]) -> Callable[[Solver, int], Decoder]:
    return lambda solver, n: make(solver.model, solver.draft, segment=LINE)


METHODS = [
    Method(
        "particle-filter",
        lambda s, n: search.particle_filter(plain(s), s.scorer("reward"), segment=LINE),
        best_scored,
        "reward; best at the end",
    ),
    Method(
        "smc",
        lambda s, n: search.smc(plain(s), segment=LINE, potential=log_reward(s)),
        voted,
        "twisted by the value; weighted vote",
    ),
    Method(
        "particle-gibbs",
        lambda s, n: search.conditional_filter(plain(s), s.scorer("reward"), segment=LINE),
        best_scored,
        "reward; two filters of n / 2",
    ),
    Method(
        "a-star",
        lambda s, n: search.a_star(
            plain(s), s.scorer("reward"), segment=LINE, branches=max(1, min(4, n // 2))
        ),
        heaviest,
        "reward; up to 64 expansions",
    ),
    Method(
        "a-star",
        lambda s, n: search.a_star(
            plain(s), s.scorer("value"), segment=LINE, branches=max(1, min(4, n // 2)), greedy=True
        ),
        heaviest,
        "greedy best first by the value",
    ),
    Method("beams", lambda s, n: search.beams(s.model), first, "length penalty 1"),
    Method(
        "diverse-beams",
        lambda s, n: search.diverse_beams(s.model),
        best_scored,
        "two groups; best score",
    ),
    Method(
        "stochastic-beams",
        lambda s, n: search.stochastic_beams(s.model),
        by_inclusion,
        "weighted vote",
    ),
    Method("superposed", lambda s, n: search.superposed(s.model), first, "no n-grams"),
    Method(
        "cautious",
        lambda s, n: search.cautious(s.model, delimiters=[ord(DELIMITER)], phrase=24),
        heaviest,
        "trials to the line's end",
        lambda n: {"trials_most": n},
    ),
    Method("first-finish", lambda s, n: search.first_finish(plain(s)), heaviest),
    Method(
        "short-m-at-k",
        lambda s, n: search.short_m_at_k(plain(s), max(1, n // 2)),
        of_kept,
        "m = n / 2; vote",
    ),
    Method(
        "deep-prune",
        lambda s, n: search.deep_prune(plain(s), shared_tokens, after=16),
        voted,
        "equal tokens at 16, above 0.75; weighted vote",
        lambda n: {"prune_threshold": 0.75},
    ),
    Method(
        "hedged",
        lambda s, n: search.population(plain(s), segment=search.whole(), scorer=s.scorer("reward")),
        lambda f: selection.mbr(selection.token_f1(f.tokens, f.lengths)).winner,
        "one greedy, others at 0.8; minimum Bayes risk",
        temperature=lambda n: selection.hedged_temperatures(1, n, 0.8),
    ),
    *(
        Method(
            "arbitrage",
            _routed(search.arbitrage),
            first,
            f"tau {tau:g}; no router",
            lambda n, tau=tau: {"tau": tau},  # type: ignore[misc]
            lambda n: 0.0,
            alone=True,
        )
        for tau in (0.0, 0.3, 0.6, 0.9, 1.1)
    ),
    *(
        Method(
            "atts",
            _routed(search.atts),
            first,
            f"alpha {alpha:g}",
            lambda n, alpha=alpha: {"alpha": alpha},  # type: ignore[misc]
            lambda n: 0.0,
            alone=True,
        )
        for alpha in (0.2, 0.6)
    ),
]


def sampled(
    solver: Solver, task: Task, some: Sequence[Problem], n: int, temperature: float = 1.0
) -> Found:
    """Independent samples, each with its reward at the end."""
    decoder = search.population(
        plain(solver), segment=search.whole(), scorer=solver.scorer("reward")
    )
    return found(solver, task, some, decoder, n, temperature=temperature)


def search_for(
    solver: Solver, task: Task, some: Sequence[Problem], method: Method, n: int
) -> Found:
    """What a search in the loop finds."""
    run: Any = spend
    if method.name == "particle-gibbs":
        n, run = n // 2, _filters
    return found(
        solver,
        task,
        some,
        method.make(solver, n),
        n,
        seed=1,
        temperature=method.temperature(n),
        run=run,
        **method.knobs(n),
    )


def _filters(decoder: Any, params: Any, prompt: Any, *, rng: Any, **options: Any) -> Run:
    """Two filters of particle Gibbs in turn; the answer is of the second, what was spent of both."""
    hypotheses, key = options["hypotheses"], jax.random.key(rng[0])
    table = np.full((len(prompt) * hypotheses, MOST), -1, np.int32)
    spent: list[Run] = []
    for filter in range(2):
        keeps = {search.REFERENCE: filter}
        spent.append(
            spend(
                decoder,
                params,
                prompt,
                rng=[seed + filter * 2**24 for seed in rng],
                forced_prefix=table,
                **keeps,
                **options,
            )
        )
        result = spent[-1].result
        table = forced(result, references(result, hypotheses, key), hypotheses, MOST)
    total = (sum(getattr(one, name) for one in spent) for name in ("target", "draft", "steps"))
    return Run(result, *total)
