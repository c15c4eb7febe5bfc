"""What a family is held against: the cheapest and sharpest checks first, since the first failure ends a run.

Imported after a mutant is in place. Everything here is public: `jaxdec.testing`.
"""

import functools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec import any_subset, diffusion, drafters, growth, verifiers
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.model import Heads
from jaxdec.speculative import RankTree
from jaxdec.testing import battery, check_model, parts
from jaxdec.testing.parts import canvas, models

jax.config.update(
    "jax_disable_most_optimizations", True
)  # tiny programs, that take longer to compile than to run

Check = tuple[str, Callable[[], object]]
LOOPS = battery.LOOPS
PARTS = battery.PARTS + battery.ENDS
CHEAP_FIRST = (*PARTS, *LOOPS)
"""All but the statistical check."""


def decoder(name: str, make, checks=CHEAP_FIRST, **options) -> list[Check]:
    """The battery on one decoder, check by check: all look at the runs of one subject."""
    subject = functools.cache(lambda: battery.Subject(make, **options))
    run = lambda check: check(subject())
    title = lambda check: f"{name}: {check.__name__.removeprefix('check_')}"
    return [(title(check), partial(run, check)) for check in checks]


def walked(drafter, verifier=None):
    """Speculation with a drafter of the draft model."""
    return lambda target, draft: jaxdec.speculative(
        target, drafter=drafter(draft), verifier=verifier
    )


PLAIN = decoder("plain decoding", lambda target, draft: jaxdec.autoregressive(target))
CHAIN = decoder("a chain, walked", walked(lambda m: drafters.model(m, length=4)))
TREE = decoder(
    "a tree, walked",
    walked(
        lambda m: drafters.model(m, growth=growth.fixed(RankTree.of((-1, -1, 0, 0, 1, 2, 2, -1))))
    ),
)
RATIO = decoder(
    "a chain, by ratios",
    walked(lambda m: drafters.model(m, length=3), verifiers.TokenRatio()),
    PARTS,
)
ORDERED = decoder(
    "plain decoding in an order", lambda target, draft: jaxdec.autoregressive(target), orders=True
)
ASSD = decoder("assd", lambda target, draft: any_subset.assd(target, width=3), orders=True)
FUSED = decoder(
    "fused",
    lambda target, draft: any_subset.fused(target, width=3, nodes=6, outcomes=4),
    orders=True,
)
LEFT_TO_RIGHT = decoder(
    "a canvas from left to right",
    lambda target, draft: denoise(
        target, unmask=unmask.left_to_right(), schedule=schedules.blocks(8), refresh=refresh.dual()
    ),
)
FREEDAVE = decoder(
    "a canvas with branches",
    lambda target, draft: denoise(
        target,
        unmask=unmask.left_to_right(),
        schedule=schedules.blocks(8, from_start=True),
        attention="causal",
        refresh=refresh.block(),
        branches=3,
    ),
)


def decoding() -> Iterator[Check]:
    """The loop, rows, stops and records."""
    yield from PLAIN
    yield from CHAIN
    chain = walked(lambda model: drafters.model(model, length=2))
    model, _ = battery.pair()
    yield "hypotheses", partial(parts.check_hypotheses, chain(model, model))


def sampling() -> Iterator[Check]:
    """The pipeline and the noise."""
    yield "warp", parts.check_warp
    yield "history", parts.check_history
    yield "bans", parts.check_bans
    yield "noise", parts.check_noise


def visibility() -> Iterator[Check]:
    """Spans and orders."""
    yield "visibility", parts.check_visibility
    yield "orders", parts.check_orders
    yield from ORDERED
    yield from ASSD


def caches() -> Iterator[Check]:
    """The key-value cache and what decoders commit to it."""
    yield "cache", parts.check_cache
    yield from PLAIN
    yield from TREE


def model_wrappers() -> Iterator[Check]:
    """The transformer, and what makes other models of it."""
    model, params = models.transformer()
    yield "model", partial(check_model, model, params)
    yield "reach", partial(parts.check_reach, model, params)
    short, weights = models.transformer(layers=1, window=4)
    yield "window", partial(parts.check_reach, short, weights, 4)
    mask = models.MASK
    for make, own in ((any_subset.two_stream, False), (any_subset.masked_rows, True)):
        asked = partial(parts.check_any_subset_model, make(model, mask), params, model, mask)
        yield make.__name__, partial(asked, canvas=own)
    base = diffusion.canvas_model(model, mask)
    causal = diffusion.next_token(base)
    yield "next token", partial(parts.check_next_token, causal, params, model, mask)
    yield "next token, as a model", partial(check_model, causal, params)


