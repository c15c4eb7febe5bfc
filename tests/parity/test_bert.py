"""BERT as `transformers` has it, with weights that it wrote itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.model import Inputs
from jaxdec.models import huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, LENGTH = 29, 11
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (3, LENGTH))
VALID = np.arange(LENGTH) < np.array([[LENGTH], [8], [4]])


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_masked_language_model(activation, tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        hidden_act=activation,
        mask_token_id=4,
    )
    theirs = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(0, 0.4)
        theirs.save_pretrained(tmp_path / "one")
        mask = torch.tensor(VALID.astype(np.int64))
        expected = theirs(torch.tensor(TOKENS), attention_mask=mask).logits.numpy()
    ours = huggingface.load(tmp_path / "one")
    assert ours.fills.kind == "canvas" and ours.model.mask_token == 4
    places = jnp.broadcast_to(jnp.arange(LENGTH), TOKENS.shape)
    spans = jaxdec.visibility.full(places).where(jnp.asarray(VALID))
    found = jax.jit(ours.model)(ours.params, Inputs(jnp.asarray(TOKENS), places, *spans)).logits
    np.testing.assert_allclose(found[VALID], expected[VALID], atol=1e-4)
    huggingface.save(tmp_path / "two", ours.params, ours.config, "bert")
    back = transformers.BertForMaskedLM.from_pretrained(tmp_path / "two").eval()
    with torch.no_grad():
        again = back(torch.tensor(TOKENS), attention_mask=mask).logits.numpy()
    np.testing.assert_array_equal(again, expected)
