"""Parts of one's own that have weights: a verifier that sees hidden states, and a growth rule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import growth
from jaxdec.decoding import Exactness
from jaxdec.sampling import Purpose, key_at, perturbed_argmax
from jaxdec.speculative import RankTree, Verdict, Verifier
from jaxdec.speculative.growth import Fixed
from jaxdec.speculative.verifiers import furthest, lineage_path
from jaxdec.testing import battery

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclasses.dataclass(frozen=True)
class LinearJudge(Verifier):
    """Accepts a draft v after a state h iff `h . w_v > 0`, whatever the target's law says of it but zero."""

    name: str = "judge"
    exactness: Exactness = Exactness.HEURISTIC
    shares_noise: bool = False
    chains_only: bool = False
    needs_independence: bool = False

    def verify(self, params, tree, scored, log_probs, context):
        rows, before = jnp.arange(len(tree.tokens))[:, None], tree.parents + 1
        liked = jnp.einsum("btd,dv->btv", scored.hidden, params["weights"]) > 0
        legal = log_probs > -jnp.inf
        passed = tree.mask & (liked & legal)[rows, before, tree.tokens]
        lineage = tree.lineage()
        last = furthest(lineage, passed)
        path, count = lineage_path(lineage, last, tree.depth)
        closing = jnp.take_along_axis(log_probs, last[:, None, None], axis=1)[:, 0]
        keys = lambda: key_at(context.keys, Purpose.TOKEN, context.rows.length + count)
        noise = context.settings.warp.noise(keys, closing.shape)
        token = perturbed_argmax(closing, noise)
        return Verdict.of(tree, path, count, token, logits=scored.logits, log_probs=log_probs)


WEIGHTS = {"weights": jnp.asarray(np.random.default_rng(0).normal(size=(battery.VOCAB,) * 2), "f")}


def judged(target, draft):
    rule = growth.fixed(RankTree.of((-1, -1, 0, 1)))
    drafter = jaxdec.drafters.model(draft, growth=rule)
    return jaxdec.speculative(target, drafter=drafter, verifier=LinearJudge())


def test_the_battery_of_a_verifier_with_weights():
    battery.check(
        lambda target, draft: (judged(target, draft), {"judge": WEIGHTS}),
        checks=battery.PARTS + battery.ENDS + battery.LOOPS,
    )


def decode(decoder, params, **options):
    options = {"rng": jax.random.key(0), "max_new_tokens": 24, "temperature": 0.8, **options}
    return jaxdec.generate(decoder, params, np.array([[1, 2, 3, 4, 1, 2]]), **options)


def test_it_reads_its_own_weights_and_the_hidden_states():
    model, params = battery.pair()
    params = {**params, "judge": WEIGHTS}
    decoder = judged(model, model)
    none = decode(decoder, {**params, "judge": {"weights": jnp.zeros_like(WEIGHTS["weights"])}})
    assert int(none.stats.accepted.sum()) == 0  # nothing is liked
    some = decode(decoder, params)
    assert int(some.stats.accepted.sum()) > 0
    forward = lambda tokens: (
        model.forward(params["target"], jaxdec.Inputs.causal(tokens), None).hidden
    )
    hidden = np.asarray(forward(some.tokens))[0]  # those of the oracle are its logits
    drafted = np.flatnonzero(np.asarray(some.drafted)[0])
    for place in drafted:
        token = int(some.tokens[0, place])
        assert hidden[place - 1] @ np.asarray(WEIGHTS["weights"])[:, token] > 0


def test_parameters_under_no_name_are_refused():
    model, params = battery.pair()
    with pytest.raises(ValueError, match="with 'target', 'draft', 'judge'; got dict with"):
        decode(judged(model, model), params)


@dataclasses.dataclass(frozen=True)
class LearnedSiblings(Fixed):
    """Trees of one shape whose siblings are ranked by the law and a learned preference for some tokens."""

    name: str = "preference"

    def children(self, params, depth, laws, frontier, context):
        laws = dataclasses.replace(laws, noise=laws.noise + params)
        return super().children(params, depth, laws, frontier, context)


def test_a_growth_rule_with_weights():
    model, params = battery.pair()
    rule = LearnedSiblings(RankTree.branching((2, 1)))
    decoder = jaxdec.speculative(model, drafter=jaxdec.drafters.model(model, growth=rule))
    with pytest.raises(ValueError, match="with 'target', 'draft', 'preference'; got dict with"):
        decode(decoder, params)
    plain = decode(jaxdec.autoregressive(model), params)
    results = [
        decode(decoder, {**params, "preference": scale * jnp.arange(battery.VOCAB)})
        for scale in (0.0, -9.0)
    ]
    for result in results:  # the walk holds for any draft
        length = int(plain.lengths[0])
        np.testing.assert_array_equal(result.tokens[0, :length], plain.tokens[0, :length])
    likely, poor = (int(result.stats.accepted.sum()) for result in results)
    assert likely > poor
