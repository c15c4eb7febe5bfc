"""MDLM and BD3-LM, whose code does not come with transformers, against a small network written down here."""

import functools
import json
import math

import pytest

from tests.parity.canvas import check

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file
pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, WIDTH, LAYERS, HEADS, LEVEL = 48, 32, 2, 4, 12
MASK = VOCAB - 1
F = torch.nn.functional


def random_tensors(adaln):
    """The tensors of a checkpoint, by the names of its published code."""
    random, found = torch.Generator().manual_seed(1), {}

    def linear(name, outputs, inputs, bias, scale=1.5):
        weight = torch.randn(outputs, inputs, generator=random)
        found[f"{name}.weight"] = weight * (scale / math.sqrt(inputs))
        if bias:
            found[f"{name}.bias"] = 0.3 * torch.randn(outputs, generator=random)

    def norm(name):
        found[f"{name}.weight"] = 1 + 0.3 * torch.randn(WIDTH, generator=random)

    found["backbone.vocab_embed.embedding"] = torch.randn(VOCAB, WIDTH, generator=random)
    if adaln:
        linear("backbone.sigma_map.mlp.0", LEVEL, 256, True, 4)
        linear("backbone.sigma_map.mlp.2", LEVEL, LEVEL, True, 4)
    for i in range(LAYERS):
        at = f"backbone.blocks.{i}."
        norm(f"{at}norm1")
        norm(f"{at}norm2")
        linear(f"{at}attn_qkv", 3 * WIDTH, WIDTH, False)
        linear(f"{at}attn_out", WIDTH, WIDTH, False)
        linear(f"{at}mlp.0", 4 * WIDTH, WIDTH, True)
        linear(f"{at}mlp.2", WIDTH, 4 * WIDTH, True)
        if adaln:
            linear(f"{at}adaLN_modulation", 6 * WIDTH, LEVEL, True)
    norm("backbone.output_layer.norm_final")
    linear("backbone.output_layer.linear", VOCAB, WIDTH, True, 3)
    if adaln:
        linear("backbone.output_layer.adaLN_modulation", 2 * WIDTH, LEVEL, True)
    return found


def turned(x, cos, sin):
    """Heads `[H, L, d]`, their two halves turned."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def forward(tensors, tokens, visible):
    """Logits `[L, V]` at noise level 0."""
    get = lambda name: tensors[f"backbone.{name}"]
    apply = lambda name, x: F.linear(x, get(f"{name}.weight"), tensors.get(f"backbone.{name}.bias"))
    modulated = "backbone.sigma_map.mlp.0.weight" in tensors
    x = get("vocab_embed.embedding")[torch.as_tensor(tokens)]
    level = None
    if modulated:
        time = torch.zeros(1, 1) * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        time = torch.cat([time.cos(), time.sin()], -1)
        level = F.silu(apply("sigma_map.mlp.2", F.silu(apply("sigma_map.mlp.0", time))))[0]

    def normed(name, x, shift, scale):
        return F.layer_norm(x, [WIDTH]) * get(f"{name}.weight") * (1 + scale) + shift

    for i in range(LAYERS):
        at = f"blocks.{i}."
        zero, one = torch.zeros(WIDTH), torch.ones(WIDTH)
        parts = (
            apply(f"{at}adaLN_modulation", level).chunk(6) if modulated else [zero, zero, one] * 2
        )
        y = apply(f"{at}attn_qkv", normed(f"{at}norm1", x, parts[0], parts[1]))
        q, k, v = y.unflatten(-1, (3, HEADS, -1)).permute(1, 2, 0, 3)
        half = q.shape[-1] // 2
        angles = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(half) / half)
        turn = functools.partial(turned, cos=angles.cos(), sin=angles.sin())
        mixed = F.scaled_dot_product_attention(turn(q), turn(k), v, torch.tensor(visible))
        x = x + parts[2] * apply(f"{at}attn_out", mixed.transpose(0, 1).flatten(1))
        y = apply(f"{at}mlp.0", normed(f"{at}norm2", x, parts[3], parts[4]))
        x = x + parts[5] * apply(f"{at}mlp.2", F.gelu(y, approximate="tanh"))
    shift = scale = torch.zeros(WIDTH)
    if modulated:
        shift, scale = apply("output_layer.adaLN_modulation", level).chunk(2)
    logits = apply("output_layer.linear", normed("output_layer.norm_final", x, shift, scale))
    logits[:, MASK] = -torch.inf
    return logits


@pytest.mark.parametrize(("kind", "adaln"), [("mdlm", True), ("bd3lm", True), ("bd3lm", False)])
def test_mdlm(tmp_path, kind, adaln):
    tensors, folder = random_tensors(adaln), tmp_path / kind
    fields = {
        "model_type": kind,
        "vocab_size": VOCAB,
        "hidden_dim": WIDTH,
        "n_blocks": LAYERS,
        "n_heads": HEADS,
        "cond_dim": LEVEL,
        "model_length": 64,
        "time_conditioning": False,
        **({"block_size": 4, "adaln": adaln} if kind == "bd3lm" else {}),
    }
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields))
    twin = lambda tokens, visible: forward(tensors, tokens, visible)
    check(folder, twin, mask=MASK, block=4 if kind == "bd3lm" else None)
