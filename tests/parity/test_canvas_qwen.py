"""Checkpoints that restore masks with the network of Qwen2 or Qwen3, against that network in transformers."""

import json

import pytest

from tests.parity.canvas import check

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = 46
SIZES = dict(
    vocab_size=48,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.35,
)


def build(folder, version, fields, **sizes):
    """A random network in transformers, stored as the checkpoint that `fields` say; and it as a twin."""
    torch.manual_seed(0)
    kind = {2: "Qwen2", 3: "Qwen3"}[version]
    config = getattr(transformers, f"{kind}Config")(**SIZES, **sizes, attn_implementation="eager")
    network = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, x in network.named_parameters():
        if name.endswith("bias") or "norm" in name:
            x.data += 0.3 * torch.randn_like(x)
    network.save_pretrained(folder)
    held = json.loads((folder / "config.json").read_text())
    held.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps({**held, **fields}))

    def twin(tokens, visible):
        hidden = torch.where(torch.tensor(visible), 0.0, -torch.inf)[None, None]
        with torch.no_grad():
            return network(torch.tensor(tokens)[None], attention_mask=hidden).logits[0].numpy()

    return twin


def test_dream(tmp_path):
    twin = build(tmp_path / "dream", 2, dict(model_type="Dream", mask_token_id=MASK))
    check(tmp_path / "dream", twin, mask=MASK, ahead=True)


def test_fast_dllm(tmp_path):
    fields = dict(model_type="Fast_dLLM_Qwen", bd_size=4, mask_token_id=MASK)
    twin = build(tmp_path / "fast", 2, fields, tie_word_embeddings=True)
    check(tmp_path / "fast", twin, mask=MASK, block=4, ahead=True, first=True)


def test_sdar(tmp_path):
    fields = dict(model_type="sdar", block_size=4, mask_token_id=MASK)
    twin = build(tmp_path / "sdar", 3, fields, head_dim=16, tie_word_embeddings=True)
    check(tmp_path / "sdar", twin, mask=MASK, block=4)


@pytest.mark.parametrize("version", [2, 3])
def test_a2d(tmp_path, version):
    """The mask is named by the tokenizer alone."""
    fields = dict(model_type=f"a2d-qwen{version}", **({"block_size": 4} if version == 3 else {}))
    folder = tmp_path / "a2d"
    twin = build(folder, version, fields, **({"head_dim": 16} if version == 3 else {}))
    added = {str(MASK): {"content": "<|mask|>", "special": True}}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"mask_token": "<|mask|>", "added_tokens_decoder": added})
    )
    check(folder, twin, mask=MASK, block=4 if version == 3 else None)
