"""What no speculation can be made of is refused by name; drafts that are no tokens are no drafts."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters
from jaxdec.decoding import Exactness
from jaxdec.model import Heads
from jaxdec.speculative import Drafter, DraftTree
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

V = 5
MODEL, PARAMS = oracles.hash_oracle(V, seed=2)
BOTH = {"target": PARAMS, "draft": PARAMS}
PROMPT = np.array([[1, 2, 3], [4, 0, 1]])


def decode(decoder, params=BOTH, **options):
    options = {"max_new_tokens": 12, "temperature": 0.9, **options}
    return jaxdec.generate(decoder, params, PROMPT, rng=jax.random.key(0), **options)


def prepare(drafter, **options):
    return jaxdec.prepare(jaxdec.speculative(MODEL, drafter=drafter), BOTH, PROMPT, **options)


HEADS = Heads(lambda params, hidden, path: hidden, heads=2, width=V, vocab_size=V)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(drafter=MODEL), r"got Model; wrap it in jaxdec\.drafters\.model"),
        (dict(drafter=HEADS), r"got Heads; wrap it in jaxdec\.drafters\.heads"),
        (dict(drafter=drafters.prompt_lookup), "must be a Drafter, got prompt_lookup"),
        (dict(drafter=None), "must be a Drafter, got NoneType"),
        (
            dict(drafter=drafters.prompt_lookup(), verifier=jaxdec.verifiers.TokenRatio),
            "must be a Verifier, such as .*, got TokenRatio",
        ),
        (
            dict(model=PARAMS, drafter=drafters.prompt_lookup()),
            "must be the target, a jaxdec.Model",
        ),
    ],
)
def test_parts_in_the_wrong_place(parts, message):
    with pytest.raises(ValueError, match=message):
        jaxdec.speculative(**{"model": MODEL, **parts})


def test_a_model_that_is_none():
    with pytest.raises(ValueError, match="model must be a Model, got dict"):
        drafters.model(BOTH)


WITH_A_NETWORK = {
    "model": lambda model: drafters.model(model),
    "eagle": lambda model: drafters.eagle(model, growth=jaxdec.growth.chain(2)),
    "falcon": lambda model: drafters.falcon(model, growth=jaxdec.growth.chain(2)),
    "diffuspec": lambda model: drafters.diffuspec(
        dataclasses.replace(model, mask_token=V - 1, any_subset=False), candidates=3
    ),
    "dflash": lambda model: drafters.dflash(dataclasses.replace(model, mask_token=V - 1), block=3),
}


@pytest.mark.parametrize("name", WITH_A_NETWORK)
def test_a_draft_model_that_cannot_read_so_far(name):
    short = dataclasses.replace(MODEL, max_length=20)
    drafter = WITH_A_NETWORK[name](short)
    message = "prompt 0 has 3 tokens and asks for 18 more; the draft model's capacity is 20"
    with pytest.raises(ValueError, match=message):
        prepare(drafter, max_new_tokens=18)
    prepare(drafter, max_new_tokens=17)


@pytest.mark.parametrize("name", WITH_A_NETWORK)
def test_a_draft_model_of_another_vocabulary(name):
    drafter = WITH_A_NETWORK[name](dataclasses.replace(MODEL, vocab_size=V + 1))
    with pytest.raises(ValueError, match="a vocabulary of 6, the target has one of 5"):
        prepare(drafter)


@pytest.mark.parametrize("draft", [oracles.canvas(oracles.hash_oracle(V - 1)[0]), None])
def test_a_draft_model_that_predicts_no_next_token(draft):
    draft = dataclasses.replace(MODEL, causal=False) if draft is None else draft
    with pytest.raises(ValueError, match="predicts no next token, but the request is causal"):
        prepare(drafters.model(draft))


def hung(tokens, parents, mask=(True, True, True)):
    """A tree of any parents, depth 3."""
    spread = lambda row, kind: jnp.broadcast_to(jnp.array(row, kind), tokens.shape)
    return DraftTree(tokens, spread(parents, jnp.int32), spread(mask, bool), None, None, 3)


@dataclasses.dataclass(frozen=True)
class Proposing(Drafter):
    """Proposes the same tree for all rows, whatever it is."""

    tree: str
    depth: int = 3

    def propose(self, params, state, context):
        last = jnp.repeat(context.rows.pending[:, None], 3, axis=1)
        trees = {
            "float": lambda: DraftTree.chain(last * 1.0),
            "short": lambda: DraftTree.chain(last[:, :2]),
            "one row": lambda: DraftTree.chain(last[:1]),
            "soft mask": lambda: DraftTree.chain(last, mask=last),
            "law of others": lambda: DraftTree.chain(last, q=jnp.zeros((2, 3, V + 1))),
            "target's own": lambda: DraftTree.chain(last, target_logits=jnp.zeros((2, 1, V))),
            "deep": lambda: dataclasses.replace(DraftTree.chain(last), depth=4),
            "past the end": lambda: DraftTree.chain(last.at[:, 1].set(V)),
            "below zero": lambda: DraftTree.chain(last.at[:, 0].set(-1)),
            "in between": lambda: DraftTree.chain(last.at[1, 2].set(2**30)),
            "a cycle": lambda: hung(last, [1, 0, -1]),
            "its own parent": lambda: hung(last, [-1, 1, 2]),
            "a parent behind": lambda: hung(last, [2, -1, 0]),
            "no such parent": lambda: hung(last, [-2, 3, -(2**31)]),
            "below nobody": lambda: hung(last, [-1, 0, 1], [True, False, True]),
            "too deep": lambda: dataclasses.replace(hung(last, [-1, 0, 1]), depth=2),
        }
        return trees[self.tree](), None


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("float", r"tokens of type integer and shape \[2, 3\], got float32"),
        ("short", r"tokens of type integer and shape \[2, 3\], got int32 \[2, 2\]"),
        ("one row", r"tokens .* \[2, 3\], got int32 \[1, 3\]"),
        ("soft mask", "mask of type bool.*, got int32"),
        ("law of others", r"q of type floating and shape \[2, 3, 5\], got float32 \[2, 3, 6\]"),
        ("target's own", r"target_logits .* \[2, 0, 5\], got float32 \[2, 1, 5\]"),
        ("deep", "promises a depth of 3, but proposes 4"),
    ],
)
def test_trees_that_are_not_as_promised(tree, message):
    with pytest.raises(ValueError, match=f"Proposing.*{message}"):
        decode(jaxdec.speculative(MODEL, drafter=Proposing(tree)))


@dataclasses.dataclass(frozen=True)
class Embedding:
    """An oracle that reads a token outside of its vocabulary as NaN, as `nnx.Embed` does."""

    def __call__(self, params, inputs, cache=None):
        output = MODEL.forward(params, inputs, cache)
        strange = (inputs.tokens < 0) | (inputs.tokens >= V)
        return dataclasses.replace(
            output, logits=jnp.where(strange.any(1)[:, None, None], jnp.nan, output.logits)
        )


@pytest.mark.parametrize("tree", ["past the end", "below zero", "in between"])
@pytest.mark.parametrize("verifier", ["SharedNoiseWalk", "TokenRatio"])
def test_drafts_outside_of_the_vocabulary_do_not_exist(tree, verifier):
    model = dataclasses.replace(MODEL, forward=Embedding())
    rule = getattr(jaxdec.verifiers, verifier)()
    decoder = jaxdec.speculative(model, drafter=Proposing(tree), verifier=rule)
    temperature = 0.9 if rule.exactness is Exactness.TOKEN_IDENTICAL else 0.0
    result = decode(decoder, temperature=temperature)
    plain = decode(jaxdec.autoregressive(model), temperature=temperature)
    for row in range(2):
        same = slice(0, int(plain.lengths[row]))
        np.testing.assert_array_equal(result.tokens[row, same], plain.tokens[row, same])
    drafts = {"past the end": [1, 1], "below zero": [0, 0], "in between": [3, 2]}[tree]
    forwards = np.asarray(result.stats.target_forwards)
    assert (np.asarray(result.stats.proposed) == forwards * drafts).all()


@pytest.mark.parametrize(
    ("tree", "drafts"),
    [
        ("a cycle", 1),
        ("its own parent", 1),
        ("a parent behind", 1),
        ("no such parent", 0),
        ("below nobody", 1),
        ("too deep", 2),
    ],
)
def test_nodes_that_hang_nowhere_do_not_exist(tree, drafts):
    depth = 2 if tree == "too deep" else 3
    context = SimpleNamespace(rows=SimpleNamespace(pending=jnp.array([1, 2], jnp.int32)))
    proposed, _ = Proposing(tree, depth).propose(None, None, context)
    kept = proposed.within(V)
    assert kept.mask.sum(-1).tolist() == [drafts, drafts]
    assert ((kept.parents >= -1) & (kept.parents < jnp.arange(3))).all()
    assert (kept.lineage().sum(-1) <= 4).all()
