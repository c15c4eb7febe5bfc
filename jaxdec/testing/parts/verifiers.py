"""Verifiers: laws by enumeration, and samplers by what they do on one tree."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec.decoding import Rows, Scored
from jaxdec.generation import prepare
from jaxdec.sampling import row_keys
from jaxdec.speculative import Context, DraftTree
from jaxdec.speculative.verifiers import RatioVerifier, TypicalAcceptance
from jaxdec.testing.enumeration import (
    Chooser,
    Conditional,
    Draft,
    Node,
    Prefix,
    chain,
    independent_tests,
    plain_law,
    random_conditional,
    total_variation,
    tree_round,
    tree_round_law,
)
from jaxdec.testing.oracles import hash_oracle
from jaxdec.testing.statistics import g_test

V = 3


def without(law: np.ndarray, *tokens: int) -> np.ndarray:
    """The law with some tokens removed; zeros if nothing is left."""
    left = np.where(np.isin(np.arange(len(law)), tokens), 0, law)
    return left / left.sum() if left.sum() > 0 else left


def siblings(
    chooser: Chooser, law: np.ndarray, count: int, kind: str
) -> list[tuple[int, np.ndarray] | None]:
    """`(token, q)` of the children of a node, None where the law has run out."""
    one_hot = np.eye(len(law))
    best = np.argsort(-law, kind="stable").tolist()
    if kind == "greedy":  # one draw from the rest first, then the likeliest tokens
        rest = without(law, *best[: count - 1])
        return [(chooser.choose(rest), rest), *((t, one_hot[t]) for t in best[: count - 1])]
    if kind == "chosen":
        return [(t, one_hot[t]) for t in best[:count]]
    drawn: list[tuple[int, np.ndarray] | None] = []
    for _ in range(count):
        if law.sum() == 0:
            drawn.append(None)
            continue
        token = chooser.choose(law)
        drawn.append((token, law))
        if kind == "without replacement":
            law = without(law, token)
    return drawn


def branching(draft: Conditional, counts: tuple[int, ...], kind: str) -> Callable[[Chooser], Draft]:
    """A program that drafts `counts[d]` children for every node of depth d."""

    def program(chooser: Chooser) -> Draft:
        nodes: list[Node | None] = []
        level: list[tuple[int, Prefix] | None] = [(-1, ())]
        for count in counts:
            below: list[tuple[int, Prefix] | None] = []
            for above in level:
                drawn = [None] * count
                if above is not None:
                    drawn = siblings(chooser, draft(above[1]), count, kind)  # type: ignore[assignment]
                for child in drawn:
                    if child is None or above is None:
                        nodes.append(None)
                        below.append(None)
                        continue
                    nodes.append(Node(child[0], above[0], tuple(child[1])))
                    below.append((len(nodes) - 1, (*above[1], child[0])))
            level = below
        return tuple(nodes)

    return program


def chains(draft: Conditional, count: int, length: int) -> Callable[[Chooser], Draft]:
    """A program that drafts independent chains; what follows equal prefixes hangs off the first of them."""

    def program(chooser: Chooser) -> Draft:
        nodes: list[Node] = []
        first: dict[Prefix, int] = {}
        for _ in range(count):
            parent, prefix = -1, tuple[int, ...]()
            for _ in range(length):
                law = draft(prefix)
                token = chooser.choose(law)
                prefix = (*prefix, token)
                nodes.append(Node(token, parent, tuple(law)))
                parent = first.setdefault(prefix, len(nodes) - 1)
        return tuple(nodes)

    return program


Program = Callable[[Conditional], Callable[[Chooser], Draft]]


def programs(verifier: RatioVerifier) -> Iterator[tuple[str, Program, int]]:
    """Drafts that a verifier must judge exactly: a name, the program for a drafter's laws, and tokens a round."""
    if not verifier.needs_independence:
        yield "a chain", lambda q: chain(q, 3), 4
        yield "a chosen chain", lambda q: chain(q, 3, chosen=True), 4
        yield "a chain that is cut", lambda q: chain(q, 3, real=1), 4
        yield "no draft", lambda q: chain(q, 3, real=0), 4
    if verifier.chains_only:
        return
    yield "2 chains of 2", lambda q: chains(q, 2, 2), 3
    yield "3 chains of 1", lambda q: chains(q, 3, 1), 2
    if verifier.needs_independence:
        return
    for kind in ("with replacement", "without replacement", "chosen", "greedy"):
        yield f"(2, 1), {kind}", partial(branching, counts=(2, 1), kind=kind), 3
        yield f"(3,), {kind}", partial(branching, counts=(3,), kind=kind), 2


