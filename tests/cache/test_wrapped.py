"""A cache of the caller's own, which rounds, under every kind of decoder: nobody looks inside."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import growth
from jaxdec.cache import Cache, Entries
from jaxdec.decoding import Decoder, Exactness
from jaxdec.diffusion import denoise, refresh, schedules, unmask
from jaxdec.model import from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.sampling import row_keys
from jaxdec.speculative import RankTree
from jaxdec.testing import battery, check
from tests.cache.int8 import Int8Cache, int8
from tests.diffusion import canvases

pytestmark = pytest.mark.usefixtures("quick_compilation")


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A decoder all of whose requests ask for another cache."""

    decoder: Decoder
    exactness: Exactness = Exactness.TOKEN_IDENTICAL

    def __getattr__(self, name: str) -> Any:
        return getattr(self.decoder, name)

    def init(self, params, request):
        state = self.decoder.init(params, dataclasses.replace(request, cache=int8))
        assert isinstance(state.cache, Int8Cache)
        return state


TREE = growth.fixed(RankTree.of((-1, -1, 0, 0, 1)))
DECODERS = {
    "plain": lambda target, draft: Wrapped(jaxdec.autoregressive(target)),
    "tree": lambda target, draft: Wrapped(
        jaxdec.speculative(target, drafter=jaxdec.drafters.model(draft, growth=TREE))
    ),
    "canvas": lambda target, draft: Wrapped(
        denoise(
            target,
            unmask=unmask.left_to_right(),
            schedule=schedules.blocks(8),
            refresh=refresh.dual(),
        )
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_battery(name):
    """Rows end, and settings read text, as under any cache; a loop takes the cache as its own."""
    checks = battery.PARTS + battery.LOOPS * (name == "tree")
    check(DECODERS[name], checks=checks, read_left=False)


CONFIG = TransformerConfig(
    vocab_size=13, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16
)
MODEL, PARAMS = from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(2)))
PARAMS = {"target": jax.tree.map(lambda x: x * (20 if x.shape == (13, 16) else 2), PARAMS)}
PROMPT, LENGTHS = np.array([[1, 2, 3, 1, 2], [4, 0, 5, 0, 0]]), np.array([5, 3])


def test_a_rounded_cache_of_a_network():
    """Rounding changes logits, so that the wrapper is known to be read; rows, and cuts in chunks, change nothing."""
    decoder = jaxdec.speculative(MODEL, drafter=jaxdec.drafters.prompt_lookup(length=3))
    options = dict(max_new_tokens=24, temperature=0.7)
    keys = row_keys(jax.random.key(3), 2)
    run = lambda **given: jaxdec.generate(
        decoder, PARAMS, **{"prompt": PROMPT, "lengths": LENGTHS, "rng": keys, **options, **given}
    )
    exact, whole = run(), run(cache=int8)
    same = np.asarray(exact.tokens) == np.asarray(whole.tokens)
    assert not same.all() or (exact.raw_log_probs != whole.raw_log_probs).any()
    for row, length in enumerate(LENGTHS):
        alone = run(
            prompt=PROMPT[row : row + 1, :length],
            lengths=None,
            rng=keys[row : row + 1],
            cache=int8,
        )
        np.testing.assert_array_equal(alone.tokens[0], whole.tokens[row])
    request = jaxdec.prepare(decoder, PARAMS, PROMPT, lengths=LENGTHS, cache=int8, **options)
    state, record = jaxdec.decoding.init(decoder, PARAMS, request), None
    for _ in range(24):
        state, record = jaxdec.run(decoder, PARAMS, state, keys, 1, record)
    np.testing.assert_array_equal(state.rows.tokens[:, :29], whole.tokens[:, :29])


def test_a_canvas_reads_through_the_wrapper():
    """With a dual cache that is refreshed in every forward nothing that was rounded is read."""
    model, params = canvases.transformer()
    decode = lambda period, **options: canvases.decode(
        denoise(
            model,
            unmask=unmask.left_to_right(),
            schedule=schedules.blocks(8),
            refresh=refresh.dual(),
        ),
        {"target": params},
        refresh_period=period,
        **options,
    )
    canvases.same(decode(1), decode(1, cache=int8))
    approximate, rounded = decode(100), decode(100, cache=int8)
    assert (approximate.log_probs != rounded.log_probs).any()


def test_both_caches_meet_the_contract():
    cache = MODEL.init_cache(2, 6)
    entries = MODEL(PARAMS["target"], jaxdec.Inputs.causal(jnp.asarray(PROMPT))).entries
    assert isinstance(entries, Entries)
    index, count = jnp.broadcast_to(jnp.arange(5), (2, 5)), jnp.asarray(LENGTHS)
    spans = jnp.broadcast_to(jnp.asarray([7, 9], jnp.int32), (2, 5, 2))
    for kind in (cache, int8(cache)):
        assert isinstance(kind, Cache) and kind.layers == 2 and kind.capacity == 6
        held = kind.commit(entries, index, count, spans)
        np.testing.assert_array_equal(held.length, LENGTHS)
        hidden = held.hide(jnp.arange(6) == jnp.asarray([[0], [1]])).read(1).key_spans
        seen = (np.asarray(hidden) == [7, 9]).all(-1)
        np.testing.assert_array_equal(seen, [[0, 1, 1, 1, 1, 0], [1, 0, 1, 0, 0, 0]])
        double = held.renumber(lambda spans: 2 * spans).read(0).key_spans
        np.testing.assert_array_equal(double[0, 0], [14, 18])
        turned = held.rows(jnp.asarray([1, 1, 0]))
        np.testing.assert_array_equal(turned.length, LENGTHS[[1, 1, 0]])
        np.testing.assert_array_equal(turned.read(1).keys[2], held.read(1).keys[0])
        np.testing.assert_allclose(
            held.read(0).values[0, :, :5], entries.layers[0].values[0], atol=0.05
        )
