"""Growth rules: trees are trees, and every node was drawn from the law that it states."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec.decoding import Rows
from jaxdec.generation import prepare
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.speculative import Context, grow
from jaxdec.speculative.growth import BestFirst, Growth, ThresholdGrowth
from jaxdec.testing.oracles import hash_oracle

V = 4


def _context(batch: int, temperature: float, depth: int) -> Context:
    """The first step of rows that differ in their keys alone."""
    model, params = hash_oracle(V)
    prompt = np.ones((batch, 2), int)
    request = prepare(
        jaxdec.autoregressive(model),
        {"target": params},
        prompt,
        max_new_tokens=8,
        temperature=temperature,
        frequency_penalty=0.7,
    )
    rows, keys = Rows.start(request, V), row_keys(jax.random.key(0), batch)
    places = key_at(keys, Purpose.DRAFT, rows.rounds[:, None], jnp.arange(depth + 1))
    noise = gumbel(places, V) * (temperature > 0)
    return Context(rows, request.settings, keys, noise, None, False)


def _law(table: np.ndarray, path: list[int], temperature: float) -> np.ndarray:
    """The law after a path of drafts below the prompt, whose last token is 1: the frequency penalty counts drafts."""
    above = path[-1] if path else 1
    logits = table[len(path), above] - 0.7 * np.bincount(path, minlength=V)
    scores = np.exp((logits - logits.max()) / temperature)
    return scores / scores.sum()


def check_growth(rule: Growth, draws: int = 4000) -> None:
    """The trees of a rule are trees of its size, and each node is a draw from the law that it states.

    The stated law is that of the node's parent without what was drawn before it, unless the node was chosen; over many
    rows, tokens must come as often as the stated laws say. The likeliest paths are those of a search over all paths.

    Args:
      rule: at most 4 levels, and siblings for a vocabulary of 4.
      draws: rows.
    """
    logits = np.random.default_rng(3).normal(size=(8, V, V)) * 1.5
    table = jnp.asarray(logits, jnp.float32)
    source = lambda carry, depth, frontier: (table[depth, frontier.tokens], carry)
    for temperature in (1.0, 0.0):
        batch = draws if temperature else 8
        context = _context(batch, temperature, rule.depth)
        grown = jax.jit(lambda context=context: grow(rule, None, context, source, None)[0])()
        tree = jax.tree.map(np.asarray, grown)
        assert tree.tokens.shape == (batch, rule.nodes) and tree.depth == rule.depth
        paths = [_paths(tree, row) for row in range(min(batch, 200))]
        for row, found in enumerate(paths):
            _check_shape(rule, tree, row, found)
            if tree.q is not None:
                _check_stated(tree, row, found, logits, temperature)
        if temperature and tree.q is not None:
            _check_drawn(tree)
        if temperature and rule.independent and rule.nodes > rule.depth:
            _check_independent(tree)
        if temperature and isinstance(rule, BestFirst):
            _check_best(rule, paths[0], logits)
        if temperature and isinstance(rule, ThresholdGrowth):
            _check_slots(rule, tree, paths, logits)


def _paths(tree, row: int) -> dict[int, list[int]]:
    """The tokens down to each node that exists."""
    found: dict[int, list[int]] = {-1: []}
    for node, parent in enumerate(tree.parents[row].tolist()):
        if tree.mask[row, node]:
            assert parent < node, f"node {node} comes before its parent {parent}"
            assert parent in found, f"node {node} hangs off {parent}, which does not exist"
            found[node] = [*found[parent], int(tree.tokens[row, node])]
    return found


def _check_shape(rule: Growth, tree, row: int, paths: dict[int, list[int]]) -> None:
    assert len(paths) > 1 and max(map(len, paths.values())) <= rule.depth
    if not rule.independent:
        held = [tuple(path) for path in paths.values()]
        assert len(set(held)) == len(held), f"row {row}: two siblings have one token"


def _check_stated(tree, row, paths, logits, temperature) -> None:
    """Each stated law is one-hot, or the parent's law without some tokens."""
    for node, path in paths.items():
        if node < 0:
            continue
        stated = np.exp(tree.q[row, node])
        assert stated[path[-1]] > 0, f"row {row}: node {node} states a law without its own token"
        np.testing.assert_allclose(stated.sum(), 1, atol=1e-4, err_msg=f"node {node}")
        if temperature == 0 or (stated == 1).any():
            assert (stated == 1).any(), f"row {row}: greedy node {node} is said to be drawn"
            continue
        law = np.where(stated > 0, _law(logits, path[:-1], temperature), 0)
        np.testing.assert_allclose(
            stated, law / law.sum(), rtol=1e-3, atol=1e-5, err_msg=f"node {node}"
        )


