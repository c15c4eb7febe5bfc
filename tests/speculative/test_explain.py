"""A step that is explained is the step that the decoder takes."""

import jax
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters
from jaxdec.decoding import init, stream
from jaxdec.speculative import explain
from jaxdec.testing.oracles import hash_oracle


@pytest.mark.usefixtures("quick_compilation")
def test_explained_steps_are_the_steps_of_the_loop():
    model, params = hash_oracle(5)
    growth = jaxdec.growth.best_first(5, 3, width=2, siblings=2)
    decoder = jaxdec.speculative(model, drafter=drafters.model(model, growth=growth))
    both, key = {"target": params, "draft": hash_oracle(5, seed=1)[1]}, jax.random.key(0)
    prompt = np.array([[1, 2, 3], [4, 0, 1]])
    request = jaxdec.prepare(decoder, both, prompt, max_new_tokens=16, temperature=0.8)
    state, texts = init(decoder, both, request), [[], []]
    infos = [
        jax.tree.map(np.asarray, info)
        for _, info in stream(decoder, both, init(decoder, both, request), key)
    ]
    for info in infos:
        state, step = explain(decoder, both, state, key)
        jax.tree.map(np.testing.assert_array_equal, step.info, info)
        tree, verdict = step.tree, step.verdict
        for row in np.flatnonzero(step.info.count):
            path = np.asarray(verdict.path[row, 1 : 1 + int(verdict.count[row])]) - 1
            assert np.asarray(tree.mask)[row, path].all()
            assert (
                np.asarray(tree.parents)[row, path].tolist()
                == [-1, *path[:-1].tolist()][: len(path)]
            )
            chunk = [*np.asarray(tree.tokens)[row, path].tolist(), int(verdict.next_token[row])]
            count = int(step.info.count[row])
            assert step.info.tokens[row, :count].tolist() == chunk[:count]
            assert int(step.pending[row]) == [*prompt[row], *texts[row]][-1]
            texts[row] += chunk[:count]
    assert not state.rows.running.any()
    assert sum(int(info.accepted.sum()) for info in infos) > 0
