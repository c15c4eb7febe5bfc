"""Laws of canvas sampling on an oracle whose conditionals belong to no joint law."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import visibility
from jaxdec.diffusion import denoise, schedules, unmask
from jaxdec.model import Inputs, Queries
from jaxdec.testing import oracles
from jaxdec.testing.battery import FALSE_POSITIVE_RATE
from jaxdec.testing.draws import count_draws
from jaxdec.testing.statistics import g_test
from tests.diffusion.canvases import decode, oracle, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE, VOCAB = 3, 3


@functools.cache
def small():
    return oracles.hash_oracle(VOCAB, seed=5, scale=1.5)


@functools.partial(jax.jit, static_argnums=0)
def score(model, params, inputs):
    return model(params, inputs, None)


def conditional(known: dict[int, int], target: int) -> np.ndarray:
    """p(x_target | known) of the small oracle; position 0 holds the prompt."""
    held = {0: 1, **known}
    return asked(tuple(sorted(held.items())), target)


@functools.cache
def asked(held: tuple[tuple[int, int], ...], target: int) -> np.ndarray:
    """p(x_target | held), by pairs of place and token."""
    model, params = small()
    positions = jnp.asarray([[place for place, _ in held]])
    tokens = jnp.asarray([[token for _, token in held]])
    spans = visibility.full(positions)
    query = Queries(jnp.asarray([[target]]), spans.query_spans[:, :1], jnp.asarray([SIZE + 1]))
    inputs = Inputs(tokens, positions, *spans, query)
    logits = score(model, params, inputs).logits
    return np.asarray(jax.nn.softmax(logits[0, 0]), np.float64)


@functools.cache
def sequential(order: tuple[int, ...]) -> np.ndarray:
    """The law `[V] * SIZE` of sampling one position after the other."""
    law = np.ones((VOCAB,) * SIZE)
    for values in itertools.product(range(VOCAB), repeat=SIZE):
        known: dict[int, int] = {}
        for place in order:
            law[values] *= conditional(known, place + 1)[values[place]]
            known[place + 1] = values[place]
    return law


def draws(policy, count=100_000, **knobs) -> np.ndarray:
    """How often each outcome was drawn, `[V] * SIZE`."""
    model, params = small()
    decoder = denoise(model, unmask=policy)
    return count_draws(decoder, {"target": params}, (VOCAB,) * SIZE, draws=count, **knobs)


def mixture() -> np.ndarray:
    return np.mean([sequential(order) for order in itertools.permutations(range(SIZE))], axis=0)


def test_first_hitting_is_the_uniform_mixture_of_orders():
    law = mixture()
    np.testing.assert_allclose(law.sum(), 1)
    counts = draws(unmask.first_hitting()).reshape(-1)
    assert g_test(counts, law.reshape(-1)) > FALSE_POSITIVE_RATE
    # Such a test would see a single order instead of the mixture.
    assert g_test(counts, sequential((0, 1, 2)).reshape(-1)) < 1e-12


@pytest.mark.slow
def test_first_hitting_is_sequential_along_its_own_order():
    """Token for token: the order is drawn apart from the tokens, so the law given the order is the sequential one."""
    model, params = oracle()
    for row in range(3):
        options = dict(
            prompt=np.array([[1, 2, 3]]),
            lengths=None,
            max_new_tokens=12,
            rng=jax.random.key(row),
            temperature=1.0,
        )
        found = decode(denoise(model, unmask=unmask.first_hitting()), {"target": params}, **options)
        order = np.asarray(found.steps)[0, 3:15]
        assert sorted(order.tolist()) == list(range(12))
        again = denoise(model, unmask=unmask.threshold(0.1), schedule=schedules.partition(order))
        assert texts(decode(again, {"target": params}, **options)) == texts(found)


def test_orders_are_uniform_and_rows_have_their_own():
    model, params = oracle()
    rows = 6000
    found = decode(
        denoise(model, unmask=unmask.first_hitting()),
        {"target": params},
        prompt=np.ones((rows, 1), int),
        lengths=None,
        max_new_tokens=3,
    )
    orders = np.asarray(found.steps)[:, 1:4]
    counts = [(orders == order).all(1).sum() for order in itertools.permutations(range(3))]
    assert sum(counts) == rows
    assert g_test(np.array(counts, float), np.full(6, 1 / 6)) > FALSE_POSITIVE_RATE


@pytest.mark.slow
def test_one_ancestral_step_is_the_product_of_marginals_and_many_are_first_hitting():
    product = functools.reduce(np.multiply.outer, [conditional({}, i + 1) for i in range(SIZE)])
    counts = draws(unmask.ancestral(), steps=1)
    assert g_test(counts.reshape(-1), product.reshape(-1)) > FALSE_POSITIVE_RATE
    far = lambda counts: np.abs(counts / counts.sum() - mixture()).sum() / 2
    few, many = far(draws(unmask.ancestral(), steps=2)), far(draws(unmask.ancestral(), steps=64))
    assert far(counts) > few > many and many < 0.02


@pytest.mark.parametrize("by", ["max_prob", "margin", "entropy"])
def test_one_token_a_step_in_an_order_that_the_model_picks(by):
    """Exact: the order looks at laws, never at the drawn token, so the law is that of the tree of choices."""
    law = np.zeros((VOCAB,) * SIZE)

    def walk(known, weight):
        left = [i for i in range(1, SIZE + 1) if i not in known]
        if not left:
            law[tuple(known[i + 1] for i in range(SIZE))] += weight
            return
        laws = {i: conditional(known, i) for i in left}
        top = {i: np.sort(p)[::-1] for i, p in laws.items()}
        score = {
            "max_prob": lambda i: top[i][0],
            "margin": lambda i: top[i][0] - top[i][1],
            "entropy": lambda i: (laws[i] * np.log(laws[i])).sum(),
        }[by]
        best = max(left, key=lambda i: (score(i), -i))
        for token, p in enumerate(laws[best]):
            walk({**known, best: token}, weight * p)

    walk({}, 1.0)
    counts = draws(unmask.quota(by)).reshape(-1)
    assert g_test(counts, law.reshape(-1)) > FALSE_POSITIVE_RATE


def test_a_score_of_the_drawn_token_is_not_exact():
    """The published scores of LLaDA and SDAR rank positions by the probability of what was drawn there."""
    law = np.zeros((VOCAB,) * SIZE)

    def walk(
        known, weight
    ):  # what one token a step would draw if the order did not look at the draws
        left = [i for i in range(1, SIZE + 1) if i not in known]
        if not left:
            law[tuple(known[i + 1] for i in range(SIZE))] += weight
            return
        best = max(left, key=lambda i: (conditional(known, i).max(), -i))
        for token, p in enumerate(conditional(known, best)):
            walk({**known, best: token}, weight * p)

    walk({}, 1.0)
    counts = draws(unmask.quota("token_prob")).reshape(-1)
    assert g_test(counts, law.reshape(-1)) < 1e-12