def autoregressive() -> Iterator[Check]:
    """Plain decoding."""
    yield from PLAIN


RULES = {
    "chain": growth.chain(3),
    "fixed": growth.fixed(RankTree.of((-1, -1, 0, 0, 1, 2, 2, -1))),
    "greedy siblings": growth.greedy_siblings(RankTree.branching((3, 2))),
    "independent": growth.independent(3, 3),
    "beam": growth.stochastic_beam(2, 3),
    "threshold": growth.threshold(9, 3, width=3, siblings=3, least=0.1),
    "best first": growth.best_first(7, 3, width=3, siblings=3),
}


def speculative() -> Iterator[Check]:
    """The speculative loop, trees and growth."""
    for name, rule in RULES.items():
        yield f"growth, {name}", partial(parts.check_growth, rule)
    yield from TREE
    yield "adaptive length", parts.check_adaptive
    yield from RATIO


def verifier_laws() -> Iterator[Check]:
    """Laws of acceptance and the walks that sample them."""
    for verifier in (
        verifiers.TokenRatio(),
        verifiers.BlockVerification(),
        verifiers.RecursiveRejection(),
        verifiers.KSeq(),
    ):
        yield type(verifier).__name__, partial(parts.check_verifier, verifier)
    yield "typical acceptance", parts.check_typical_acceptance
    yield from TREE
    ratios = lambda target, draft: any_subset.assd(target, width=3, verifier=verifiers.TokenRatio())
    yield from decoder("assd by ratios", ratios, PARTS, orders=True)


def cycle_heads(model):
    """Heads for a text that counts up: the token after a path of d goes d beyond the target's own."""

    def law(params, hidden, path):
        wanted = jnp.argmax(hidden, axis=-1) + path.shape[-1]
        logits = 50.0 * jax.nn.one_hot(wanted % model.vocab_size, model.vocab_size)
        return jnp.broadcast_to(logits, (*path.shape[:-1], model.vocab_size))

    return Heads(law, 3, model.vocab_size, model.vocab_size)


PERFECT = {
    "model": (lambda m: drafters.model(m, length=3), "self", 4),
    "prompt lookup": (lambda m: drafters.prompt_lookup(length=3, max_ngram=3), "sequence", 2.66),
    "lookup tree": (
        lambda m: drafters.lookup_tree(length=3, nodes=7, matches=4, max_ngram=3),
        "sequence",
        2.85,
    ),
    "input copy": (lambda m: drafters.input_copy(length=3, max_ngram=3), "copy", 3),
    "recycling": (
        lambda m: drafters.token_recycling(m, depth=3, nodes=8, rates=(0.5, 0.2, 0.1)),
        "sequence",
        2.5,
    ),
    "trigrams": (lambda m: drafters.trigram_tree(m, depth=3, nodes=7, slots=3), "count", 3.07),
    "jacobi": (lambda m: drafters.jacobi(m, length=4), "sequence", 2.85),
    "sjd": (lambda m: drafters.speculative_jacobi(m, length=4), "sequence", 2.85),
    "lookahead": (lambda m: drafters.lookahead(m, ngram=3, columns=3, guesses=2), "sequence", 2.5),
}


def drafting() -> Iterator[Check]:
    """What drafters propose, and how much of it a target for which they are perfect accepts."""
    with_drafter = lambda make: lambda model: jaxdec.speculative(model, drafter=make(model))
    for name, (make, kind, rate) in PERFECT.items():
        yield f"perfect {name}", partial(parts.check_perfect_drafts, with_drafter(make), kind, rate)
    heads = lambda model: (
        jaxdec.speculative(
            model, drafter=drafters.heads(cycle_heads(model), growth=growth.chain(3))
        ),
        {"draft": np.zeros(1)},
    )
    yield "perfect heads", partial(parts.check_perfect_drafts, heads, "count", 3.5)
    for name in ("prompt lookup", "lookup tree"):
        proposing = with_drafter(PERFECT[name][0])
        yield f"drafts of {name}", partial(parts.check_drafts, proposing, from_text=True)
    for name in ("input copy", "recycling", "trigrams", "sjd"):
        yield f"drafts of {name}", partial(parts.check_drafts, with_drafter(PERFECT[name][0]))
    kept = lambda m: drafters.trimmed(drafters.model(m, length=3), (0, 1, 3))
    yield "drafts of trimmed", partial(parts.check_drafts, with_drafter(kept), allowed=(0, 1, 3))
    yield from TREE


