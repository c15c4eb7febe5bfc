"""Decoders draw the same tokens with the kernels as without them, on real transformers and ragged rows."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas import tpu as pltpu

import jaxdec
import pallas_kernels
from jaxdec import any_subset, diffusion, growth
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.speculative import RankTree

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = TransformerConfig(
    vocab_size=12, width=16, layers=1, heads=4, kv_heads=2, head_dim=8, hidden=16, window=9
)
TREE = RankTree.of((-1, -1, 0, 0, 1, 2))
SETTINGS = {
    "rng": jax.random.key(5),
    "temperature": np.array([0.0, 0.9, 1.3]),
    "banned": np.arange(12) == 4,
}


def build(seed):
    """A transformer whose parameters are large enough that it is sure of some tokens."""
    model, params = jaxdec.from_nnx(Transformer(CONFIG, rngs=nnx.Rngs(seed)))
    return model, jax.tree.map(lambda x: 3 * x, params)


MODEL, TARGET = build(0)
# A draft that often agrees.
DRAFT = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, TARGET, build(1)[1])
CAUSAL = {
    "plain": jaxdec.autoregressive(MODEL),
    "lookup chain": jaxdec.speculative(MODEL, drafter=jaxdec.drafters.prompt_lookup(length=3)),
    "draft tree": jaxdec.speculative(
        MODEL, drafter=jaxdec.drafters.model(MODEL, growth=growth.fixed(TREE))
    ),
    "draft tree, recursive": jaxdec.speculative(
        MODEL,
        drafter=jaxdec.drafters.model(MODEL, growth=growth.fixed(TREE)),
        verifier=jaxdec.verifiers.RecursiveRejection(),
    ),
    "canvas in blocks": jaxdec.denoise(
        diffusion.canvas_model(MODEL, 11),
        schedule=diffusion.schedules.blocks(4),
        unmask=diffusion.unmask.threshold(0.5),
        attention="causal",
        refresh=diffusion.refresh.block(),
    ),
}


def both(decode):
    with pallas_kernels.use("reference"):
        wanted = decode()
    checks = pltpu.InterpretParams(out_of_bounds_reads="raise", uninitialized_memory="nan")
    with pallas_kernels.use("tpu"), pltpu.force_tpu_interpret_mode(checks):
        found = decode()
    for name in ("tokens", "steps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    for name in ("log_probs", "raw_log_probs"):
        values = np.asarray(getattr(found, name)), np.asarray(getattr(wanted, name))
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4, err_msg=name)
    return wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSAL)
def test_the_same_tokens(name):
    prompt = np.array([[1, 2, 1, 2, 1], [0, 3, 2, 0, 0], [5, 0, 0, 0, 0]])
    wanted = both(
        lambda: jaxdec.generate(
            CAUSAL[name],
            {"target": TARGET, "draft": DRAFT},
            prompt,
            lengths=[5, 3, 1],
            max_new_tokens=np.array([8, 6, 7]),
            **SETTINGS,
        )
    )
    if name not in ("plain", "canvas in blocks"):
        assert int(wanted.stats.accepted.sum()) > 0
    assert len(np.unique(wanted.tokens)) > 4


@pytest.mark.slow
def test_the_same_tokens_in_gaps():
    decoder = any_subset.fused(any_subset.two_stream(MODEL, 11), width=3, nodes=4, outcomes=3)
    tokens = np.tile(np.arange(10), (3, 1))
    visible = np.arange(10) % 3 == np.arange(3)[:, None]
    wanted = both(lambda: jaxdec.infill(decoder, {"target": TARGET}, tokens, visible, **SETTINGS))
    assert int(wanted.stats.accepted.sum()) > 0
