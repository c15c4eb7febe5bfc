"""XLNet as `transformers` has it, with weights that it wrote itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.model import Inputs, prompt_inputs, score
from jaxdec.models import huggingface

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("quick_compilation")

VOCAB, LENGTH = 29, 11
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, VOCAB, (3, LENGTH))
SIZES, SHOWN = np.array([LENGTH, 8, 4]), np.array([3, 1, 2])
RANKS = np.stack([[*RANDOM.permutation(n), *range(n, LENGTH)] for n in SIZES])
VISIBLE = np.less(RANKS, SHOWN[:, None])
ORDER = any_subset.fixed_order(RANKS, VISIBLE, SIZES)
VALID = np.arange(LENGTH) < SIZES[:, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("xlnet") / "checkpoint"


@pytest.fixture(scope="module")
def theirs(folder):
    torch.manual_seed(0)
    config = transformers.XLNetConfig(
        vocab_size=VOCAB, d_model=16, n_layer=2, n_head=2, d_inner=24, ff_activation="gelu"
    )
    model = transformers.XLNetLMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.4)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def ours(theirs, folder):
    return huggingface.load(folder)


def call(theirs, **how):
    tensors = {name: torch.tensor(np.asarray(x, np.float32)) for name, x in how.items()}
    with torch.no_grad():
        mask = torch.tensor(VALID.astype(np.float32))
        return theirs(torch.tensor(TOKENS), attention_mask=mask, **tensors).logits.numpy()


def answers(theirs):
    """Their logits of every rank from `SHOWN` on, `[B, L, V]` by rank; each query sees the ranks below its own."""
    below = RANKS[:, None, :] < RANKS[:, :, None]
    prompt = VISIBLE[:, :, None] & VISIBLE[:, None, :]
    asked = np.take_along_axis(np.eye(LENGTH)[None], np.asarray(ORDER.places)[..., None], axis=1)
    return call(theirs, perm_mask=~(below | prompt), target_mapping=asked)


def test_content(theirs, ours):
    """No order: every place sees its row whole, and one segment is none."""
    places = jnp.broadcast_to(jnp.arange(LENGTH), TOKENS.shape)
    spans = jaxdec.visibility.full(places).where(jnp.asarray(VALID))
    found = jax.jit(ours.model)(ours.params, Inputs(jnp.asarray(TOKENS), places, *spans)).logits
    expected = call(theirs)
    np.testing.assert_allclose(found[VALID], expected[VALID], atol=1e-4)
    with torch.no_grad():
        mask = torch.tensor(VALID.astype(np.float32))
        segment = torch.zeros(TOKENS.shape, dtype=torch.long)
        again = theirs(torch.tensor(TOKENS), attention_mask=mask, token_type_ids=segment).logits
    np.testing.assert_allclose(found[VALID], again.numpy()[VALID], atol=1e-4)


@pytest.mark.parametrize("cached", [False, True])
def test_queries_in_a_random_order(theirs, ours, cached):
    """A query for each rank, in one forward, or over a cache of ranks that were committed before."""
    model, params = ours.model, ours.params
    ranked = jnp.asarray(np.take_along_axis(TOKENS, np.asarray(ORDER.places), axis=1))
    inputs = prompt_inputs(ranked, ORDER.size, ORDER, visible=ORDER.visible)
    forward, first = jax.jit(score, static_argnums=0), np.zeros(3, int)
    output, start = forward(model, params, inputs, None, ORDER), SHOWN - 1
    if cached:  # rows of unequal length, the prompt's last token still pending in the third
        first = np.array([5, 3, 1])
        index = jnp.broadcast_to(jnp.arange(LENGTH), TOKENS.shape)
        cache = model.init_cache(3, LENGTH + 2).commit(
            output.entries, index, jnp.asarray(first), inputs.key_spans
        )
        shift = lambda x: jnp.take_along_axis(
            x,
            (first[:, None] + np.arange(LENGTH)).reshape(3, LENGTH, *(1,) * (x.ndim - 2)),
            axis=1,
            mode="clip",
        )
        spans = jaxdec.visibility.Spans(shift(inputs.query_spans), shift(inputs.key_spans)).where(
            jnp.asarray(np.arange(LENGTH) < (SIZES - first)[:, None])
        )
        rest = Inputs(shift(inputs.tokens), shift(inputs.positions), *spans)
        output, start = forward(model, params, rest, cache, ORDER), np.maximum(SHOWN - 1, first)
    expected = answers(theirs)
    for row, size in enumerate(SIZES):
        at = slice(start[row] - first[row], size - 1 - first[row])
        found, want = np.asarray(output.logits)[row, at], expected[row, start[row] + 1 : size]
        assert np.isneginf(found[:, 6]).all() and len(found) == len(want) > 1
        keep = np.arange(VOCAB) != 6
        np.testing.assert_allclose(found[:, keep], want[:, keep], atol=1e-4)


def test_low_precision(theirs, folder):
    """Weights and entries of bfloat16, laws of float32; relative positions stay exact."""
    low = huggingface.load(folder, dtype="bfloat16")
    ranked = jnp.asarray(np.take_along_axis(TOKENS, np.asarray(ORDER.places), axis=1))
    inputs = prompt_inputs(ranked, ORDER.size, ORDER, visible=ORDER.visible)
    output = jax.jit(score, static_argnums=0)(low.model, low.params, inputs, None, ORDER)
    assert output.logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(output.entries.layers)} == {jnp.dtype("bfloat16")}
    assert low.model.init_cache(1, 4).read(0).keys.dtype == jnp.bfloat16
    found, want = np.asarray(output.logits)[0, SHOWN[0] - 1 : -1], answers(theirs)[0, SHOWN[0] :]
    keep = np.arange(VOCAB) != 6
    gap = np.abs(found - want)[:, keep].max() / np.abs(want).max()
    assert gap < 2e-2, gap


def test_what_is_saved_is_what_was_read(ours, folder, tmp_path):
    from safetensors.numpy import load_file

    huggingface.save(tmp_path / "again", ours.params, ours.config, "xlnet")
    before, after = (load_file(at / "model.safetensors") for at in (folder, tmp_path / "again"))
    assert {*after} == {*before} - {"lm_loss.weight"}
    for name, x in after.items():
        np.testing.assert_array_equal(x, before[name])
    back = transformers.XLNetLMHeadModel.from_pretrained(tmp_path / "again").eval()
    again = huggingface.load(tmp_path / "again")
    assert again.model == ours.model and again.config == ours.config
    assert (again.fills.kind, again.fills.mask_token) == ("subsets", 6)
    np.testing.assert_array_equal(
        back.transformer.mask_emb.detach().numpy()[0, 0], ours.params["mask_emb"]
    )