def check_verifier(verifier: RatioVerifier, seeds: int = 2) -> None:
    """A round of a verifier by ratios emits the target's law, whatever was drafted and however; and it samples its law.

    Enumerates all drafts and all outcomes of the tests of small programs in float64, then draws 40,000 rounds on one
    tree.

    Raises:
      AssertionError: naming the draft program and the distance of the laws.
    """
    for name, program, length in programs(verifier):
        for seed in range(seeds):
            target, draft = (
                random_conditional(V, length, seed),
                random_conditional(V, length, seed + 9),
            )
            law = tree_round_law(verifier, target, program(draft), length)
            distance = total_variation(law, plain_law(target, length))
            assert distance < 1e-9, f"{name}: the law of a round is {distance:.1e} off"
    if not verifier.needs_independence:
        same = random_conditional(V, 4, 5)
        accepted = tree_round(verifier, same, chain(same, 3))[1]
        assert abs(accepted - 3) < 1e-9, f"draft = target: {accepted} of 3 drafts are accepted"
    _check_missing(verifier)
    for plain in (True, False):
        _check_sampler(verifier, plain)


def _check_missing(verifier: RatioVerifier) -> None:
    """A draft that does not exist is never accepted, and takes nothing from the law that closes above it."""
    parents = np.array([-1, 0, 1] if verifier.chains_only else [-1, -1, 0])
    rng = np.random.default_rng(6)
    p, q = (jnp.asarray(rng.dirichlet(np.ones(V), (1, n)), jnp.float32) for n in (4, 3))
    mask = jnp.asarray([[True, True, False]])
    tree = DraftTree(jnp.asarray([[0, 1, 2]]), jnp.asarray(parents[None]), mask, None, depth=3)
    law = verifier.law(p, q, tree)
    assert law.passing[0, 2] == 0, "a draft that does not exist may be accepted"
    above = parents[2] + 1
    np.testing.assert_allclose(
        law.closing[0, above], p[0, above], atol=1e-6, err_msg="what closes above a missing draft"
    )


def _context(batch: int, plain: bool) -> Context:
    """Rows that differ in their rounds alone."""
    model, params = hash_oracle(V)
    knobs: dict[str, Any] = dict(temperature=1.0) if plain else dict(temperature=1.0, top_k=0)
    request = prepare(
        jaxdec.autoregressive(model),
        {"target": params},
        np.ones((batch, 2), int),
        max_new_tokens=8,
        **knobs,
    )
    rows = dataclasses.replace(Rows.start(request, V), rounds=jnp.arange(batch))
    keys = row_keys(jax.random.key(0), 1)
    keys = jnp.broadcast_to(keys, (batch,))
    noise = jnp.zeros((batch, 4, V))
    return Context(rows, request.settings, keys, noise, None, False)


