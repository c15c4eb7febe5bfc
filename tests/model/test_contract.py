"""The model contract: NNX modules split into pure functions, and functions that never heard of Flax."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import visibility
from jaxdec.cache import Cache, KVCache, KVEntries
from jaxdec.model import Inputs, Model, Output, from_nnx
from jaxdec.models import Transformer, TransformerConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=11, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, hidden=8
)


def module(seed=0, **changes):
    return Transformer(dataclasses.replace(CONFIG, **changes), rngs=nnx.Rngs(seed))


def test_causal_inputs():
    tokens = jnp.asarray([[5, 6, 7], [8, 9, 0]])
    valid = jnp.asarray([[True, True, True], [True, True, False]])
    inputs = Inputs.causal(tokens, jnp.asarray([0, 4]), valid)
    np.testing.assert_array_equal(inputs.positions, [[0, 1, 2], [4, 5, 6]])
    seen = visibility.dense(inputs.query_spans, inputs.key_spans)
    below = np.tri(3, dtype=bool)
    np.testing.assert_array_equal(seen, [below, below & [True, True, False]])
    np.testing.assert_array_equal(Inputs.causal(tokens, 3).positions, [[3, 4, 5]] * 2)


def test_models_of_one_configuration_are_equal():
    first, one = from_nnx(module(0), eos=[3])
    second, two = from_nnx(module(1), eos=[3])
    assert first == second and hash(first) == hash(second)
    assert (one["embed_tokens"]["embedding"] != two["embed_tokens"]["embedding"]).any()
    traces = []

    def logits(model, params):
        traces.append(model)
        return model(params, Inputs.causal(jnp.zeros((1, 2), jnp.int32)), None).logits

    jitted = jax.jit(logits, static_argnums=0)
    a, b = jitted(first, one), jitted(second, two)
    assert len(traces) == 1 and (a != b).any()


class Activated(nnx.Module):
    """Holds a function that is made anew with each module."""

    def __init__(self, config, rngs):
        self.config = config
        self.activation = functools.partial(nnx.gelu, approximate=True)
        self.embed = nnx.Embed(config.vocab_size, config.vocab_size, rngs=rngs)

    @staticmethod
    def init_cache(config, batch, capacity):
        return KVCache.create(layers=0, batch=batch, capacity=capacity, heads=1, head_dim=1)

    def __call__(self, inputs, cache=None):
        logits = self.activation(self.embed(inputs.tokens))
        return Output(logits, logits, (), KVEntries((), inputs.positions))


def test_a_model_compares_by_its_configuration():
    """Whatever its module holds: two loads of one checkpoint share every compiled program."""
    make = lambda seed, **changes: from_nnx(
        Activated(dataclasses.replace(CONFIG, **changes), nnx.Rngs(seed)), eos=3
    )
    loads = {"module": [make(0), make(1)]}
    loads["checkpoint"] = [(c.model, c.params) for c in map(jaxdec.load, ["code-draft"] * 2)]
    for name, ((first, one), (second, two)) in loads.items():
        assert first == second and hash(first) == hash(second), name
        decoder = jaxdec.autoregressive(first)
        traces = []

        @functools.partial(jax.jit, static_argnums=0)
        def init(decoder, params, request, traces=traces):
            traces.append(decoder)
            return decoder.init(params, request)

        for model, params in ((first, one), (second, two)):
            decoder = jaxdec.autoregressive(model)
            params = {"target": params}
            init(decoder, params, jaxdec.prepare(decoder, params, np.ones((1, 2), int)))
        assert len(traces) == 1, name
    assert make(0)[0] != make(0, vocab_size=12)[0]
    assert from_nnx(Activated(CONFIG, nnx.Rngs(0)))[0] != from_nnx(module())[0]


def test_models_that_differ_are_not_equal():
    abstract = lambda **changes: nnx.eval_shape(lambda: module(**changes))
    model, _ = from_nnx(abstract())
    assert model == from_nnx(module())[0]
    others = [
        from_nnx(abstract(), eos=[1])[0],
        from_nnx(abstract(), layer_states=[1])[0],
        from_nnx(abstract(layers=2))[0],
        from_nnx(abstract(tied=False))[0],
        from_nnx(abstract(rope_theta=5.0))[0],
        from_nnx(abstract(window=4))[0],
    ]
    assert all(model != other for other in others)


def test_a_model_states_its_sizes():
    model, params = from_nnx(module(max_length=77), eos=[3, 4])
    assert (model.vocab_size, model.max_length, model.eos) == (11, 77, (3, 4))
    cache = model.init_cache(2, 9)
    assert isinstance(cache, Cache) and cache.capacity == 9
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(params))


# A model of one's own: logits from how often each token was seen and which is the last. Its cache is a count.
V = 6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each token was committed `[B, V]`; it never fills up."""

    seen: jax.Array
    length: jax.Array
    capacity: int = dataclasses.field(metadata={"static": True})

    def commit(self, entries, index, count, key_spans):
        kept = jnp.arange(index.shape[1]) < count[:, None]
        fresh = jnp.take_along_axis(entries, index[..., None], axis=1) * kept[..., None]
        return Counts(self.seen + fresh.sum(1), self.length + count, self.capacity)


