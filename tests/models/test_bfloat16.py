"""In bfloat16 speculation leaves plain greedy decoding only where two tokens are nearly as good."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import drafters

GAP = 0.05
"""Between the two best logits where tokens may differ; stated in docs/exactness.md."""
NEW, CUTS = 128, (0, 5, 9)
PROMPTS = (
    "def fibonacci(n):\n    ",
    "import os\nimport sys\n\n\nclass Reader:\n    def __init__(self, path):\n        ",
    "for name, value in sorted(items.items()):\n    ",
    "try:\n    import json\nexcept ImportError:\n    ",
    "    def test_empty(self):\n        self.assertEqual(",
    "if __name__ == '__main__':\n    parser = argparse.ArgumentParser(",
    "# Returns the number of lines in a file.\ndef count_lines(",
    "@property\ndef width(self):\n    return ",
)


@pytest.mark.slow
def test_a_first_difference_is_where_two_logits_are_close():
    target = jaxdec.load("code-target", "bfloat16")
    model, params = target.model, {"target": target.params}
    assert model.init_cache(1, 8).read(0).keys.dtype == jnp.bfloat16
    # A token is a byte.
    prompts = [prompt.encode()[: len(prompt) - cut] for prompt in PROMPTS for cut in CUTS]
    wide = max(map(len, prompts))
    padded = np.array([[*p, *[0] * (wide - len(p))] for p in prompts])
    lengths = np.array([len(p) for p in prompts])
    settings = dict(lengths=lengths, rng=0, max_new_tokens=NEW, temperature=0.0, eos=())
    plain = jaxdec.generate(jaxdec.autoregressive(model), params, padded, **settings)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    score = jax.jit(lambda params, tokens: model(params, jaxdec.Inputs.causal(tokens)).logits)
    logits = score(target.params, plain.tokens)
    assert logits.dtype == jnp.float32
    fast = jaxdec.speculative(model, drafter=drafters.prompt_lookup(length=6))
    other = jaxdec.generate(fast, params, padded, **settings)
    gaps, differing = [], 0
    for row, length in enumerate(lengths):
        one, two = (np.asarray(x.tokens[row, length : length + NEW]) for x in (plain, other))
        if not (one != two).any():
            continue
        differing += 1
        at = int((one != two).argmax())
        law = np.asarray(logits[row, length + at - 1])
        # Either token is nearly the best there, whichever of the programs is asked.
        gaps.append(law.max() - law[[one[at], two[at]]].min())
    print(f"{differing} of {len(lengths)} rows differ, gaps {np.round(sorted(gaps), 3)}")
    assert max(gaps, default=0.0) < GAP
