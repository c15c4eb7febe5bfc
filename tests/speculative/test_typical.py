"""Typical acceptance: what it accepts, and what it reduces to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import growth
from jaxdec.decoding import Rows, Scored, Settings, Stops
from jaxdec.sampling import Warp, row_keys
from jaxdec.speculative import Context, DraftTree, RankTree, verifiers
from jaxdec.testing import battery

pytestmark = pytest.mark.usefixtures("quick_compilation")
THRESHOLD, ALPHA = 0.2, 0.5
TREE = growth.fixed(RankTree.branching((2, 1)))


def decoder(target, draft, verifier=None):
    rule = growth.fixed(RankTree.of((-1, -1, 0, 1)))
    return jaxdec.speculative(
        target,
        drafter=jaxdec.drafters.model(draft, growth=rule),
        verifier=verifier or verifiers.TypicalAcceptance(),
    )


def by_hand(tokens, parents, mask, laws):
    """The accepted nodes on the longest path, the more probable one of two."""
    best = (0, 0.0)
    for n in np.flatnonzero(mask):
        node, length, score = n, 0, 0.0
        while node >= 0:
            law = laws[parents[node] + 1]
            entropy = -(law * np.log(law)).sum()
            if not law[tokens[node]] > min(THRESHOLD, ALPHA * np.exp(-entropy)):
                break
            length, score, node = length + 1, score + np.log(law[tokens[node]]), parents[node]
        else:
            best = max(best, (length, score))
    return best


def test_the_longest_typical_path_is_kept():
    generator = np.random.default_rng(0)
    rows, nodes, vocab_size = 64, 6, 5
    laws = generator.dirichlet(np.ones(vocab_size), (rows, nodes + 1))
    tokens = generator.integers(0, vocab_size, (rows, nodes))
    parents = np.tile([-1, -1, 0, 1, 2, 3], (rows, 1))  # two chains of three
    mask = generator.random((rows, nodes)) < 0.95
    for n in range(2, nodes):
        mask[:, n] &= mask[:, n - 2]
    full = lambda value: jnp.full((rows,), value)
    knobs = {"posterior_threshold": full(THRESHOLD), "posterior_alpha": full(ALPHA)}
    settings = Settings(Warp(temperature=1.0), full(9), Stops.create(), knobs)
    zeros = jnp.zeros((rows,), jnp.int32)
    state = Rows(jnp.zeros((rows, 9), jnp.int32), zeros + 1, zeros + 1, zeros, zeros, None)
    context = Context(state, settings, row_keys(jax.random.key(0), rows), jnp.zeros(()))
    tree = DraftTree(jnp.asarray(tokens), jnp.asarray(parents), jnp.asarray(mask), None, depth=3)
    verify = jax.jit(verifiers.TypicalAcceptance().verify)
    law = jnp.log(jnp.asarray(laws, jnp.float32))
    verdict = verify(None, tree, Scored(law, law), law, context)
    seen = set()
    for b in range(rows):
        length, score = by_hand(tokens[b], parents[b], mask[b], laws[b])
        path = np.asarray(verdict.path[b])[: length + 1]
        ours = sum(
            np.log(laws[b, parents[b, node - 1] + 1, tokens[b, node - 1]]) for node in path[1:]
        )
        assert int(verdict.count[b]) == length
        assert ours == pytest.approx(score, abs=1e-5)
        seen.add(length)
    assert seen == {0, 1, 2, 3}


def decode(which, params, **options):
    prompts = np.array([[1, 2, 3, 4, 1, 2], [5, 6, 5, 6, 0, 0], [0] * 6, [3, 3, 3, 0, 0, 0]])
    return jaxdec.generate(
        which,
        params,
        prompts,
        lengths=[6, 4, 1, 3],
        max_new_tokens=[32, 12, 25, 30],
        rng=jax.random.key(7),
        eos=(),
        **options,
    )


def texts(result):
    pairs = zip(np.asarray(result.tokens), np.asarray(result.lengths), strict=True)
    return [row[:length].tolist() for row, length in pairs]


def test_decoding():
    """Accepted tokens are above the bar; a bar of 1 gives plain decoding; so does temperature 0."""
    model, params = battery.pair()
    plain = jaxdec.autoregressive(model)
    typical, options = decoder(model, model), dict(temperature=0.8)
    generate = lambda which, **more: decode(which, params, **{**options, **more})
    result = generate(typical)
    drafted = np.asarray(result.drafted)
    assert drafted.any()
    assert (np.exp(np.asarray(result.log_probs)[drafted]) > min(0.09, 0.3 / battery.VOCAB)).all()
    strict = generate(typical, posterior_threshold=1.0, posterior_alpha=2.0 * battery.VOCAB)
    assert not np.asarray(strict.drafted).any()
    assert texts(strict) == texts(generate(plain))
    greedy = dict(temperature=0.0)
    assert texts(generate(typical, **greedy)) == texts(generate(plain, **greedy))


def test_limits():
    model, params = battery.pair()
    with pytest.raises(ValueError, match="posterior_alpha"):
        decode(decoder(model, model), params, posterior_alpha=-0.1)
    with pytest.raises(ValueError, match="KSeq needs siblings"):
        decoder(model, model, verifiers.KSeq())
