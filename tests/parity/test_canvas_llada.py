"""The LLaDA family, whose code does not come with transformers, against a small network written down here."""

import json
import math

import pytest

from tests.parity.canvas import check

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, WIDTH, LAYERS, HEADS, HEAD_DIM, MASK = 48, 32, 2, 4, 8, 45
SILU = torch.nn.functional.silu


class Tensors(dict):
    """Random tensors by name, made when they are first asked for."""

    def __init__(self, seed=0):
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def linear(self, name, outputs, inputs):
        if name not in self:
            scale = 1.7 / math.sqrt(inputs)
            self[name] = torch.randn(outputs, inputs, generator=self.random) * scale
        return self[name]

    def norm(self, name, width):
        if name not in self:
            self[name] = 1 + 0.3 * torch.randn(width, generator=self.random)
        return self[name]


def rms(x, scale, epsilon=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * scale


def turned(x, theta, width=None):
    """Heads `[H, L, d]` turned by their positions, the first `width` numbers of each."""
    width = x.shape[-1] if width is None else width
    angles = torch.arange(x.shape[1])[:, None] * theta ** (-torch.arange(0, width, 2) / width)
    cos, sin = (f(torch.cat([angles, angles], -1)) for f in (torch.cos, torch.sin))
    first, rest = x[..., :width], x[..., width:]
    half = torch.cat([-first[..., width // 2 :], first[..., : width // 2]], -1)
    return torch.cat([first * cos + half * sin, rest], -1)


def attended(q, k, v, visible):
    """`[L, H d]` of heads `[H, L, d]`; keys and values may have fewer heads."""
    k, v = (x.repeat_interleave(len(q) // len(k), 0) for x in (k, v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~torch.tensor(visible), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def heads(x):
    return x.unflatten(-1, (-1, HEAD_DIM)).transpose(0, 1)


def unit(tensors, name, x, hidden, parts=("gate_proj", "up_proj", "down_proj")):
    gate, up, down = (f"{name}{part}.weight" for part in parts)
    inner = SILU(x @ tensors.linear(gate, hidden, WIDTH).T)
    inner = inner * (x @ tensors.linear(up, hidden, WIDTH).T)
    return inner @ tensors.linear(down, WIDTH, hidden).T


def stored(folder, tensors, twin, fields):
    """Writes what the twin has asked for."""
    twin(torch.zeros(3, dtype=torch.long), [[True] * 3] * 3)
    folder.mkdir()
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields))


def llada(tensors, tokens, visible, kv_heads, tied):
    top, hidden = "model.transformer.", 40
    wte = tensors.linear(f"{top}wte.weight", VOCAB, WIDTH)
    x = wte[torch.as_tensor(tokens)]
    for i in range(LAYERS):
        at = f"{top}blocks.{i}."
        y = rms(x, tensors.norm(f"{at}attn_norm.weight", WIDTH))
        q, k, v = (
            heads(y @ tensors.linear(f"{at}{name}_proj.weight", n * HEAD_DIM, WIDTH).T)
            for name, n in (("q", HEADS), ("k", kv_heads), ("v", kv_heads))
        )
        y = attended(turned(q, 5e5), turned(k, 5e5), v, visible)
        x = x + y @ tensors.linear(f"{at}attn_out.weight", WIDTH, HEADS * HEAD_DIM).T
        y = rms(x, tensors.norm(f"{at}ff_norm.weight", WIDTH))
        x = x + unit(tensors, at, y, hidden, ("ff_proj", "up_proj", "ff_out"))
    x = rms(x, tensors.norm(f"{top}ln_f.weight", WIDTH))
    return x @ (wte if tied else tensors.linear(f"{top}ff_out.weight", VOCAB, WIDTH)).T


@pytest.mark.parametrize(("kv_heads", "tied"), [(4, False), (2, True)], ids=["llada", "illada"])
def test_llada(tmp_path, kv_heads, tied):
    tensors = Tensors()
    twin = lambda tokens, visible: llada(tensors, tokens, visible, kv_heads, tied)
    fields = {
        "model_type": "llada",
        "d_model": WIDTH,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "n_kv_heads": kv_heads,
        "mlp_hidden_size": 40,
        "embedding_size": VOCAB,
        "vocab_size": VOCAB,
        "max_sequence_length": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
        "rope": True,
        "weight_tying": tied,
        "block_type": "llama",
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "multi_query_attention": None,
        "mask_token_id": MASK,
    }
    stored(tmp_path / "llada", tensors, twin, fields)
    check(tmp_path / "llada", twin, mask=MASK)


def hf_layers(tensors, tokens, visible, attention, mlp, embedding):
    """A network with the names of Llama, with an attention and a feed-forward unit of its own."""
    x = tensors.linear(f"model.{embedding}.weight", VOCAB, WIDTH)[torch.as_tensor(tokens)]
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        norm = lambda name, x, at=at: rms(x, tensors.norm(f"{at}{name}.weight", WIDTH))
        x = x + attention(at, norm("input_layernorm", x), visible)
        x = x + mlp(i, f"{at}mlp.", norm("post_attention_layernorm", x))
    x = rms(x, tensors.norm("model.norm.weight", WIDTH))
    return x @ tensors.linear("lm_head.weight", VOCAB, WIDTH).T


def mixed(tensors, at, x, experts, weights, hidden):
    """A sum over the chosen experts of each token, one by one."""
    out = torch.zeros_like(x)
    for row, (chosen, scale) in enumerate(zip(experts.tolist(), weights, strict=True)):
        for expert, weight in zip(chosen, scale, strict=True):
            name = f"{at}experts.{expert}."
            out[row] += weight * unit(tensors, name, x[row], hidden)
    return out


@pytest.mark.parametrize("normalised", [False, True])
def test_llada_moe(tmp_path, normalised):
    tensors, experts, chosen, hidden = Tensors(), 8, 3, 24

    def attention(at, y, visible):
        project = lambda name, n: heads(
            y @ tensors.linear(f"{at}self_attn.{name}.weight", n * HEAD_DIM, WIDTH).T
        )
        scale = lambda name: tensors.norm(f"{at}self_attn.{name}.weight", HEAD_DIM)
        q = turned(rms(project("q_proj", HEADS), scale("q_norm")), 5e4)
        k = turned(rms(project("k_proj", HEADS), scale("k_norm")), 5e4)
        y = attended(q, k, project("v_proj", HEADS), visible)
        return y @ tensors.linear(f"{at}self_attn.o_proj.weight", WIDTH, WIDTH).T

    def mlp(layer, at, x):
        for expert in range(experts):  # all of them exist
            unit(tensors, f"{at}experts.{expert}.", x, hidden)
        gate = (x @ tensors.linear(f"{at}gate.weight", experts, WIDTH).T).softmax(-1)
        weights, at_experts = gate.topk(chosen)
        if normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return mixed(tensors, at, x, at_experts, weights, hidden)

    twin = lambda tokens, visible: hf_layers(
        tensors, tokens, visible, attention, mlp, "embed_tokens"
    )
    fields = {
        "model_type": "llada",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "expert_intermediate_size": hidden,
        "intermediate_size": 99,
        "num_experts": experts,
        "num_experts_per_tok": chosen,
        "norm_topk_prob": normalised,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e4,
        "qk_layernorm": True,
        "tie_word_embeddings": False,
        "mask_token_id": MASK,
    }
    stored(tmp_path / "moe", tensors, twin, fields)
    check(tmp_path / "moe", twin, mask=MASK)


def test_llada2(tmp_path):
    """Groups, a bias that only chooses, a shared expert, a first layer without experts, half of a head turned."""
    tensors, experts, chosen, hidden, kv_heads = Tensors(3), 16, 4, 12, 2

    def attention(at, y, visible):
        rows = [HEADS * HEAD_DIM, kv_heads * HEAD_DIM, kv_heads * HEAD_DIM]
        joined = tensors.linear(f"{at}attention.query_key_value.weight", sum(rows), WIDTH)
        q, k, v = (heads(part) for part in (y @ joined.T).split(rows, -1))
        scale = lambda name: tensors.norm(f"{at}attention.{name}_layernorm.weight", HEAD_DIM)
        q, k = (
            turned(rms(x, scale(name)), 6e5, HEAD_DIM // 2)
            for x, name in ((q, "query"), (k, "key"))
        )
        y = attended(q, k, v, visible)
        return y @ tensors.linear(f"{at}attention.dense.weight", WIDTH, WIDTH).T

    def mlp(layer, at, x):
        if layer == 0:
            return unit(tensors, at, x, 40)
        for expert in range(experts):
            unit(tensors, f"{at}experts.{expert}.", x, hidden)
        scores = (x @ tensors.linear(f"{at}gate.weight", experts, WIDTH).T).sigmoid()
        bias = tensors.norm(f"{at}gate.expert_bias", experts)
        weights, picked = [], []
        for row in scores:
            biased = (row + bias).view(8, -1)
            best = biased.topk(2, -1).values.sum(-1).topk(4).indices
            allowed = [e for e in range(experts) if e // (experts // 8) in best.tolist()]
            allowed.sort(key=lambda e: -float(row[e] + bias[e]))
            picked.append(allowed[:chosen])
            weights.append(2.5 * row[picked[-1]] / row[picked[-1]].sum())
        shared = unit(tensors, f"{at}shared_experts.", x, hidden)
        return shared + mixed(tensors, at, x, torch.tensor(picked), weights, hidden)

    twin = lambda tokens, visible: hf_layers(
        tensors, tokens, visible, attention, mlp, "word_embeddings"
    )
    fields = {
        "model_type": "llada2_moe",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": kv_heads,
        "head_dim": HEAD_DIM,
        "intermediate_size": 40,
        "moe_intermediate_size": hidden,
        "num_experts": experts,
        "num_experts_per_tok": chosen,
        "num_shared_experts": 1,
        "n_group": 8,
        "topk_group": 4,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "partial_rotary_factor": 0.5,
        "rope_theta": 6e5,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "max_position_embeddings": 64,
        "use_bias": False,
        "use_qkv_bias": False,
        "tie_word_embeddings": False,
        "mask_token_id": MASK,
        "block_size": 4,
    }
    stored(tmp_path / "llada2", tensors, twin, fields)
    check(tmp_path / "llada2", twin, mask=MASK, block=4)
