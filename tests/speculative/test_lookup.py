"""Drafting from the row's own text: chains, trees and copies, against Python twins."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import drafters
from jaxdec.speculative.drafters.input_copy import Anchor, find_unique
from jaxdec.speculative.drafters.lookup_tree import merge_chains
from jaxdec.speculative.drafters.prompt_lookup import find_continuations
from tests.speculative.contexts import context, paths, propose, randoms, request, step_result

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 3


def occurrences(text, suffix):
    """Where a suffix ends inside a text, the latest first."""
    ends = range(len(text) - 1, len(suffix) - 2, -1)
    return [end for end in ends if text[end + 1 - len(suffix) : end + 1] == suffix]


@pytest.mark.parametrize("length", [1, 2, 7, 30])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_continuations_against_a_twin(length, count):
    text = randoms(length).integers(0, V, 32)
    starts, found = find_continuations(jnp.asarray(text), length, 4, 2, count)
    row, expected = text[:length].tolist(), []
    for n in (4, 3, 2):  # the longest first, then the most recent
        if n <= length:
            ends = occurrences(row[:-1], row[length - n :])
            expected += [end + 1 for end in ends if end + 1 not in expected]
    assert np.asarray(starts)[np.asarray(found)].tolist() == expected[:count]


@pytest.mark.parametrize("nodes", [1, 4, 9, 20, 30])
def test_merged_chains_against_a_twin(nodes):
    random = randoms(nodes)
    chains = random.integers(0, 2, (5, 4))
    lengths = random.integers(0, 5, 5)
    mask = np.arange(4) < lengths[:, None]
    tree = merge_chains(jnp.asarray(chains), jnp.asarray(mask), nodes)
    wanted = {}  # each prefix once, in the order of depth plus chain
    for total in range(9):
        for chain, length in zip(range(min(total, 5)), lengths[:total], strict=False):
            if total - chain <= length:
                wanted[tuple(chains[chain, : total - chain].tolist())] = True
    assert [x.shape for x in tree] == [(nodes,)] * 3
    assert paths(*map(np.asarray, tree)) == list(wanted)[:nodes]


def test_a_tree_of_continuations():
    text = [1, 2, 0, 1, 2, 1, 0, 1, 2, 0, 0, 1, 2]
    drafter = drafters.lookup_tree(length=3, nodes=6, matches=3, max_ngram=2, min_ngram=2)
    tree, _ = propose(drafter, None, None, context([text, [0, 1]], V, 3))
    read = [paths(tree.tokens[row], tree.parents[row], tree.mask[row]) for row in (0, 1)]
    assert read[0] == [(0,), (0, 0), (1,), (0, 0, 1), (1, 0), (1, 0, 1)]
    assert read[1] == []  # nothing was there before


@pytest.mark.parametrize("period", range(1, 9))
def test_periodic_text_is_drafted_on_at_any_length(period):
    text = (list(range(period)) * 9)[: period + 3]
    wanted = [(period + 3 + i) % period for i in range(12)]
    seen = context([text], 9, 12)
    chain, _ = propose(drafters.prompt_lookup(length=12), None, None, seen)
    assert chain.tokens[0].tolist() == wanted and chain.mask.all()
    tree, _ = propose(drafters.lookup_tree(length=12, nodes=40, matches=2), None, None, seen)
    assert tuple(wanted) in paths(tree.tokens[0], tree.parents[0], tree.mask[0])


@pytest.mark.parametrize("seed", range(12))
def test_the_shortest_unique_suffix_against_a_twin(seed):
    random = randoms(seed)
    prompt_length, length = int(random.integers(1, 14)), 16
    text = random.integers(0, V, 20)
    place, found = find_unique(jnp.asarray(text), length, prompt_length, 3)
    row = text[:length].tolist()
    expected = None
    for n in range(1, min(3, length - prompt_length) + 1):
        ends = occurrences(row[:prompt_length], row[length - n :])
        if len(ends) == 1:
            expected = ends[0] + 1
            break
    assert (int(place) if found else None) == expected


def copying(prompt, output, state):
    """The drafts of a row, and how its anchor goes on after more tokens."""
    drafter = drafters.input_copy(length=3, max_ngram=2)
    before = context([prompt + output], 9, 3, prompts=[len(prompt)])
    tree, proposal = propose(drafter, None, state, before)

    def commit(*more):
        rows = context([prompt + output + list(more)], 9, 3, prompts=[len(prompt)]).rows
        return drafter.update(None, state, rows, step_result(proposal))

    return tree.tokens[0][tree.mask[0]].tolist(), commit


def test_a_copy_begins_with_the_input_and_goes_on_until_a_mismatch():
    prompt = [1, 2, 3, 1, 4, 5, 6]
    drafter = drafters.input_copy(length=3)
    start = drafter.init(None, request([prompt], 9), None)
    drafts, commit = copying(prompt, [], start)
    assert drafts == [1, 2, 3]
    held = commit(1, 2, 3, 1)
    assert held.held.tolist() == [True] and held.place.tolist() == [4]
    assert copying(prompt, [1, 2, 3, 1], held)[0] == [4, 5, 6]
    lost = commit(1, 2, 8)
    assert lost.held.tolist() == [False]
    assert copying(prompt, [1, 2, 8], lost)[0] == []  # 8 is not in the input
    assert copying(prompt, [1, 2, 8, 1], lost)[0] == []  # 1 is there twice, 8 1 never
    drafts, commit = copying(prompt, [1, 2, 8, 4], lost)
    assert drafts == [5, 6]  # anchored anew; the input ends
    assert commit(5, 6, 7).held.tolist() == [False]


def test_an_output_that_is_the_input_takes_a_forward_a_draft_length():
    anchor = Anchor(jnp.zeros(1, jnp.int32), jnp.ones(1, bool))
    prompt, output, forwards = list(range(8)), [], 0
    while len(output) < 8:
        drafts, commit = copying(prompt, output, anchor)
        more = prompt[len(output) : len(output) + len(drafts) + 1]
        anchor, output, forwards = commit(*more), output + more, forwards + 1
    assert forwards == 2
