"""Judge decoding: its law given the judge, the state that it reads, its limits, and the training of its head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters, text
from jaxdec.model import Inputs
from jaxdec.models import ScoreConfig, TransformerConfig
from jaxdec.sampling import gumbel
from jaxdec.speculative import verifiers
from jaxdec.testing.enumeration import chain, random_conditional, tree_round
from jaxdec.testing.oracles import hash_oracle
from jaxdec.training.corpus import Corpus, Source
from jaxdec.training.export_judge import export_judge
from jaxdec.training.judging import JudgeTraining, Windows, judged, train_judge
from jaxdec.training.trainer import build

pytestmark = pytest.mark.usefixtures("quick_compilation")
V = 4


@dataclasses.dataclass(frozen=True)
class Liking(verifiers.Judge):
    """A judge that likes the same tokens after any text."""

    tokens: tuple[int, ...] = ()

    def law(self, p, q, tree):
        liked = jnp.isin(tree.tokens, jnp.asarray(self.tokens, jnp.int32))
        return verifiers.judge_law(p, q, tree.tokens, tree.mask, liked)


@pytest.mark.parametrize("tokens", [(), (0, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("chosen", [False, True])
def test_the_law_is_off_by_what_is_drafted_too_much_of_the_liked(tokens, chosen):
    for seed in range(3):
        target, draft = (random_conditional(V, 2, seed + more) for more in (0, 100))
        emitted, _ = tree_round(Liking(tokens=tokens), target, chain(draft, 1, chosen=chosen))
        law, p, q = np.zeros(V), target(()), draft(())
        for sequence, mass in emitted.items():
            law[sequence[0]] += mass
        q = np.eye(V)[np.argmax(q)] if chosen else q
        off = sum(max(q[x] - p[x], 0) for x in tokens)
        assert 0.5 * np.abs(law - p).sum() == pytest.approx(off, abs=1e-12)
        if len(tokens) == V:
            np.testing.assert_allclose(law, q, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------------
# In the loop, where states are logits: what the judge reads is the state after the draft.

MODEL, PARAMS = hash_oracle(8, seed=1)
OTHER = hash_oracle(8, seed=2)[1]
DRAFTER = drafters.model(MODEL, length=3)
PROMPTS = np.array([[1, 2, 3], [4, 5, 6], [1, 1, 1], [7, 7, 7]])
HEAD = {"kernel": jnp.asarray([1.0, -1, 1, -1, 1, -1, 1, -1]), "bias": jnp.float32(0.2)}


def decode(verifier, head=HEAD, **options):
    decoder = jaxdec.speculative(MODEL, drafter=DRAFTER, verifier=verifier)
    given = {"target": PARAMS, "draft": OTHER, "judge": head}
    options = {"temperature": 0.0, "rng": 0, "max_new_tokens": 24, **options}
    return jaxdec.generate(decoder, given, PROMPTS, **options)


@jax.jit
def logits_after(params, tokens, length):
    return MODEL(params, Inputs.causal(tokens[None]), None).logits[0, length - 1]


def said(params, tokens):
    padded = np.zeros(64, np.int32)
    padded[: len(tokens)] = tokens
    return np.asarray(logits_after(params, padded, len(tokens)))


def by_hand(prompt, budget):
    """Greedy drafts of three, each kept if it is the target's best or the judge likes the state after it."""
    found, start, forwards = list(prompt), len(prompt), 0
    while len(found) < start + budget:
        forwards += 1
        for _ in range(3):
            best = int(np.argmax(said(PARAMS, found)))
            draft = int(np.argmax(said(OTHER, found)))
            state = said(PARAMS, [*found, draft])
            if draft != best and float(state @ np.asarray(HEAD["kernel"])) + 0.2 <= 0:
                break
            found.append(draft)
        found.append(int(np.argmax(said(PARAMS, found))))
    return found[: start + budget], forwards


