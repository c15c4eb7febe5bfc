"""Caches over devices against whole ones, and whole decodes over them: see `tests.parallel.sequence_cases`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxdec
from jaxdec import any_subset, diffusion, parallel
from jaxdec.cache import KVCache, KVEntries, LayerEntries, RecurrentCache, SequenceCache
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.speculative import RankTree
from jaxdec.testing.oracles import blend, canvas, hash_oracle, recurrent_oracle
from jaxdec.testing.parts.cache import check_cache, kv_cache, kv_entries
from pallas_kernels.span_attention import Keys, span_attention
from tests.cache.int8 import int8
from tests.decoding.moving import Resampled
from tests.models import test_xlnet as xlnet
from tests.speculative import test_public_heads as public


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outside:
    """A split cache as one sees it from outside of the map over its devices: whole arguments, whole reads."""

    cache: SequenceCache

    @classmethod
    def create(cls, cache, devices, form="gather"):
        specs = SequenceCache.split(cache, "sequence", devices, form).specs()
        body = lambda cache: SequenceCache.split(cache, "sequence", devices, form)
        return cls(cls.over(devices)(body, in_specs=P(), out_specs=specs)(cache))

    @staticmethod
    def over(devices):
        mesh = Mesh(np.asarray(jax.devices()[:devices]), ("sequence",))
        return functools.partial(jax.shard_map, mesh=mesh, check_vma=False)

    def mapped(self, body, *arguments, whole=False):
        specs = self.cache.specs()
        given = (specs, *(P() for _ in arguments))
        mapped = self.over(self.cache.devices)(
            body, in_specs=given, out_specs=P() if whole else specs
        )
        found = jax.jit(mapped)(self.cache, *arguments)
        return found if whole else Outside(found)

    length = property(lambda self: self.cache.length)
    capacity = property(lambda self: self.cache.capacity)
    layers = property(lambda self: self.cache.layers)

    def read(self, layer):
        return self.mapped(lambda cache: cache.read(layer).whole(), whole=True)

    def commit(self, *arguments):
        return self.mapped(SequenceCache.commit, *arguments)

    def write(self, *arguments):
        return self.mapped(SequenceCache.write, *arguments)

    def hide(self, slots):
        return self.mapped(SequenceCache.hide, slots)

    def renumber(self, change):
        return self.mapped(lambda cache: cache.renumber(change))

    def rows(self, index):
        return self.mapped(SequenceCache.rows, index)

    def back_to(self, length):
        return self.mapped(SequenceCache.back_to, length)


def operations(devices):
    """Random operations, and that nothing is communicated by them."""
    check_cache(lambda batch, capacity: Outside.create(kv_cache(batch, capacity), devices))
    return []


def balanced():
    """A cache of 96 slots over 3 devices has turns of 16: 40 tokens are 16, 16 and 8 of them."""
    cache = Outside.create(kv_cache(1, 96), 3)
    entries = jax.tree.map(lambda x: x[:1], kv_entries(40, 0))
    index = jnp.arange(40, dtype=jnp.int32)[None]
    spans = jnp.stack([index, index + 99], axis=-1)
    cache = cache.commit(entries, index, jnp.array([40]), spans)
    held = (cache.cache.local.spans[0, :, 0] < 2**30).reshape(3, 32).sum(1).tolist()
    order = cache.read(0).key_spans[0, :40, 0].tolist()
    return [
        text
        for text, wrong in ((held, held != [16, 16, 8]), (order, order != [*range(40)]))
        if wrong
    ]


def attention(form):
    """Over a cache that is half full and new tokens, against one device."""
    rng = np.random.default_rng(3)
    batch, width, heads, slots = 3, 4, 2, 48
    empty = KVCache.create(layers=1, batch=batch, capacity=slots, heads=heads, head_dim=width)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    path = jnp.broadcast_to(jnp.arange(11, dtype=jnp.int32), (batch, 11))
    entries = KVEntries(
        (LayerEntries(draw(batch, heads, 11, width), draw(batch, heads, 11, width)),), path
    )
    spans = jnp.stack([path, jnp.full_like(path, 2**30)], axis=-1)
    count = jnp.array([11, 4, 0])
    queries = draw(batch, 2 * heads, 5, width)
    places = count[:, None] + jnp.arange(5, dtype=jnp.int32)
    asked = jnp.stack([places, places], axis=-1)
    own = jnp.stack([places, jnp.full_like(places, 2**30)], axis=-1)
    new = Keys(draw(batch, heads, 5, width), draw(batch, heads, 5, width), own, places)
    attend = lambda cache: span_attention(queries, asked, cache.read(0), new)
    wanted = attend(empty.commit(entries, path, count, spans))
    cache = Outside.create(empty, 8, form).commit(entries, path, count, spans)
    got = cache.mapped(attend, whole=True)
    return [
        name
        for name, a, b in zip(("outputs", "log-sum-exps"), got, wanted, strict=True)
        if not np.allclose(a, b, rtol=1e-5, atol=2e-6)
    ]


VOCAB = 11
TARGET, TARGET_PARAMS = hash_oracle(VOCAB, seed=1, eos=(3,))
DRAFT, DRAFT_PARAMS = hash_oracle(VOCAB, seed=2)
PARAMS = {"target": TARGET_PARAMS, "draft": blend(TARGET_PARAMS, DRAFT_PARAMS, 0.3)}
RECURRENT, RECURRENT_PARAMS = recurrent_oracle(VOCAB, seed=1, eos=(3,))
CONFIG = TransformerConfig(
    vocab_size=VOCAB, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, hidden=16, window=12
)
NETWORK, NETWORK_PARAMS = jaxdec.from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(2)))
TREE = jaxdec.growth.fixed(RankTree.of((-1, -1, 0, 0, 1)))
DECODERS = {
    "plain": (jaxdec.autoregressive(TARGET), PARAMS),
    "tree": (jaxdec.speculative(TARGET, drafter=jaxdec.drafters.model(DRAFT, growth=TREE)), PARAMS),
    "canvas": (
        jaxdec.denoise(
            canvas(TARGET),
            unmask=diffusion.unmask.threshold(0.5),
            schedule=diffusion.schedules.blocks(4),
            refresh=diffusion.refresh.dual(),
        ),
        PARAMS,
    ),
    "hypotheses": (Resampled(jaxdec.autoregressive(TARGET)), PARAMS),
    "recurrent": (jaxdec.autoregressive(RECURRENT), {"target": RECURRENT_PARAMS}),
    "network": (jaxdec.autoregressive(NETWORK), {"target": NETWORK_PARAMS}),
    "assd": (any_subset.assd(TARGET, width=3), PARAMS),
}


def networks():
    """What reads a cache otherwise: a drafter of features, and two streams with columns that heads share."""
    knobs = {"rng": 7, "temperature": 0.9}
    drafted = functools.partial(
        jaxdec.generate,
        *public.drafting("eagle3"),
        public.PROMPT,
        lengths=public.LENGTHS,
        max_new_tokens=9,
        **knobs,
    )
    random = np.random.default_rng(0)
    tokens, visible = random.integers(0, xlnet.MASK, (2, 12)), random.random((2, 12)) < 0.4
    visible[:, 0], visible[:, 1] = True, False
    decoder = any_subset.assd(xlnet.MODEL, width=2)
    filled = functools.partial(
        jaxdec.infill, decoder, {"target": xlnet.PARAMS}, tokens, visible, **knobs
    )
    place = parallel.placement(sequence=2)
    return [
        name
        for name, call in (("eagle3", drafted), ("xlnet", filled))
        if not np.array_equal(call().tokens, call(placement=place).tokens)
    ]


def decoded(name, sizes, **how):
    """Ragged rows with settings of their own: the same tokens and log-probabilities on the mesh as on one device."""
    decoder, params = DECODERS[name]
    rows = np.arange(4)
    random = np.random.default_rng(0)
    knobs = {"rng": 7, "temperature": np.where(rows % 3, 0.9, 0.0)}
    if "cache" in how:
        knobs["cache"] = how.pop("cache")
    if name == "assd":
        tokens, visible = random.integers(0, VOCAB, (4, 12)), random.random((4, 12)) < 0.4
        visible[:, 0], visible[:, 1] = True, False
        call = functools.partial(jaxdec.infill, decoder, params, tokens, visible, **knobs)
    else:
        prompt = random.integers(0, VOCAB, (4, 6))
        knobs |= {"lengths": 1 + rows * 5 % 6, "max_new_tokens": 3 + rows * 7 % 20}
        if name == "hypotheses":
            knobs |= {"hypotheses": 2}
        call = functools.partial(jaxdec.generate, decoder, params, prompt, **knobs)
    expected, got = call(), call(placement=parallel.placement(**sizes, **how))
    wrong = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        other = functools.reduce(lambda node, key: getattr(node, key.name), path, got)
        exact = leaf.dtype != np.float32
        same = (
            np.array_equal(leaf, other) if exact else np.allclose(leaf, other, rtol=1e-4, atol=1e-5)
        )
        wrong += [] if same else [jax.tree_util.keystr(path)]
    return wrong


def raised(function):
    try:
        function()
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def refused():
    cache = kv_cache(2, 10)
    odd = raised(lambda: SequenceCache.split(cache, "sequence", 4))
    form = raised(lambda: SequenceCache.split(cache, "sequence", 5, "star"))
    table = dataclasses.replace(cache, positions=cache.positions[:, :4])
    array = raised(lambda: SequenceCache.split(table, "sequence", 5))
    decoder, params = DECODERS["plain"]
    small = parallel.placement(sequence=4, memory=1)
    held = raised(
        lambda: jaxdec.generate(
            decoder, params, np.ones((4, 6), int), rng=0, max_new_tokens=9, placement=small
        )
    )
    wanted = (
        # Of 72 slots in 4 rows a quarter, 20 bytes each, and two lengths a row.
        (held, f"caches of {72 * 20 + 4 * 2 * 4:,} bytes"),
        (odd, "10 slots do not divide over 4 devices along 'sequence'"),
        (form, "form must be one of gather, ring, bidirectional, got 'star'"),
        (array, "an array [2, 4] of a KVCache has no 10 slots on axis 1"),
    )
    states = RecurrentCache.create((jnp.zeros((2, 3)),), 10)
    wrong = [text for text, part in wanted if part not in text]
    return wrong + ([] if SequenceCache.split(states, "sequence", 4) is states else ["states"])


CASES = {
    "operations, 5 devices": (operations, 5),
    "plain, 8 devices": (decoded, "plain", {"sequence": 8}),
    "caches, refused": (refused,),
}
SLOW = {
    "balanced": (balanced,),
    "operations, 2 devices": (operations, 2),
    **{f"attention, {form}": (attention, form) for form in ("gather", "ring", "bidirectional")},
    **{f"{name}, 4 devices": (decoded, name, {"sequence": 4}) for name in ("tree", "hypotheses", "recurrent")},
    **{f"{name}, 2 x 4 devices": (decoded, name, {"data": 2, "sequence": 4}) for name in ("canvas", "assd")},
    "networks, 2 devices": (networks,),
    "rounded, 4 devices": (functools.partial(decoded, cache=int8), "plain", {"sequence": 4}),
    **{
        f"network, {form}, {sizes}": (functools.partial(decoded, attention=form), "network", sizes)
        for form, sizes in (
            ("gather", {"data": 2, "sequence": 2, "model": 2}),
            ("ring", {"sequence": 2, "model": 2}),
            ("bidirectional", {"sequence": 4}),
            # Each group of rows has a loop of its own, and none waits for keys of another.
            ("ring", {"data": 2, "sequence": 2}),
        )
    },
}  # fmt: skip
