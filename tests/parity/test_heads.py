"""Public draft heads against networks written anew in PyTorch: logits, and greedy drafts of a chain or a block.

The twins read the very tensors that a folder holds; nothing of this package is in them.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from jaxdec import checkpoints, growth
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import init
from jaxdec.model import Inputs, from_nnx, tapped
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.huggingface import tensors
from jaxdec.speculative import explain

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.usefixtures("quick_compilation")

V, D, HEADS, KV, WIDTH, INNER, LAYERS, THETA, EPSILON = 23, 16, 4, 2, 6, 20, 9, 1000.0, 1e-5
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
CONFIG = TransformerConfig(
    vocab_size=V,
    width=D,
    layers=LAYERS,
    heads=2,
    kv_heads=2,
    head_dim=8,
    hidden=24,
    tied=False,
)
SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "head_dim": WIDTH,
    "intermediate_size": INNER,
    "max_position_embeddings": 64,
    "rope_theta": THETA,
    "rms_norm_eps": EPSILON,
    "hidden_act": "silu",
}
PROMPT = [[3, 1, 4, 1, 5, 9, 2]]
WHOLE = 16


def random_arrays(shapes, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def layer_shapes(at, inputs):
    return {
        f"{at}.self_attn.q_proj.weight": (HEADS * WIDTH, inputs),
        f"{at}.self_attn.k_proj.weight": (KV * WIDTH, inputs),
        f"{at}.self_attn.v_proj.weight": (KV * WIDTH, inputs),
        f"{at}.self_attn.o_proj.weight": (D, HEADS * WIDTH),
        f"{at}.mlp.gate_proj.weight": (INNER, D),
        f"{at}.mlp.up_proj.weight": (INNER, D),
        f"{at}.mlp.down_proj.weight": (D, INNER),
        f"{at}.input_layernorm.weight": (D,),
        f"{at}.post_attention_layernorm.weight": (D,),
    }


def write(folder, arrays, fields):
    tensors.write(folder, arrays)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture(scope="module")
def target():
    model, shapes = from_nnx(nnx.eval_shape(lambda: Transformer(CONFIG, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(7)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes)
    return Checkpoint("target", model, params, CONFIG, {})


# --- What both twins are made of: a sequence [T, ...] at a time, weights as torch keeps them.


def norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def turned(x, positions):
    """Rotary positions of `x [T, heads, width]`, halves against halves."""
    half = WIDTH // 2
    angles = positions[:, None].double() * THETA ** (-torch.arange(half).double() / half)
    cos, sin = angles.cos().float()[:, None], angles.sin().float()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(queries, keys, values, seen):
    """`[T, heads, width]` over `[S, kv, width]`, with `seen [T, S]`."""
    keys, values = (x.repeat_interleave(HEADS // KV, 1) for x in (keys, values))
    scores = torch.einsum("thd,shd->hts", queries, keys) / WIDTH**0.5
    scores = scores.masked_fill(~seen, float("-inf"))
    return torch.einsum("hts,shd->thd", scores.softmax(-1), values).reshape(len(queries), -1)


def mlp(w, at, x):
    inner = F.silu(x @ w[f"{at}.gate_proj.weight"].T) * (x @ w[f"{at}.up_proj.weight"].T)
    return inner @ w[f"{at}.down_proj.weight"].T


def split(x, heads):
    return x.reshape(len(x), heads, WIDTH)


class TorchEagle3:
    def __init__(self, arrays, embedding):
        self.w = {name: torch.tensor(x) for name, x in arrays.items()}
        self.embedding = torch.tensor(embedding)

    def fused(self, states):
        return torch.tensor(states) @ self.w["fc.weight"].T

    def __call__(self, tokens, features):
        """`(states [T, D], logits [T, V])` of pairs from the first on."""
        w, at = self.w, "midlayer"
        positions = torch.arange(len(tokens))
        embedded = norm(self.embedding[tokens], w[f"{at}.input_layernorm.weight"])
        both = torch.cat([embedded, norm(features, w[f"{at}.hidden_norm.weight"])], -1)
        q = split(both @ w[f"{at}.self_attn.q_proj.weight"].T, HEADS)
        k = split(both @ w[f"{at}.self_attn.k_proj.weight"].T, KV)
        v = split(both @ w[f"{at}.self_attn.v_proj.weight"].T, KV)
        seen = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        mixed = attend(turned(q, positions), turned(k, positions), v, seen)
        x = features + mixed @ w[f"{at}.self_attn.o_proj.weight"].T
        x = x + mlp(w, f"{at}.mlp", norm(x, w[f"{at}.post_attention_layernorm.weight"]))
        drafted = norm(x, w["norm.weight"]) @ w["lm_head.weight"].T
        logits = torch.full((len(tokens), V), float("-inf"))
        for k, offset in enumerate(w["d2t"].tolist()):
            logits[:, k + offset] = drafted[:, k]
        return x, logits

    def chain(self, tokens, features, length):
        """Greedy drafts after pairs, the network's own states standing in for features."""
        tokens, features = torch.tensor(tokens), features
        for _ in range(length):
            x, logits = self(tokens, features)
            tokens = torch.cat([tokens, logits[-1].argmax()[None]])
            features = torch.cat([features, x[-1:]])
        return tokens[-length:].tolist()


