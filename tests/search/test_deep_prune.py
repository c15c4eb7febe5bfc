"""DeepPrune against all traces run to their ends and a clustering by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdec import search
from jaxdec.decoding import Status
from tests.search.rows import LENGTHS, PLAIN, generate, texts

pytestmark = pytest.mark.usefixtures("quick_compilation")
HYPOTHESES, AFTER = 6, 3


def same_last(params, tokens, prompt_length, length):
    """Traces that stand at the same token are taken to end alike."""
    at = jnp.take_along_axis(tokens, length[..., None] - 1, axis=-1)[..., 0]
    return jnp.where(at[:, :, None] == at[:, None], 0.9, 0.1)


def test_the_first_of_each_cluster_goes_on():
    decoder, pruned = search.deep_prune(PLAIN, same_last, after=AFTER), 0
    for seed in range(3):
        key = jax.random.key(seed)
        whole, found = generate(PLAIN, HYPOTHESES, key), generate(decoder, HYPOTHESES, key)
        weights = np.exp(np.asarray(found.pool.log_weights))
        for p in range(2):
            size, groups = int(LENGTHS[p]), {}
            for b in range(p * HYPOTHESES, (p + 1) * HYPOTHESES):
                text = texts(whole)[b]
                groups.setdefault(text[: size + AFTER][-1], []).append(b)
            for members in groups.values():
                first, *others = members
                assert texts(found)[first] == texts(whole)[first]
                assert weights[first] == pytest.approx(len(members))
                for b in others:
                    assert weights[b] == 0
                    assert texts(found)[b] == texts(whole)[b][: size + AFTER]
                    pruned += found.status[b] is Status.PRUNED
    assert pruned > 6
    every = generate(decoder, HYPOTHESES, key, prune_threshold=1.0)
    assert texts(every) == texts(whole) and every.status == whole.status
    with pytest.raises(ValueError, match="after must be at least 1, got 0"):
        search.deep_prune(PLAIN, same_last, after=0)
