"""The laws of any-subset speculation, summed over every draft, test and draw: no randomness, only rounding.

The programs below restate the rounds of the decoders; what they judge with is the rule that the decoders sample from,
and their conditionals come from the oracles through the model contract.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.model import Inputs, Queries
from jaxdec.speculative import verifiers
from jaxdec.testing import oracles
from jaxdec.testing.enumeration import law_of, plain_law, total_variation

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Conditionals:
    """`p(x at some rank | the prompt and the first generated tokens)` of a model along an order."""

    def __init__(self, model, params, places, prompt):
        self.places, self.prompt = np.asarray(places), tuple(prompt)
        self.ask = jax.jit(functools.partial(self._ask, model.forward, params))
        self.held = {}

    def _ask(self, forward, params, tokens, known, position):
        order = jnp.asarray(self.places)[None]
        content = visibility.full(order).where(known)
        query = Queries(
            position[None, None], content.query_spans[:, :1], jnp.asarray([len(self.places)])
        )
        return forward(params, Inputs(tokens, order, *content, query), None).logits[0, 0]

    def __call__(self, generated, rank=None):
        rank = len(generated) if rank is None else rank
        if (generated, rank) not in self.held:
            row = np.zeros((1, len(self.places)), np.int32)
            known = [*self.prompt, *generated]
            row[0, : len(known)] = known
            shown = np.arange(row.shape[1])[None] < len(known)
            if len(self.prompt) + rank == len(
                self.places
            ):  # a bonus past the end, which is cut off
                return np.full_like(self((), 0), 1 / len(self((), 0)))
            logits = self.ask(row, shown, jnp.int32(self.places[len(self.prompt) + rank]))
            law = np.exp(np.float64(logits) - np.float64(logits).max())
            self.held[generated, rank] = law / law.sum()
        return self.held[generated, rank]


@functools.cache
def judge(p, q, drafts):
    """Tests and closing laws of the token rule, in float64."""
    with jax.enable_x64(True):
        law = verifiers.token_law(
            jnp.asarray([p]),
            jnp.asarray([q]),
            jnp.asarray([drafts]),
            jnp.ones((1, len(drafts)), bool),
        )
        return np.asarray(law.passing)[0], np.asarray(law.closing)[0]


def verify(chooser, conditionals, before, drafts, q, bonus=True, drawn=0):
    """Tokens of a round: the accepted drafts and what closes them."""
    p = tuple(tuple(conditionals((*before, *drafts[:i]))) for i in range(len(drafts) + 1))
    q = tuple(p[i] if i < drawn else tuple(law) for i, law in enumerate(q))
    passing, closing = judge(p, q, drafts)
    passed = np.array([chooser.flip(probability) for probability in passing])
    count = int(verifiers.first_failure(jnp.asarray(passed)))
    closes = bonus or count < len(drafts)
    return drafts[:count], (chooser.choose(closing[count]),) if closes else ()


def self_draft(conditionals, total, width, bonus=True, forwards=None):
    def program(chooser):
        x, calls = (), 0
        while len(x) < total:
            q = [conditionals(x, len(x) + j) for j in range(min(width, total - len(x)))]
            drafts = tuple(chooser.choose(law) for law in q)
            calls += 1 if len(drafts) == 1 else 2
            if len(drafts) == 1:  # a draw of the model itself, and the last one
                x = (*x, *drafts)
                continue
            kept, closing = verify(chooser, conditionals, x, drafts, q, bonus, drawn=1)
            x = (*x, *kept, *closing)[:total]
        assert calls <= total
        return x

    return program


def fused(conditionals, total, width, outcomes):
    def program(chooser):
        x, laws, calls = (), [], 0
        while len(x) < total:
            q = laws[: total - len(x)]
            drafts = tuple(chooser.choose(law) for law in q)
            if drafts:
                kept, closing = verify(chooser, conditionals, x, drafts, q)
            else:
                kept, closing = (), (chooser.choose(conditionals(x)),)
            base = min(len(kept), outcomes - 1)
            seen, first = (*x, *kept[:base]), len(x) + base + 1
            skipped = len(kept) - base
            ranks = range(first + skipped, min(first + width, total))
            laws = [conditionals(seen, rank) for rank in ranks]
            x, calls = (*x, *kept, *closing)[:total], calls + 1
        assert calls <= total
        return x

    return program


def ngram(conditionals, places, total, width, vocab_size):
    def program(chooser):
        x = ()
        while len(x) < total:
            shown = [*conditionals.prompt, *x]
            canvas = dict(zip(places[: len(shown)], shown, strict=True))
            filled, drafts, q = dict(canvas), (), []
            for j in range(min(width, total - len(x))):
                place = places[len(shown) + j]
                after = [
                    token
                    for at, token in canvas.items()
                    if at - 1 in canvas and filled.get(place - 1) == canvas[at - 1]
                ]
                counts = np.bincount(after or list(canvas.values()), minlength=vocab_size)
                q.append(counts / counts.sum())
                drafts = (*drafts, chooser.choose(q[-1]))
                filled[place] = drafts[-1]
            kept, closing = verify(chooser, conditionals, x, drafts, q)
            x = (*x, *kept, *closing)[:total]
        return x

    return program


def setting(kind, vocab_size, size, visible, seed):
    """Conditionals along a random fixed order after a random visible set."""
    if kind == "consistent":
        model, params = oracles.joint_oracle(vocab_size, size, seed=seed)
    else:
        model, params = oracles.hash_oracle(vocab_size, seed=seed)
    generator = np.random.default_rng(seed)
    places = generator.permutation(size)
    places[:visible] = np.sort(places[:visible])
    prompt = generator.integers(0, vocab_size, visible).tolist()
    return Conditionals(model, params, places, prompt), places.tolist()


SIZES = [(3, 4, 1), (2, 5, 2)]  # vocabulary, positions, visible ones
KINDS = ["consistent", "inconsistent"]


def distance(conditionals, program, total):
    return total_variation(law_of(program), plain_law(conditionals, total))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("width", [2, 3, 8])
def test_assd_is_exact(kind, sizes, width):
    _, size, visible = sizes
    conditionals, _ = setting(kind, *sizes, seed=width)
    total = size - visible
    for bonus in (True, False):
        program = self_draft(conditionals, total, width, bonus)
        assert distance(conditionals, program, total) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("width", "outcomes"), [(2, 3), (3, 1), (8, 2)])
def test_the_fused_form_is_exact(kind, sizes, width, outcomes):
    _, size, visible = sizes
    conditionals, _ = setting(kind, *sizes, seed=width)
    total = size - visible
    assert distance(conditionals, fused(conditionals, total, width, outcomes), total) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", SIZES)
def test_bigram_drafts_are_exact(kind, sizes):
    vocab_size, size, visible = sizes
    conditionals, places = setting(kind, *sizes, seed=7)
    total = size - visible
    program = ngram(conditionals, places, total, 2, vocab_size)
    assert distance(conditionals, program, total) < 1e-9


def test_a_bonus_from_the_wrong_law_is_seen():
    """The control: closing a rejected draft with the target's own law instead of the residual."""
    conditionals, _ = setting("inconsistent", 3, 4, 1, seed=2)

    def program(chooser):
        q = [conditionals((), j) for j in range(2)]
        drafts = tuple(chooser.choose(law) for law in q)
        p = tuple(tuple(conditionals(drafts[:i])) for i in range(3))
        passing, _ = judge(p, tuple(map(tuple, q)), drafts)
        passed = np.array([chooser.flip(probability) for probability in passing])
        x = drafts[: int(verifiers.first_failure(jnp.asarray(passed)))]
        while len(x) < 3:
            x = (*x, chooser.choose(conditionals(x)))
        return x

    assert distance(conditionals, program, 3) > 1e-3