class TorchDFlash:
    def __init__(self, arrays, embedding, head):
        self.w = {name: torch.tensor(x) for name, x in arrays.items()}
        self.embedding, self.head = torch.tensor(embedding), torch.tensor(head)
        self.layers = 1 + max(int(n.split(".")[1]) for n in arrays if n.startswith("layers"))

    def __call__(self, states, block):
        """Logits `[N, V]` of a block after the tokens whose tapped states `[T, taps x D]` are given."""
        w = self.w
        context = norm(torch.tensor(states) @ w["fc.weight"].T, w["hidden_norm.weight"])
        x, start = self.embedding[torch.tensor(block)], len(context)
        places = torch.arange(start + len(block))
        seen = torch.ones(len(block), len(places), dtype=torch.bool)
        for i in range(self.layers):
            at = f"layers.{i}"
            rows = norm(x, w[f"{at}.input_layernorm.weight"])
            both = torch.cat([context, rows])
            q = split(rows @ w[f"{at}.self_attn.q_proj.weight"].T, HEADS)
            k = split(both @ w[f"{at}.self_attn.k_proj.weight"].T, KV)
            v = split(both @ w[f"{at}.self_attn.v_proj.weight"].T, KV)
            q = turned(norm(q, w[f"{at}.self_attn.q_norm.weight"]), places[start:])
            k = turned(norm(k, w[f"{at}.self_attn.k_norm.weight"]), places)
            x = x + attend(q, k, v, seen) @ w[f"{at}.self_attn.o_proj.weight"].T
            x = x + mlp(w, f"{at}.mlp", norm(x, w[f"{at}.post_attention_layernorm.weight"]))
        return norm(x, w["norm.weight"]) @ self.head


@functools.cache
def scoring(taps):
    model = from_nnx(nnx.eval_shape(lambda: Transformer(CONFIG, rngs=nnx.Rngs(0))))[0]
    return jax.jit(tapped(model, taps).forward)


def states_of(target, taps, tokens):
    """Tapped states `[T, taps x D]`: what enters layer n, for a tap of n."""
    padded = jnp.asarray([[*tokens, *[0] * (WHOLE - len(tokens))]])
    output = scoring(taps)(target.params, Inputs.causal(padded))
    states = [np.asarray(state[0, : len(tokens)]) for state in output.layer_states]
    return np.concatenate(states, -1)


def steps(target, drafter, params):
    """`(text before the step, greedy drafts)` of each step."""
    decoder = jaxdec.speculative(target.model, drafter=drafter)
    params = {"target": target.params, "draft": params}
    request = jaxdec.prepare(decoder, params, PROMPT, max_new_tokens=8, temperature=0.0)
    state = init(decoder, params, request)
    while bool(state.rows.running[0]):
        text = np.asarray(state.rows.tokens[0])[: int(state.rows.length[0])].tolist()
        state, step = explain(decoder, params, state, jax.random.key(0))
        yield text, np.asarray(step.tree.tokens[0]).tolist()


