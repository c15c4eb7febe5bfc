"""What holds for every drafter without a model."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec.testing.oracles import hash_oracle

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 5
MODEL, PARAMS = hash_oracle(V, seed=3)
RATES = (0.5, 0.2, 0.1)
PROMPT = np.array([[1, 2, 3, 4, 0, 2, 4], [4, 0, 4, 0, 4, 0, 4], [2] * 7, [3, 2, 1, 0, 4, 0, 0]])
LENGTHS = np.array([7, 5, 4, 1])
DRAFTERS = {
    "recycling": lambda model: jaxdec.drafters.token_recycling(
        model, depth=3, nodes=8, rates=RATES
    ),
    "prompt lookup": lambda model: jaxdec.drafters.prompt_lookup(length=3, max_ngram=2),
    "lookup tree": lambda model: jaxdec.drafters.lookup_tree(length=3, nodes=7, matches=4),
    "input copy": lambda model: jaxdec.drafters.input_copy(length=3, max_ngram=3),
    "trigrams": lambda model: jaxdec.drafters.trigram_tree(
        model, depth=3, nodes=7, slots=3, buckets=16
    ),
    "jacobi": lambda model: jaxdec.drafters.jacobi(model, length=3),
    "speculative jacobi": lambda model: jaxdec.drafters.speculative_jacobi(model, length=3),
    "lookahead": lambda model: jaxdec.drafters.lookahead(model, ngram=3, columns=3, guesses=2),
}
KEYS = jax.random.split(jax.random.key(0), 4)


def decode(name, rows=(0, 1, 2), budgets=(24, 24, 24)):
    """Decodes some rows with their own keys; every call of a drafter runs the same program."""
    decoder = jaxdec.speculative(MODEL, drafter=DRAFTERS[name](MODEL))
    rows = np.array(rows)
    options = dict(lengths=LENGTHS[rows], max_new_tokens=budgets, temperature=0.7, eos=())
    prompt = PROMPT[rows, : LENGTHS[rows].max()]
    return jaxdec.generate(decoder, {"target": PARAMS}, prompt, rng=KEYS[rows], **options)


@pytest.mark.parametrize("name", DRAFTERS)
def test_forwards_never_exceed_tokens(name):
    result, again = decode(name), decode(name)
    stats = result.stats
    forwards = np.asarray(stats.target_forwards)
    assert np.asarray(result.lengths - result.prompt_lengths).tolist() == [24] * 3
    assert (forwards <= 24).all()
    assert int(stats.accepted.sum()) > 0  # some step gave more than one
    assert (np.asarray(stats.proposed) <= DRAFTERS[name](MODEL).nodes * forwards).all()
    jax.tree.map(np.testing.assert_array_equal, stats, again.stats)


@pytest.mark.parametrize("name", DRAFTERS)
def test_what_a_row_drafts_depends_on_the_row_alone(name):
    """Neighbours, places in the batch, padding and rows that have ended change nothing."""
    first, second = decode(name), decode(name, rows=(3, 2, 0), budgets=(3, 24, 24))
    for row, other in ((0, 2), (2, 1)):
        for count in ("target_forwards", "proposed", "accepted"):
            one, two = (getattr(r.stats, count)[i] for r, i in ((first, row), (second, other)))
            assert int(one) == int(two), f"{count} of row {row}"


@pytest.mark.parametrize("name", DRAFTERS)
def test_small_budgets(name):
    result = decode(name, rows=(3, 1, 2), budgets=(0, 1, 2))
    assert np.asarray(result.lengths - result.prompt_lengths).tolist() == [0, 1, 2]
    assert np.asarray(result.stats.target_forwards).tolist()[:2] == [0, 1]


@pytest.mark.parametrize("name", DRAFTERS)
def test_an_order_is_refused(name):
    decoder = jaxdec.speculative(MODEL, drafter=DRAFTERS[name](MODEL))
    visible = np.broadcast_to(np.arange(7) % 2 == 0, PROMPT.shape)
    with pytest.raises(ValueError, match="drafts left to right"):
        jaxdec.infill(decoder, {"target": PARAMS}, PROMPT, visible, rng=jax.random.key(0))


@pytest.mark.parametrize("name", ["recycling", "trigrams", "jacobi", "lookahead"])
def test_a_target_of_another_vocabulary_is_refused(name):
    decoder = jaxdec.speculative(MODEL, drafter=DRAFTERS[name](hash_oracle(V + 1)[0]))
    with pytest.raises(ValueError, match="a vocabulary of 6, the target has one of 5"):
        jaxdec.generate(decoder, {"target": PARAMS}, PROMPT, rng=jax.random.key(0))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("token_recycling", dict(depth=0), "depth must be at least 1, got 0"),
        ("token_recycling", dict(depth=4, nodes=3, rates=RATES), "at least 4 nodes, got 3"),
        ("token_recycling", dict(rates=(0.2, 0.5)), r"rates must fall.*\(0.2, 0.5\)"),
        ("token_recycling", dict(rates=(0.7, 0.6)), "sum to at most 1"),
        ("token_recycling", dict(), "8 rates for a vocabulary of 5"),
        ("prompt_lookup", dict(length=0), "length must be at least 1, got 0"),
        ("prompt_lookup", dict(max_ngram=2, min_ngram=3), "max_ngram, got 3 and 2"),
        ("lookup_tree", dict(nodes=0), "nodes must be at least 1, got 0"),
        ("lookup_tree", dict(matches=0), "matches must be at least 1, got 0"),
        ("lookup_tree", dict(min_ngram=0), "max_ngram, got 0 and 5"),
        ("trigram_tree", dict(), "8 slots for a vocabulary of 5"),
        ("trigram_tree", dict(slots=3, buckets=0), "buckets must be at least 1, got 0"),
        ("trigram_tree", dict(slots=3, memory=1.0), r"memory must lie in \[0, 1\), got 1.0"),
        ("jacobi", dict(length=0), "length must be at least 1, got 0"),
        ("speculative_jacobi", dict(length=0), "length must be at least 1, got 0"),
        ("lookahead", dict(ngram=1), "ngram must be at least 2, got 1"),
        ("lookahead", dict(columns=0), "columns must be at least 1, got 0"),
        ("lookahead", dict(guesses=0), "guesses must be at least 1, got 0"),
        ("input_copy", dict(max_ngram=0), "max_ngram must be at least 1, got 0"),
    ],
)
def test_impossible_sizes(make, options, message):
    of_a_vocabulary = () if make in ("prompt_lookup", "lookup_tree", "input_copy") else (MODEL,)
    with pytest.raises(ValueError, match=message):
        getattr(jaxdec.drafters, make)(*of_a_vocabulary, **options)
