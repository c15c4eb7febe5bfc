"""Models: what a law depends on, and what the wrappers of a network answer. For all else see `check_model`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdec import visibility
from jaxdec.model import Inputs, Model, Queries, from_nnx
from jaxdec.models import Transformer, TransformerConfig

V, MASK = 11, 10


def transformer(seed: int = 0, **changes: Any) -> tuple[Model, Any]:
    """A small network whose laws depend on what is seen."""
    config = TransformerConfig(
        **{
            **dict(vocab_size=V, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24),
            **changes,
        }
    )
    model, params = from_nnx(Transformer(config, rngs=nnx.Rngs(seed)))
    return model, jax.tree.map(lambda x: 3 * x if x.ndim == 2 else x, params)


def _law(model: Model, params: Any, inputs: Inputs, cache: Any = None) -> np.ndarray:
    forward = jax.jit(lambda params, inputs, cache: model.forward(params, inputs, cache).logits)
    return np.asarray(jax.nn.log_softmax(forward(params, inputs, cache)))


def check_reach(model: Model, params: Any, reach: int | None = None, *, seed: int = 0) -> None:
    """The law after the last of ten tokens depends on so many of them, the last one included, and on no others.

    Args:
      model: predicts the token after each new token.
      params: its parameters.
      reach: tokens that a law depends on; all if not given.
      seed: of the tokens.
    """
    real = V - 1
    text = np.random.default_rng(seed).integers(0, real, (1, 10))
    last = _law(model, params, Inputs.causal(jnp.asarray(text)))[0, -1, :real]
    for back in range(1, 10):
        other = text.copy()
        other[0, 9 - back] = (other[0, 9 - back] + 1) % real
        law = _law(model, params, Inputs.causal(jnp.asarray(other)))[0, -1, :real]
        change = np.abs(law - last).max()
        if reach is None or back < reach:
            assert change > 1e-6, f"the law does not depend on the token {back} before the last"
        else:
            assert change < 1e-6, f"the law depends on the token {back} before the last"


def check_any_subset_model(
    model: Model, params: Any, base: Model, mask_token: int, *, canvas: bool
) -> None:
    """Answers to queries are those of the network at a mask in their place, each by itself, and masks have no mass.

    Args:
      model: answers queries.
      params: its parameters.
      base: the network that it is made of.
      mask_token: what stands at unknown places.
      canvas: whether each query has a canvas of its own, with masks at all that it does not see (`masked_rows`);
        else a query is one more token that nobody sees (`two_stream`).
    """
    rng = np.random.default_rng(0)
    size = 7
    ranks = rng.permutation(size)
    tokens = rng.integers(0, mask_token, size)
    visible = 2
    places = np.arange(size)
    content, query = visibility.two_stream(jnp.asarray(ranks[None]), visible)
    hidden = np.ones((1, size + 2), bool)
    hidden[0, size:] = False  # two tokens of padding
    pad = lambda x: jnp.pad(x, ((0, 0), (0, 2)) + ((0, 0),) * (x.ndim - 2))
    spans = visibility.Spans(pad(content.query_spans), pad(content.key_spans)).where(
        jnp.asarray(hidden)
    )
    queries = Queries(jnp.asarray(places[None]), query.query_spans, jnp.asarray([size]))
    padded = np.concatenate([tokens, [4, 4]])
    inputs = Inputs(jnp.asarray(padded[None]), pad(jnp.asarray(places[None])), *spans, queries)
    logits = np.asarray(jax.jit(lambda inputs: model.forward(params, inputs, None).logits)(inputs))[
        0
    ]
    assert np.isneginf(logits[:, mask_token]).all(), "the mask token has mass"
    for place in range(size):
        if ranks[place] < visible:
            continue
        seen = ranks < ranks[place]
        if canvas:
            text = np.where(seen, tokens, mask_token)[None]
            own = Inputs(
                jnp.asarray(text),
                jnp.asarray(places[None]),
                *visibility.full(jnp.asarray(places[None])),
            )
            wanted = np.asarray(base.forward(params, own, None).logits)[0, place]
        else:
            text = np.concatenate([tokens[seen], [mask_token]])[None]
            at = np.concatenate([places[seen], [place]])[None]
            order = np.concatenate([ranks[seen], [ranks[place]]])[None]
            sees, _ = visibility.two_stream(jnp.asarray(order), visible)
            known = np.ones((1, len(text[0])), bool)
            known[0, -1] = False  # nobody sees a query, itself included
            sees = sees.where(jnp.asarray(known))
            own = Inputs(jnp.asarray(text), jnp.asarray(at), *sees)
            wanted = np.asarray(base.forward(params, own, None).logits)[0, -1]
        real = np.arange(len(wanted)) != mask_token
        np.testing.assert_allclose(
            logits[place, real], wanted[real], atol=2e-4, err_msg=f"the answer at place {place}"
        )


def check_next_token(model: Model, params: Any, base: Model, mask_token: int) -> None:
    """The law after each token is the canvas model's at a mask in the next place, after the tokens up to it."""
    rng = np.random.default_rng(1)
    text = rng.integers(0, mask_token, (1, 6))
    found = _law(model, params, Inputs.causal(jnp.asarray(text)))[0]
    for place in range(6):
        asked = np.concatenate([text[:, : place + 1], [[mask_token]]], axis=1)
        logits = np.asarray(base.forward(params, Inputs.causal(jnp.asarray(asked)), None).logits)[
            0, -1
        ]
        wanted = np.where(np.arange(len(logits)) == mask_token, -np.inf, logits)
        wanted = np.asarray(jax.nn.log_softmax(jnp.asarray(wanted)))
        np.testing.assert_allclose(found[place], wanted, atol=2e-4, err_msg=f"after token {place}")