def any_subsets() -> Iterator[Check]:
    """Orders, densities, results by position, and drafts in an order."""
    yield "lattice", parts.check_lattice
    yield "infill", parts.check_infill
    yield (
        "perfect fused",
        partial(parts.check_perfect_infill, lambda m: any_subset.fused(m, width=3), 3.1),
    )
    yield (
        "perfect parallel sampling",
        partial(
            parts.check_perfect_infill, lambda m: any_subset.parallel_sampling(m, width=3), 2.75
        ),
    )
    bigrams = lambda m: any_subset.assd(m, width=3, draft="ngram")
    yield "perfect bigrams", partial(parts.check_perfect_infill, bigrams, 2.2, range(5))
    yield "drafts of bigrams", partial(parts.check_drafts, bigrams, in_order=True)
    yield from ASSD
    yield from FUSED
    ngram = lambda target, draft: any_subset.assd(target, width=3, draft="ngram")
    yield from decoder("bigrams", ngram, orders=True)
    parallel = lambda target, draft: any_subset.parallel_sampling(target, width=3)
    yield from decoder("parallel sampling", parallel, orders=True)


def canvases() -> Iterator[Check]:
    """The canvas loop and its caches."""
    yield "bans", parts.check_bans_on_canvases
    yield "schedules", parts.check_schedules
    for name, (rule, *sets) in canvas.SETS.items():
        yield f"refresh {name}, positions", partial(parts.check_refresh_sets, rule, *sets)
    yield "masks", parts.check_masks
    yield "noise of steps", parts.check_noise_of_steps
    yield "remasked", parts.check_remasked
    yield "groups", parts.check_group_state
    yield "reductions", parts.check_reductions
    yield from LEFT_TO_RIGHT
    for name in ("prefix", "dual", "frozen"):
        yield f"refresh {name}", partial(parts.check_refresh, canvas.SETS[name][0])
    yield (
        "refresh block",
        partial(parts.check_refresh, refresh.block(), ("causal blocks", "causal from the prompt")),
    )
    for name in ("scattered, dual", "guided, frozen", "sub-blocks"):
        yield f"shifted, {name}", partial(parts.check_shifted, name)
    yield "refresh sub-block", partial(parts.check_refresh, refresh.sub_block(), ("sub-blocks",))
    yield from FREEDAVE


def policy_rules() -> Iterator[Check]:
    """Policies, remask rules, stops, fusions and schedules."""
    scores = ("left_to_right", "max_prob", "token_prob", "margin", "entropy")
    warped = tuple(f"warped_{score}" for score in scores[1:])
    for score in (*scores, *warped):
        yield f"quota by {score}", partial(parts.check_policy, unmask.quota(score))
    for spread in ("linear_time", "cosine"):
        yield f"quota, {spread}", partial(parts.check_policy, unmask.quota("margin", spread=spread))
    for policy in (
        unmask.threshold(),
        unmask.threshold(by="entropy"),
        unmask.factor(),
        unmask.dynamic_threshold(by="max_prob"),
        unmask.entropy_bound(),
        unmask.saber(),
        unmask.left_to_right(),
        unmask.first_alone(unmask.quota("max_prob")),
        unmask.in_blocks(unmask.quota("max_prob")),
        unmask.eos_early_rejection(unmask.quota("max_prob", spread="doubling")),
    ):
        yield str(policy), partial(parts.check_policy, policy)
    yield "ancestral", parts.check_ancestral
    yield "backtracking", partial(parts.check_remask, diffusion.backtracking())
    yield "prophet", partial(parts.check_stop, diffusion.prophet())
    yield "credit", partial(parts.check_fuse, diffusion.credit())
    yield "schedules", parts.check_schedules


SUITES = {
    "decoding": decoding,
    "sampling": sampling,
    "visibility": visibility,
    "caches": caches,
    "models": model_wrappers,
    "autoregressive": autoregressive,
    "speculative": speculative,
    "verifiers": verifier_laws,
    "drafters": drafting,
    "any_subset": any_subsets,
    "canvas": canvases,
    "policies": policy_rules,
}


def checks(family: str) -> Iterator[Check]:
    """The checks of a family, in the order in which they run."""
    return SUITES[family]()
