"""A masked model drafts for a causal target: lossless, whatever it proposes."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.decoding import Settings, Stops
from jaxdec.sampling import Warp
from jaxdec.speculative import Context, Verdict
from jaxdec.speculative.drafters import diffuspec
from jaxdec.speculative.drafters.row_ngram import row_ngram
from tests.diffusion.canvases import VOCAB, decode, oracle, same, transformer
from tests.speculative.contexts import propose, step_result

pytestmark = pytest.mark.usefixtures("quick_compilation")


def pair():
    """A masked drafter, and a causal target of the same oracle that never draws the mask token."""
    draft, params = oracle(canvas=True)
    target = dataclasses.replace(oracle()[0], vocab_size=VOCAB + 1, any_subset=False)
    table = np.pad(np.asarray(params), ((0, 0), (0, 1)), constant_values=-1e9)
    return target, draft, {"target": jnp.asarray(table), "draft": params}


@pytest.mark.parametrize(
    "verifier", [jaxdec.verifiers.SharedNoiseWalk(), jaxdec.verifiers.TokenRatio()]
)
def test_greedy_tokens_are_those_of_plain_decoding(verifier):
    target, draft, params = pair()
    drafter = diffuspec(draft, length=6, shortest=2, growth=3)
    plain = decode(jaxdec.autoregressive(target), params, temperature=0.0)
    fast = decode(
        jaxdec.speculative(target, drafter=drafter, verifier=verifier), params, temperature=0.0
    )
    same(plain, fast, steps=False)
    assert int(fast.stats.accepted.sum()) > 0


@pytest.mark.parametrize("block", [None, 4])
def test_sampled_tokens_are_those_of_plain_decoding(block):
    target, draft, params = pair()
    drafter = diffuspec(draft, length=6, shortest=2, growth=3, block=block)
    plain = decode(jaxdec.autoregressive(target), params, temperature=0.9)
    fast = decode(jaxdec.speculative(target, drafter=drafter), params, temperature=0.9)
    same(plain, fast, steps=False)
    counted = np.asarray(fast.stats.draft_forwards), np.asarray(fast.stats.target_forwards)
    np.testing.assert_array_equal(*counted)


def context_of(rows, eos=()):
    """A context that holds committed rows alone."""
    tokens = np.zeros((len(rows), 40), np.int32)
    for row, text in zip(tokens, rows, strict=True):
        row[: len(text)] = text
    lengths = jnp.asarray([len(text) for text in rows])
    held = jaxdec.decoding.Rows(
        jnp.asarray(tokens), lengths, lengths, lengths * 0, lengths * 0, None
    )
    settings = Settings(Warp(), lengths * 0 + 30, Stops.create(eos))
    return Context(held, settings, jax.random.split(jax.random.key(0), len(rows)), jnp.zeros(()))


def start(drafter, batch):
    return drafter.init({}, jaxdec.decoding.Request(None, jnp.full(batch, 3), None), None)


def test_the_path_is_the_best_one():
    """With beams enough the search is exhaustive: the same path as over all products of candidates."""
    model, params = transformer()
    drafter = diffuspec(model, length=3, shortest=1, candidates=4, beams=4, mass=0.7, weight=0.4)
    drafter = dataclasses.replace(drafter, strength=0.7)
    wide = dataclasses.replace(drafter, beams=16)
    texts = [[1, 2, 1, 2, 3, 1], [5, 5, 5, 6, 5, 5]]
    context = context_of(texts)
    law = np.asarray(jax.jit(drafter.laws)(params, context))
    found = np.asarray(jax.jit(wide.best_path)(jnp.asarray(law), context))
    for row, text in enumerate(texts):

        def trigram(u, v, x, text=text):
            """A loop over the text: counts of three, two and one, each backing off to the next."""
            law = 1 / (VOCAB + 1)
            for n, context in ((0, ()), (1, (v,)), (2, (u, v))):
                follow = [text[i] for i in range(n, len(text)) if tuple(text[i - n : i]) == context]
                law = (follow.count(x) + 0.7 * law) / (len(follow) + 0.7)
            return np.log(law)

        choices = []
        for place in range(3):
            order = np.argsort(-law[row, place], kind="stable")[:4]
            before = np.cumsum(np.exp(law[row, place, order])) - np.exp(law[row, place, order])
            choices.append([int(t) for t, b in zip(order, before, strict=True) if b < 0.7])
        best, score = None, -np.inf
        for path in itertools.product(*choices):
            known = (*text[-2:], *path)
            total = sum(
                0.4 * law[row, i, t] + 0.6 * trigram(known[i], known[i + 1], t)
                for i, t in enumerate(path)
            )
            if total > score:
                best, score = path, total
        assert tuple(found[row].tolist()) == best


@pytest.mark.parametrize("size", [11, 150_000])
def test_the_ngram_is_a_law_at_any_vocabulary(size):
    """It adds up to one, and what the text shows outweighs by nats what it does not, however many tokens there are."""
    texts = [[1, 2, 3, 1, 2, 3, 1, 2], [4], [1, 2, 3, 7, 2, 5, 5, 2]]
    rows = context_of(texts).rows
    before = jnp.asarray([[[1, 2]], [[-1, 4]], [[5, 2]]])
    shown = jnp.asarray([[[3, 1, 9]], [[4, 9, 8]], [[3, 5, 9]]])
    law = np.asarray(row_ngram(rows, before, shown, size, 1.0))[:, 0]
    assert law[0, 0] > -0.5 and law[0, 0] - law[0, 2] > np.log(size) - 1
    assert law[1, 0] > law[1, 1] == law[1, 2] > -np.log(size) - 3
    assert law[2, 0] > law[2, 2] + 2  # backs off to what followed 2
    every = jnp.broadcast_to(jnp.arange(size), (3, 1, size))
    np.testing.assert_allclose(
        np.exp(row_ngram(rows, before, every, size, 1.0)).sum(-1), 1, rtol=1e-4
    )


def test_paths_end_where_the_end_is_a_candidate():
    model, _ = transformer()
    drafter = diffuspec(model, length=6, shortest=6, candidates=2, beams=2, mass=0.95)
    law = np.full((3, 6, VOCAB + 1), 1e-4)
    law[..., 1], law[..., 2] = 0.6, 0.3
    law[0, 3, 7] = 0.5  # the end, second at the fourth place
    law[1, 3, 7] = 0.2  # third there, which is none of two candidates
    context = context_of([[1, 2, 3]] * 3, [7])
    law = jnp.log(jnp.asarray(law / law.sum(-1, keepdims=True), jnp.float32))
    assert drafter.horizon(law, context).tolist() == [4, 6, 6]
    one = dataclasses.replace(drafter, candidates=3, beams=3)
    assert one.horizon(law, context).tolist() == [4, 4, 6]
    path = np.asarray(jax.jit(one.best_path)(law, context))
    assert set(path[2].tolist()) <= {1, 2} and set(path[0, :3].tolist()) <= {1, 2}


def test_the_draft_length_follows_the_acceptance():
    model, params = transformer()
    drafter = diffuspec(model, length=12, shortest=2, growth=5, memory=0.5)
    context = context_of([[1, 2, 3], [4, 5, 6]])
    state = start(drafter, 2)
    lengths, proposed, accepted = [12.0, 12.0], np.zeros(2), np.zeros(2)
    for count in ([12, 1], [12, 0], [9, 0], [12, 3]):
        _, drafted = propose(drafter, params, state, context)
        np.testing.assert_array_equal(drafted, lengths)
        counts = jnp.minimum(jnp.asarray(count), drafted)
        verdict = Verdict(None, counts, None, None, None)
        result = step_result(drafted, verdict=verdict)
        state = drafter.update(params, state, context.rows, result)
        proposed = (proposed + np.asarray(drafted)) / 2
        accepted = (accepted + np.asarray(counts)) / 2
        lengths = np.clip(np.floor(proposed) + 5 * (accepted >= proposed), 2, 12)
        np.testing.assert_array_equal(state.length, lengths)


def test_drafts_end_with_the_sequence():
    model, params = transformer()
    drafter = diffuspec(model, length=8, shortest=8)
    context = context_of([[1, 2, 3]])
    tree, drafted = propose(drafter, params, start(drafter, 1), context)
    assert tree.mask.all() and int(drafted[0]) == 8 and tree.q is None
    path = np.asarray(tree.tokens)[0]
    eos = int(path[3])
    cut, _ = propose(drafter, params, start(drafter, 1), context_of([[1, 2, 3]], [eos]))
    assert np.asarray(cut.mask)[0].sum() == path.tolist().index(eos) + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(length=0), "length must be at least 1, got 0"),
        (dict(length=3, shortest=4), "shortest must be 1 to 3, got 4"),
        (dict(beams=9), "beams must be 1 to 8, got 9"),
        (dict(strength=0), "strength must be above 0, got 0"),
        (dict(mass=1.5), r"mass must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        diffuspec(transformer()[0], **options)


def test_a_causal_drafter_and_missing_parts():
    target, draft, params = pair()
    with pytest.raises(ValueError, match="canvas model"):
        diffuspec(target)
    decoder = jaxdec.speculative(target, drafter=diffuspec(draft))
    with pytest.raises(ValueError, match="with 'target', 'draft'; got dict with 'target'"):
        decode(decoder, {"target": params["target"]})