def count_forward(params, inputs, cache=None):
    one_hot = jax.nn.one_hot(inputs.tokens, V)
    visible = visibility.dense(inputs.query_spans, inputs.key_spans)
    seen = jnp.einsum("bts,bsv->btv", visible.astype(jnp.float32), one_hot)
    if cache is not None:
        seen = seen + cache.seen[:, None]
    logits = params["last"][inputs.tokens] - seen @ params["seen"]
    return Output(logits, seen, (), one_hot)


def count_cache(batch, capacity):
    return Counts(jnp.zeros((batch, V)), jnp.zeros((batch,), jnp.int32), capacity)


def count_params(seed, noise=0.0):
    rng, other = np.random.default_rng(0), np.random.default_rng(seed)
    draw = lambda: jnp.asarray(
        rng.normal(size=(V, V)) + noise * other.normal(size=(V, V)), jnp.float32
    )
    return {"last": 2 * draw(), "seen": draw() / 4}


def by_hand(params, prompt, new):
    text = list(prompt)
    last, seen = np.asarray(params["last"]), np.asarray(params["seen"])
    for _ in range(new):
        text.append(int(np.argmax(last[text[-1]] - np.bincount(text, minlength=V) @ seen)))
    return text


MODEL = Model(count_forward, count_cache, V)
PARAMS = {"target": count_params(0), "draft": count_params(1, noise=0.3)}
PROMPT, LENGTHS = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0]]), [5, 3]
DRAFTERS = {
    "model": jaxdec.drafters.model(MODEL, length=3),
    "prompt lookup": jaxdec.drafters.prompt_lookup(length=3),
}


def decode(decoder, **knobs):
    return jaxdec.generate(
        decoder,
        PARAMS,
        PROMPT,
        lengths=LENGTHS,
        rng=jax.random.key(3),
        max_new_tokens=18,
        **knobs,
    )


def test_a_function_without_flax_decodes():
    result = decode(jaxdec.autoregressive(MODEL), temperature=0.0)
    for row, length in enumerate(LENGTHS):
        expected = by_hand(PARAMS["target"], PROMPT[row, :length], 18)
        assert result.tokens[row, : length + 18].tolist() == expected


@pytest.mark.parametrize("drafter", DRAFTERS.values(), ids=DRAFTERS.keys())
def test_a_function_without_flax_speculates(drafter):
    decoder = jaxdec.speculative(MODEL, drafter=drafter)
    for temperature in (0.0, 1.0):
        plain = decode(jaxdec.autoregressive(MODEL), temperature=temperature)
        result = decode(decoder, temperature=temperature)
        np.testing.assert_array_equal(result.lengths, plain.lengths)
        for row, length in enumerate(np.asarray(result.lengths)):
            np.testing.assert_array_equal(result.tokens[row, :length], plain.tokens[row, :length])
        assert int(result.stats.accepted.sum()) > 0
        assert (result.stats.target_forwards <= plain.stats.target_forwards).all()