def test_rows_are_judged_by_their_own_threshold_after_each_draft():
    result = decode(verifiers.Judge(), judge_threshold=np.array([1.0, 0.5, 0.0, 0.5]))
    plain = jaxdec.generate(
        jaxdec.autoregressive(MODEL), {"target": PARAMS}, PROMPTS, rng=0, max_new_tokens=24,
        temperature=0.0,
    )  # fmt: skip
    np.testing.assert_array_equal(result.tokens[0], plain.tokens[0])  # nothing is above 1
    for row in (1, 3):
        expected, forwards = by_hand(PROMPTS[row].tolist(), 24)
        assert result.tokens[row, :27].tolist() == expected
        assert int(result.stats.target_forwards[row]) == forwards
    assert int(result.stats.target_forwards[2]) == 6  # everything passes
    assert (np.asarray(result.tokens[1]) != np.asarray(plain.tokens[1])).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: verifiers.Judge(1.5), "judge_threshold must lie in .0, 1., got 1.5"),
        (lambda: verifiers.Judge(score=3), "score must be a function, got a int"),
        (lambda: decode(verifiers.Judge(), judge_threshold=-0.1), "judge_threshold must lie in"),
        (lambda: decode(verifiers.Judge(), {"kernel": jnp.ones(8)}), "a kernel .D. and a bias"),
        (lambda: decode(verifiers.Judge(), dict(HEAD, bias=jnp.ones(3))), "a kernel .D. and a bias"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------------------
# Training.

SIZES = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8
)
RUN = JudgeTraining(
    model=ScoreConfig(8, 0), steps=4, batch=2, length=12, rows_at_once=1, warmup=1,
    target="tiny", draft="tiny",
)  # fmt: skip


@pytest.fixture(scope="module")
def models():
    target, draft = build(SIZES, 0), build(SIZES, 1)
    sharper = jax.tree.map(lambda x: x * 30 if x.shape[:1] == (text.VOCAB_SIZE,) else x, draft[1])
    return target, (draft[0], sharper)


@pytest.mark.slow
def test_states_are_those_after_each_draft_alone(models):
    (model, params), draft = models
    tokens = np.arange(26).reshape(2, 13).astype(np.int32)
    windows = Windows(jnp.asarray(tokens), jnp.asarray([3, 4], jnp.int32))
    hidden, right = jax.jit(
        lambda *given: judged(RUN, (model, given[0]), (draft[0], given[1]), windows)
    )(params, draft[1])
    law = jax.jit(lambda p: draft[0](p, Inputs.causal(windows.tokens[:, :-1]), None).logits)(
        draft[1]
    )
    noise = gumbel(jax.vmap(jax.random.key)(windows.seeds), law[0].size).reshape(law.shape)
    drafts = np.argmax(np.asarray(law + noise), axis=-1)
    np.testing.assert_array_equal(right, drafts == tokens[:, 1:])
    read = jax.jit(lambda p, x: model(p, Inputs.causal(x), None).hidden)
    for row, place in ((0, 0), (1, 5), (0, 11)):
        alone = tokens[row : row + 1].copy()
        alone[0, place + 1] = drafts[row, place]
        expected = read(params, jnp.asarray(alone))[0, place + 1]
        np.testing.assert_allclose(hidden[row, place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_judge_is_trained_and_shipped(models, tmp_path):
    files = tuple(Source(f"{i}.py", b"x = 1\n" * 20) for i in range(2))
    data = Corpus(files[:1], files[1:])
    head, params = train_judge(RUN, data, tmp_path / "run", *models)
    facts = export_judge(tmp_path / "out", "judge", RUN, data, head, params, *models)
    held = jaxdec.checkpoints.load_heads(tmp_path / "out")
    assert held.kind == "judge" and held.size == 9
    assert set(facts["judgement"]) == {"auc", "brier", "share", "kept_right", "kept_wrong"}