def _check_sampler(verifier: RatioVerifier, plain: bool, draws: int = 40_000) -> None:
    """The verifier's draws on one tree have the law that it states."""
    parents = [-1, 0, 1] if verifier.chains_only else [-1, -1, 0]
    depth = 3 if verifier.chains_only else 2
    tokens = [0, 1, 2]
    # No test passes, or fails, for certain, so that two that share a uniform are seen.
    p = np.array([[0.3, 0.5, 0.2], [0.5, 0.2, 0.3], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]])
    q = np.array([[0.6, 0.3, 0.1], [0.001, 0.749, 0.25], [0.2, 0.2, 0.6]])
    if verifier.chains_only:
        q[1] = [0.3, 0.5, 0.2]
    if verifier.needs_independence:
        q[1] = q[0]
    each = lambda x: jnp.broadcast_to(jnp.asarray(x), (draws, *np.shape(x)))
    mask = np.ones(3, bool)
    log = lambda x: np.log(x).astype(np.float32)
    tree = DraftTree(each(tokens), each(parents), each(mask), each(log(q)), depth=depth)
    context = _context(draws, plain)
    logits = each(log(p))
    warp = context.settings.warp

    def verify(tree: DraftTree, logits: jax.Array) -> Any:
        return verifier.verify(None, tree, Scored(logits, logits), warp.log_probs(logits), context)

    outcome = jax.jit(verify)(tree, logits)
    one = jax.tree.map(lambda x: x[:1], tree)
    law = verifier.law(jnp.asarray(p[None], jnp.float32), jnp.asarray(q[None], jnp.float32), one)
    passed, chances = independent_tests(np.asarray(law.passing, float))
    expected = np.zeros((4, V))
    for tests, chance in zip(passed, chances[:, 0], strict=True):
        end = int(verifier.last(jnp.asarray(tests), one)[0])
        expected[end] += chance * np.asarray(law.closing[0, end], float)
    count, path = np.asarray(outcome.count), np.asarray(outcome.path)
    ends = np.where(count > 0, path[np.arange(draws), count], 0)
    found = np.zeros((4, V))
    np.add.at(found, (ends, np.asarray(outcome.next_token)), 1)
    probability = g_test(found.reshape(-1), expected.reshape(-1) / expected.sum())
    what = "one operation" if plain else "all laws"
    assert probability > 1e-6, f"draws on one tree ({what}): p = {probability:.1e}"


def check_typical_acceptance(verifier: TypicalAcceptance | None = None) -> None:
    """Typical acceptance keeps the longest path of likely enough tokens, of several the likeliest."""
    verifier = TypicalAcceptance() if verifier is None else verifier
    rng, rows, depth = np.random.default_rng(0), 64, 3
    parents = np.array([-1, -1, 0, 0, 1, 2, 4])
    tokens = np.array([0, 1, 0, 2, 2, 1, 0])
    p = rng.dirichlet(np.full(V, 0.7), (rows, 8))
    context = _context(rows, False)
    knobs = {
        "posterior_threshold": np.linspace(0.05, 0.9, rows),
        "posterior_alpha": np.full(rows, 0.7),
    }
    traced = {name: jnp.asarray(value, jnp.float32) for name, value in knobs.items()}
    settings = dataclasses.replace(context.settings, knobs=traced)
    each = lambda x: jnp.broadcast_to(jnp.asarray(x), (rows, *x.shape))
    tree = DraftTree(each(tokens), each(parents), each(np.ones(7, bool)), None, depth=depth)
    context = dataclasses.replace(context, settings=settings)
    logits = jnp.asarray(np.log(p), jnp.float32)
    outcome = verifier.verify(None, tree, Scored(logits, logits), logits, context)
    lineage: dict[int, tuple[int, ...]] = {-1: ()}
    for node, parent in enumerate(parents.tolist()):
        lineage[node] = (*lineage[parent], node)
    for row in range(rows):
        bar = lambda law, row=row: min(
            knobs["posterior_threshold"][row], 0.7 * np.exp((law * np.log(law)).sum())
        )
        own = [p[row, a + 1, t] for a, t in zip(parents, tokens, strict=True)]
        likely = [x > bar(p[row, a + 1]) for x, a in zip(own, parents, strict=True)]
        kept = [path for path in lineage.values() if all(likely[n] for n in path)]
        best = max(kept, key=lambda path: (len(path), np.prod([own[n] for n in path])))
        count = int(outcome.count[row])
        found = [int(x) - 1 for x in np.asarray(outcome.path)[row, 1 : count + 1]]
        assert found == list(best), f"row {row}: accepts {found}, not {list(best)}"
