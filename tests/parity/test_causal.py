"""Causal checkpoints that transformers writes: the same logits and the same greedy tokens here and there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.models import huggingface
from tests.models.huggingface import tiny

torch = pytest.importorskip("torch", reason="torch is not installed (extra parity)")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra parity)"
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

torch.set_num_threads(1)  # tiny products gain nothing by more

LENGTHS = (14, 3, 9, 1)
NEW = 32


def written(folder, name, dtype=torch.float32, seed=0):
    """A network of transformers with weights that let every part count, and its files."""
    fields = dict(tiny.fields(name))
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields, **none)
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in network.parameters():
        noise = torch.randn_like(parameter)
        wide = parameter.ndim > 1
        # Matrices keep the size of what they map; norms and biases move away from where they start.
        parameter.data = noise * parameter.shape[-1] ** -0.5 if wide else parameter + 0.3 * noise
    network = network.to(dtype).eval()
    network.save_pretrained(folder)
    return network


def tokens_of(network, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, network.config.vocab_size, (len(LENGTHS), 40))


def logits_there(network, tokens):
    with torch.no_grad():
        return network(torch.tensor(tokens)).logits.float().numpy()


def logits_here(loaded, tokens):
    forward = jax.jit(loaded.model.forward)
    inputs = jaxdec.Inputs.causal(jnp.asarray(tokens, jnp.int32))
    output = forward(loaded.params, inputs, None)
    assert output.logits.dtype == jnp.float32
    return np.asarray(output.logits)


def greedy_there(network, prompts):
    """New tokens of left-padded prompts."""
    wide = max(map(len, prompts))
    ids = torch.tensor([[0] * (wide - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (wide - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        whole = network.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW, pad_token_id=0
        )
    return whole[:, wide:].numpy()


def greedy_here(loaded, prompts):
    """New tokens of right-padded prompts."""
    wide = max(map(len, prompts))
    lengths = np.array([len(p) for p in prompts])
    result = jaxdec.generate(
        jaxdec.autoregressive(loaded.model),
        {"target": loaded.params},
        np.array([[*p, *[0] * (wide - len(p))] for p in prompts]),
        lengths=lengths,
        rng=0,
        max_new_tokens=NEW,
        temperature=0.0,
        eos=(),
    )
    tokens = np.asarray(result.tokens)
    return np.stack([row[n : n + NEW] for row, n in zip(tokens, lengths, strict=True)])


@pytest.mark.parametrize("name", tiny.FIELDS)
def test_logits_and_greedy_tokens_are_those_of_transformers(tmp_path, name):
    network = written(tmp_path / "in", name)
    loaded = huggingface.load(tmp_path / "in")
    tokens = tokens_of(network)
    theirs = logits_there(network, tokens)
    assert theirs.std() > 0.3
    np.testing.assert_allclose(logits_here(loaded, tokens), theirs, atol=1e-4, rtol=1e-4)
    prompts = [row[:length].tolist() for row, length in zip(tokens, LENGTHS, strict=True)]
    np.testing.assert_array_equal(greedy_here(loaded, prompts), greedy_there(network, prompts))
    # And back: transformers reads what is written here as the very network that it wrote.
    huggingface.save(tmp_path / "out", loaded.params, loaded.config, loaded.architecture)
    back = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    ).eval()
    np.testing.assert_array_equal(logits_there(back, tokens), theirs)


@pytest.mark.parametrize("name", [n for n in tiny.FIELDS if " " not in n])
def test_logits_in_bfloat16(tmp_path, name):
    network = written(tmp_path, name, torch.bfloat16)
    loaded = huggingface.load(tmp_path)
    assert {x.dtype for x in jax.tree.leaves(loaded.params)} == {jnp.dtype(jnp.bfloat16)}
    tokens = tokens_of(network)
    theirs, ours = logits_there(network, tokens), logits_here(loaded, tokens)
    error, size = (np.linalg.norm(x, axis=-1) for x in (ours - theirs, theirs))
    # Where two experts are nearly as good, rounding sends a token to the other one: hence the median.
    mixed = loaded.config.mixture is not None
    relative = np.median(error / size) if mixed else np.linalg.norm(error) / np.linalg.norm(size)
    assert relative < 2e-2