def _check_drawn(tree) -> None:
    """Given what is stated, each token comes as often as it should: within 5 standard deviations."""
    drawn = np.eye(V)[tree.tokens]
    stated = np.exp(np.asarray(tree.q, np.float64))
    for node in range(tree.tokens.shape[1]):
        real = tree.mask[:, node]
        excess = (drawn - stated)[real, node].sum(0)
        sigma = np.sqrt((stated * (1 - stated))[real, node].sum(0)) + 1e-3
        worst = np.abs(excess / sigma).max()
        assert worst < 5, f"node {node} is not drawn from the law that it states: {worst:.1f} sigma"


def _check_independent(tree) -> None:
    """Two siblings are equal as often as two draws are."""
    first = tree.parents[0] < 0
    equal = (tree.tokens[:, first][:, 1] == tree.tokens[:, first][:, 2]).mean()
    law = np.exp(tree.q[0, 0])
    expected = float((law**2).sum())
    assert abs(equal - expected) < 0.05, (
        f"siblings are equal in {equal} of the rows, not {expected}"
    )


def _check_best(rule: BestFirst, paths: dict[int, list[int]], logits: np.ndarray) -> None:
    """The nodes are the likeliest of all paths that a beam of the rule's width meets."""
    beam: dict[tuple[int, ...], float] = {(): 1.0}
    weighed: dict[tuple[int, ...], float] = {}
    for _ in range(rule.depth):
        below: dict[tuple[int, ...], float] = {}
        for path, chance in beam.items():
            law = _law(logits, list(path), 1.0)
            for token in np.argsort(-law, kind="stable")[: rule.siblings].tolist():
                below[*path, token] = chance * law[token]
        weighed.update(below)
        beam = dict(sorted(below.items(), key=lambda item: -item[1])[: rule.width])
    best = sorted(weighed, key=lambda path: -weighed[path])[: rule.nodes]
    found = {tuple(path) for node, path in paths.items() if node >= 0}
    assert found == set(best), f"keeps {sorted(found)}, not {sorted(best)}"


def _check_slots(rule: ThresholdGrowth, tree, rows, logits: np.ndarray) -> None:
    """A first child exists wherever its slot is likely enough, a later one by what is left of its parent's mass."""
    for row, paths in enumerate(rows):
        if tree.mask[row].all():
            continue  # the budget may have cut it
        children: dict[int, list[int]] = {}
        for node, path in paths.items():
            if node >= 0:
                children.setdefault(int(tree.parents[row, node]), []).append(path[-1])
        reach = lambda path: np.prod([_law(logits, path[:i], 1.0)[t] for i, t in enumerate(path)])
        for node, path in paths.items():
            if len(path) >= rule.depth or len(path) > 0:
                continue  # deeper levels may be cut by the width
            law = _law(logits, path, 1.0)
            had = children.get(node, [])
            mass = reach(path) * (1 - sum(law[t] for t in had))
            if len(had) < rule.siblings:
                assert mass < rule.least * (1 + 1e-5), f"row {row}: a sibling of {had} is missing"
            before = reach(path) * (1 - sum(law[t] for t in had[:-1]))
            assert before >= rule.least * (1 - 1e-5), f"row {row}: {had} has one too many"
