"""`generate` and `infill` inside `jit` and `vmap`: the same tokens as outside, and shapes are checked still."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.diffusion import unmask
from jaxdec.testing import oracles

pytestmark = pytest.mark.usefixtures("quick_compilation")

MODEL, TABLE = oracles.hash_oracle(6, seed=2)
PARAMS = {"target": TABLE, "draft": TABLE + 0.5}
CANVAS = oracles.canvas(MODEL)
KEY = jax.random.key(0)
PROMPT = jnp.array([[1, 2, 3], [4, 5, 0]])
LENGTHS = jnp.array([3, 2])
TEMPERATURE = jnp.array([0.0, 0.9])
VISIBLE = jnp.array([[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], bool)
TOKENS = jnp.array([[1, 0, 2, 0, 0, 3], [4, 0, 5, 0, 1, 2]])
DECODERS = {
    "plain": jaxdec.autoregressive(MODEL),
    "chain": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.model(MODEL, length=2)),
    "canvas": jaxdec.denoise(CANVAS, unmask=unmask.threshold(0.4)),
}


def same(one, other):
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_everything_traced(name):
    decoder = DECODERS[name]
    knobs = {"threshold": jnp.array([0.3, 0.5])} if name == "canvas" else {}

    def decode(params, prompt, lengths, budget, rng, temperature, knobs):
        return jaxdec.generate(
            decoder,
            params,
            prompt,
            lengths=lengths,
            max_new_tokens=budget,
            most_new_tokens=7,
            rng=rng,
            eos=[2],
            temperature=temperature,
            **knobs,
        )

    given = (PARAMS, PROMPT, LENGTHS, jnp.array([7, 5]), KEY, TEMPERATURE, knobs)
    outside = decode(*given)
    same(jax.jit(decode)(*given), outside)
    if name == "chain":
        return  # its program is the largest

    def of_row(prompt, length, budget, key, temperature, knobs):
        row = jax.tree.map(lambda x: x[None], (prompt, length, budget, key, temperature, knobs))
        return jax.tree.map(lambda x: x[0], decode(PARAMS, *row))

    keys = jaxdec.sampling.row_keys(KEY, 2)
    same(jax.vmap(of_row)(*given[1:4], keys, *given[5:]), outside)


@pytest.mark.parametrize("visible_traced", [False, True])
def test_gaps(visible_traced):
    def fill(tokens, rng, visible=VISIBLE):
        return jaxdec.infill(DECODERS["plain"], PARAMS, tokens, visible, rng=rng)

    given = (TOKENS, KEY, VISIBLE)[: 2 + visible_traced]
    outside = fill(*given)
    inside = jax.jit(fill)(*given)
    same(inside, outside)
    np.testing.assert_array_equal(inside.ranks, outside.ranks)
    if visible_traced:
        of_row = lambda tokens, key, visible: fill(tokens[None], key[None], visible[None])
        rows = jax.vmap(of_row)(TOKENS, jaxdec.sampling.row_keys(KEY, 2), VISIBLE)
        same(jax.tree.map(lambda x: x[:, 0], rows), outside)


def test_an_order_that_is_traced():
    ranks = jnp.array([[0, 5, 1, 4, 3, 2], [0, 4, 1, 5, 3, 2]])
    fill = lambda ranks: jaxdec.infill(
        DECODERS["plain"], PARAMS, TOKENS, VISIBLE, ranks=ranks, rng=KEY
    )
    same(jax.jit(fill)(ranks), fill(ranks))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lengths=jnp.ones(3, int)), r"lengths must have shape \[2\], got \[3\]"),
        (dict(lengths=jnp.ones(2)), "lengths must hold integers"),
        (dict(max_new_tokens=jnp.int32(3)), "max_new_tokens is traced"),
        (dict(temperature=jnp.ones(3)), "temperature: got shape"),
        (dict(top_k=jnp.ones(2)), "top_k: got"),
        (dict(logit_bias=jnp.ones(5)), "logit_bias: got shape"),
        (dict(banned=jnp.ones(6)), "banned: got type float"),
        (dict(prompt=jnp.ones((2, 3))), "prompt must hold integer tokens, got float"),
        (dict(prompt=jnp.ones(3, int)), r"prompt must have shape \[B, P\]"),
        (dict(eos=jnp.array([1])), "eos must be tokens, .* got a traced value"),
        (dict(stop=jnp.array([[1]])), "stop must be .* got a traced value"),
        (dict(hypotheses=jnp.int32(2)), "hypotheses must be an integer; it is traced"),
        (dict(rng=jnp.uint32(2)), "rng must be a key"),
    ],
)
def test_shapes_are_checked(options, message):
    given = {"prompt": PROMPT, "rng": KEY}
    decode = lambda given: jaxdec.generate(
        DECODERS["plain"], PARAMS, given.pop("prompt"), rng=given.pop("rng"), **given
    )
    with pytest.raises(ValueError, match=message):
        jax.jit(decode)({**given, **options})
