"""A network cut after its first layers: the network of that many layers, and a drafter for the whole one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import visibility
from jaxdec.model import Inputs, Model, early_exit, from_nnx, two_stream
from jaxdec.models import Eagle, Transformer, TransformerConfig
from jaxdec.sampling import perturbed_argmax
from jaxdec.speculative import Drafter, DraftTree

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = TransformerConfig(
    vocab_size=13, width=16, layers=3, heads=2, kv_heads=1, head_dim=8, hidden=16
)
MODEL, TARGET = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(2)))
TARGET = jax.tree.map(lambda x: x * (20 if x.shape == (13, 16) else 1), TARGET)
PROMPT, LENGTHS = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0]]), np.array([5, 3])


@functools.partial(jax.jit, static_argnums=0)
def call(model, params, inputs, cache=None):
    """A forward, by one program where each operation would be one."""
    return model(params, inputs, cache)


def test_it_is_the_network_of_that_many_layers():
    cut = early_exit(MODEL, 2)
    small, _ = from_nnx(Transformer(dataclasses.replace(CONFIG, layers=2), rngs=nnx.Rngs(0)))
    params = {**TARGET, "layers": {i: TARGET["layers"][i] for i in range(2)}}
    inputs = Inputs.causal(jnp.asarray(PROMPT))
    found, expected = call(cut, TARGET, inputs), call(small, params, inputs)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert len(found.entries.layers) == cut.init_cache(1, 4).layers == 2
    assert cut == early_exit(MODEL, 2) != early_exit(MODEL, 1) != MODEL
    np.testing.assert_array_equal(
        call(early_exit(MODEL, 3), TARGET, inputs).logits, call(MODEL, TARGET, inputs).logits
    )


def test_it_reads_the_first_layers_of_the_whole_cache():
    cut = early_exit(MODEL, 1)
    inputs = Inputs.causal(jnp.asarray(PROMPT))
    index = jnp.broadcast_to(jnp.arange(4), (2, 4))
    commit = lambda model: model.init_cache(2, 8).commit(
        call(model, TARGET, inputs).entries, index, jnp.full(2, 4), inputs.key_spans[:, :4]
    )
    last = Inputs.causal(jnp.asarray(PROMPT[:, 4:]), 4)
    one, two = (call(cut, TARGET, last, commit(model)).logits for model in (MODEL, cut))
    np.testing.assert_array_equal(one, two)
    whole = call(cut, TARGET, inputs).logits
    np.testing.assert_allclose(one[:, 0], whole[:, 4], rtol=1e-4, atol=1e-4)


@dataclasses.dataclass(frozen=True)
class ShallowDrafter(Drafter):
    """Drafts a chain with the target's first layers over the target's own cache."""

    model: Model
    depth: int = 3
    name: str = "target"

    def propose(self, params, state, context):
        rows, tokens = context.rows, [context.rows.pending]
        for depth in range(self.depth):
            inputs = Inputs.causal(jnp.stack(tokens, axis=1), rows.length - 1)
            logits = self.model(params, inputs, context.cache).logits[:, -1]
            law = context.settings.warp.log_probs(logits, rows.history)
            tokens.append(perturbed_argmax(law, context.noise[:, depth]))
        return DraftTree.chain(jnp.stack(tokens[1:], axis=1)), None


def test_it_drafts_for_the_whole_network():
    plain = jaxdec.autoregressive(MODEL)
    drafted = jaxdec.speculative(MODEL, drafter=ShallowDrafter(early_exit(MODEL, 2)))
    results = [
        jaxdec.generate(
            decoder,
            {"target": TARGET},
            PROMPT,
            lengths=LENGTHS,
            rng=jax.random.key(3),
            max_new_tokens=24,
            temperature=[0.0, 0.8],
            eos=(),
        )
        for decoder in (plain, drafted)
    ]
    for row, length in enumerate(LENGTHS + 24):
        first, second = (result.tokens[row, :length] for result in results)
        np.testing.assert_array_equal(first, second)
    assert (results[1].stats.accepted > 0).all()
    assert results[1].stats.target_forwards.sum() < results[0].stats.target_forwards.sum()


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match="layers must be 1 to 3, got 4"):
        early_exit(MODEL, 4)
    with pytest.raises(ValueError, match="layers must be 1 to 3, got 0"):
        early_exit(MODEL, 0)
    with pytest.raises(ValueError, match="cut it before it is wrapped"):
        early_exit(two_stream(MODEL, 12), 1)
    deep, _ = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(0)), layer_states=[3])
    with pytest.raises(ValueError, match="layer 3 are asked for"):
        early_exit(deep, 2)
    eagle, _ = from_nnx(Eagle(dataclasses.replace(CONFIG, layers=1), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="Eagle cannot be cut"):
        early_exit(eagle, 1)


def test_spans_of_the_cut_network_are_those_of_the_whole():
    """It fills subsets too, once it is wrapped."""
    model = two_stream(early_exit(MODEL, 1), 12)
    content, query = visibility.two_stream(jnp.arange(4)[None])
    inputs = Inputs(jnp.asarray(PROMPT[:1, :4]), jnp.arange(4)[None], *content)
    queries = jaxdec.model.Queries(jnp.arange(4)[None], query.query_spans, jnp.asarray([4]))
    logits = call(model, TARGET, dataclasses.replace(inputs, queries=queries)).logits
    assert logits.shape == (1, 4, 13) and bool(jnp.isneginf(logits[..., 12]).all())
