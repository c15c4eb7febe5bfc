"""States: rows can take the past of others, and a step keeps the types of all that it carries."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset, drafters, growth
from jaxdec.decoding import take_rows
from jaxdec.model import Heads
from jaxdec.speculative import Drafter, LoadCosts, RankTree
from jaxdec.testing import oracles
from jaxdec.testing.heads import block_filler

pytestmark = pytest.mark.usefixtures("quick_compilation")

V, SOURCE = 6, np.array([2, 0, 0])
MODEL, PARAMS = oracles.hash_oracle(V, seed=6)
BOTH = {
    "target": PARAMS,
    "draft": oracles.blend(PARAMS, oracles.hash_oracle(V, seed=7)[1], 0.3),
    "load": LoadCosts.of([[1.0, 1.2], [1.0, 1.6]], (1, 4), (0, 2)),
    "neighbours": np.array([[(t + s) % V for s in (1, 2)] for t in range(V)]),
    "reflection": np.array([1, 2]),
    "history": drafters.history_of([np.arange(V)]),
    "corpus": drafters.corpus_of([np.arange(V)], V, slots=3, buckets=16),
}
PROMPT = np.array([[1, 2, 3, 1, 2], [4, 0, 4, 0, 0], [2, 2, 5, 0, 0]])
LENGTHS = np.array([5, 4, 3])


@dataclasses.dataclass(frozen=True)
class _Featured:
    """The oracle with a law that the features shift; hidden states are logits."""

    def __call__(self, params, inputs, cache=None):
        output = MODEL.forward(params, inputs, cache)
        logits = 0.9 * output.logits + 0.1 * inputs.features
        return dataclasses.replace(output, logits=logits, hidden=logits)


SHAPE = growth.fixed(RankTree.branching((2, 1)))
CANVAS = oracles.canvas(MODEL, mask_token=V - 1)
HEADS = Heads(lambda params, hidden, path: hidden + path.sum(-1, keepdims=True) % 3, 2, V, V)
CAUSAL = {
    "model": lambda: drafters.model(MODEL, growth=SHAPE),
    "heads": lambda: drafters.heads(HEADS, growth=SHAPE),
    "eagle": lambda: drafters.eagle(dataclasses.replace(MODEL, forward=_Featured()), growth=SHAPE),
    "falcon": lambda: drafters.falcon(
        dataclasses.replace(MODEL, forward=_Featured()), block=2, growth=SHAPE
    ),
    "dflash": lambda: drafters.dflash(block_filler(MODEL, taps=(3, 1)), block=3),
    "diffuspec": lambda: drafters.diffuspec(CANVAS, length=4, shortest=1, growth=2, candidates=3),
    "prompt_lookup": lambda: drafters.prompt_lookup(length=3),
    "lookup_tree": lambda: drafters.lookup_tree(length=3, nodes=6, matches=3),
    "input_copy": lambda: drafters.input_copy(length=3, max_ngram=2),
    "token_recycling": lambda: drafters.token_recycling(MODEL, depth=3, nodes=7, rates=(0.5, 0.2)),
    "trigram_tree": lambda: drafters.trigram_tree(MODEL, depth=3, nodes=6, slots=3, buckets=16),
    "suffix_decoding": lambda: drafters.suffix_decoding(length=3, nodes=6, name="history"),
    "searched_trigrams": lambda: drafters.searched_trigrams(
        MODEL, depth=3, nodes=6, simulations=8, slots=3, buckets=16, name="corpus"
    ),
    "layer_skip": lambda: drafters.EarlyExits(((1, MODEL),), 2, 3, name="draft"),
    "dynamic_exit": lambda: drafters.EarlyExits(
        ((0, MODEL), (1, MODEL)), 2, 3, lambda params, states: states, name="draft"
    ),
    "jacobi": lambda: drafters.jacobi(MODEL, length=3),
    "speculative_jacobi": lambda: drafters.speculative_jacobi(MODEL, length=3),
    "lookahead": lambda: drafters.lookahead(MODEL, ngram=3, columns=2, guesses=2),
}
IN_ORDER = {
    "self_draft": lambda: any_subset.self_draft(MODEL, width=3),
    "context_ngram": lambda: any_subset.context_ngram(MODEL, width=3),
    "fused_draft": lambda: any_subset.fused_draft(MODEL, width=3, outcomes=2),
}


def makers(package):
    """The names of the functions that make a drafter, told by the type that they return."""
    for name in package.__all__:
        of = getattr(getattr(package, name), "__annotations__", {}).get("return")
        if isinstance(of, type) and issubclass(of, Drafter):
            yield name


def test_every_drafter_is_here():
    # The one only changes a drafter, the other needs a target that fills masks (`test_mask_block.py`).
    assert set(makers(drafters)) - {"trimmed", "mask_block"} == set(CAUSAL)
    assert set(makers(any_subset)) == set(IN_ORDER)


def asked(decoder, in_order, penalty=None):
    """A request for a decoder."""
    lengths, order = LENGTHS, None
    if in_order:
        visible = np.zeros((3, 24), bool)
        visible[:, [0, 3, 4]] = True
        lengths, order = np.full(3, 3), any_subset.lattice(visible)
    return jaxdec.prepare(
        decoder,
        BOTH,
        PROMPT,
        lengths=lengths,
        max_new_tokens=20,
        temperature=0.9,
        frequency_penalty=penalty,
        order=order,
    )


@pytest.mark.parametrize("name", [*CAUSAL, *IN_ORDER])
def test_the_state_moves_with_its_rows(name):
    decoder = jaxdec.speculative(MODEL, drafter={**CAUSAL, **IN_ORDER}[name]())
    request = asked(decoder, name in IN_ORDER)
    keys, step = jax.random.split(jax.random.key(1), 3), jax.jit(decoder.step)
    state = jaxdec.decoding.init(decoder, BOTH, request)
    for array in jax.tree.leaves(state.draft):
        assert array.shape[0] == 3
    for _ in range(2):
        state, _ = step(BOTH, state, keys)
    after = take_rows(state, SOURCE)
    for _ in range(2):
        state, info = step(BOTH, state, keys)
        after, same = step(BOTH, after, keys[SOURCE])
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[SOURCE], y), info, same)


GROWTHS = {
    "independent": growth.independent(2, 2),
    "stochastic_beam": growth.stochastic_beam(2, 2),
    "threshold": growth.threshold(5, 2, width=2, siblings=2),
    "best_first": growth.best_first(5, 2, width=2, siblings=3),
    "ranked": growth.ranked(RankTree.branching((2, 1))),
    "greedy_siblings": growth.greedy_siblings(RankTree.branching((2, 1))),
}
CHAIN = drafters.model(MODEL, length=2)
RULES = (
    "TokenRatio", "BlockVerification", "RecursiveRejection", "KSeq", "TypicalAcceptance", "MixedTarget", "ClusterRatio",
    "NearTokens", "NearGreedy", "Reflective",
)  # fmt: skip
DECODERS = {
    **{
        name: lambda make=make: jaxdec.speculative(MODEL, drafter=make())
        for name, make in {**CAUSAL, **IN_ORDER}.items()
    },
    **{
        name: lambda rule=rule: jaxdec.speculative(
            MODEL, drafter=drafters.model(MODEL, growth=rule)
        )
        for name, rule in GROWTHS.items()
    },
    **{
        name: lambda name=name: jaxdec.speculative(
            MODEL, drafter=CHAIN, verifier=getattr(jaxdec.verifiers, name)()
        )
        for name in RULES
    },
    "adaptive": lambda: jaxdec.adaptive(
        lambda n: jaxdec.speculative(MODEL, drafter=drafters.model(MODEL, length=n)), (1, 2)
    ),
    "by load": lambda: jaxdec.adaptive(
        lambda n: jaxdec.speculative(MODEL, drafter=drafters.model(MODEL, length=n)),
        (0, 2),
        rule=jaxdec.lengths.by_load(),
    ),
    "parallel": lambda: any_subset.parallel_sampling(MODEL, width=3),
}


@pytest.mark.parametrize("penalty", [None, 0.3])
@pytest.mark.parametrize("name", DECODERS)
def test_a_step_keeps_the_types_of_its_state(name, penalty):
    """In 64-bit mode too, where plain integers are wider than what the loop carries; nothing is compiled."""
    decoder = DECODERS[name]()
    with jax.enable_x64(True):
        request = asked(decoder, name in IN_ORDER or name == "parallel", penalty)
        keys = jax.random.split(jax.random.key(1), 3)
        state = jax.eval_shape(decoder.init, BOTH, request)
        after, info = jax.eval_shape(decoder.step, BOTH, state, keys)
    typed = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert typed(after) == typed(state)
    assert not [x.dtype for x in jax.tree.leaves(info) if x.dtype in ("int64", "float64")]