def test_eagle3(tmp_path, target):
    kept = np.array([1, 2, 4, 7, 8, 11, 16, 20])
    shapes = {
        **layer_shapes("midlayer", 2 * D),
        "midlayer.hidden_norm.weight": (D,),
        "fc.weight": (D, 3 * D),
        "norm.weight": (D,),
        "lm_head.weight": (len(kept), D),
    }
    arrays = random_arrays(shapes, 1)
    arrays |= {"d2t": kept - np.arange(len(kept)), "t2d": np.isin(np.arange(V), kept)}
    fields = {**SIZES, "model_type": "llama", "num_hidden_layers": 1, "draft_vocab_size": len(kept)}
    held = checkpoints.load_heads(write(tmp_path, arrays, fields), target)
    assert held.config.taps == (2, LAYERS // 2, LAYERS - 3)
    twin = TorchEagle3(arrays, np.asarray(target.params["embed_tokens"]["embedding"]))

    tokens = PROMPT[0]
    states = states_of(target, held.config.taps, tokens)
    x, logits = twin(torch.tensor(tokens[1:]), twin.fused(states[:-1]))

    @jax.jit
    def read(params, states):
        features = held.model.fuse(params, states[None])
        inputs = Inputs.causal(jnp.asarray([tokens[1:]]), 1, features=features)
        return held.model(params, inputs, None)

    output = read(held.params, states[:-1])
    np.testing.assert_allclose(output.hidden[0], x.numpy(), **CLOSE)
    np.testing.assert_allclose(output.logits[0], logits.numpy(), **CLOSE)

    drafter = jaxdec.drafters.eagle(held.model, growth=growth.chain(4))
    for text, drafts in steps(target, drafter, held.params):
        states = states_of(target, held.config.taps, text[:-1])
        assert drafts == twin.chain(text[1:], twin.fused(states), 4)


def test_dflash(tmp_path, target):
    shapes = {"fc.weight": (D, 3 * D), "hidden_norm.weight": (D,), "norm.weight": (D,)}
    for i in range(3):
        shapes |= layer_shapes(f"layers.{i}", D)
        shapes |= {f"layers.{i}.self_attn.{n}_norm.weight": (WIDTH,) for n in "qk"}
    arrays = random_arrays(shapes, 2)
    fields = {**SIZES, "architectures": ["DFlashDraftModel"], "model_type": "qwen3"}
    fields |= {"num_hidden_layers": 3, "num_target_layers": LAYERS, "block_size": 6}
    fields |= {"dflash_config": {"mask_token_id": V - 1}}
    held = checkpoints.load_heads(write(tmp_path, arrays, fields), target)
    # Outputs of layers 1, 3 or 4 (round half to even), and 6.
    assert held.config.taps == (2, 1 + round(1 + 5 / 2), 7)
    lent = target.params
    embedding, head = lent["embed_tokens"]["embedding"], lent["lm_head"]["kernel"]
    twin = TorchDFlash(arrays, np.asarray(embedding), np.asarray(head))

    drafter = jaxdec.drafters.dflash(held.model, block=held.block_size)
    for text, drafts in steps(target, drafter, held.params):
        states = states_of(target, held.config.taps, text[:-1])
        block = [text[-1]] + [V - 1] * 5
        logits = twin(states, block)
        logits[:, V - 1] = float("-inf")
        assert drafts == logits[1:].argmax(-1).tolist()

    places = jnp.arange(len(text) - 1, len(text) + 5, dtype=jnp.int32)[None]
    spans = jaxdec.visibility.block_causal(jnp.full_like(places, len(text)))

    @jax.jit
    def logits_of(params, states):
        features = held.model.fuse(params, states[None])
        context = Inputs.causal(jnp.asarray([text[:-1]]), features=features)
        entries = held.model(params, context, None).entries
        cache = held.model.init_cache(1, 64)
        index = jnp.arange(len(text) - 1, dtype=jnp.int32)[None]
        cache = cache.commit(entries, index, jnp.array([len(text) - 1]), context.key_spans)
        return held.model(params, Inputs(jnp.asarray([block]), places, *spans), cache).logits[0]

    mine, theirs = np.asarray(logits_of(held.params, states)), logits.numpy()
    np.testing.assert_allclose(mine[:, : V - 1], theirs[:, : V - 1], **CLOSE)


def test_medusa(tmp_path, target):
    shapes = {}
    for k in range(3):
        shapes |= {f"{k}.{j}.linear.weight": (D, D) for j in range(2)}
        shapes |= {f"{k}.{j}.linear.bias": (D,) for j in range(2)}
        shapes[f"{k}.2.weight"] = (V, D)
    arrays = random_arrays(shapes, 3)
    fields = {"medusa_num_heads": 2, "medusa_num_layers": 2}
    held = checkpoints.load_heads(write(tmp_path, arrays, fields), target)
    hidden = np.random.default_rng(0).normal(size=(5, D)).astype(np.float32)
    for k in range(3):
        x = torch.tensor(hidden)
        for j in range(2):
            weight, bias = (torch.tensor(arrays[f"{k}.{j}.linear.{n}"]) for n in ("weight", "bias"))
            x = x + F.silu(F.linear(x, weight, bias))
        expected = x @ torch.tensor(arrays[f"{k}.2.weight"]).T
        path = jnp.zeros((5, k + 1), jnp.int32)
        law = held.heads.law(held.params, jnp.asarray(hidden), path)
        np.testing.assert_allclose(law, expected.numpy(), **CLOSE)
