"""What verifiers accept and what the best could: laws of held-out positions, and no decoding loop.

Legend: B positions, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.setting import Setting
from jaxdec import verifiers
from jaxdec.decoding import Rows, Scored, Settings
from jaxdec.generation import Result
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.speculative import Context, Drafter, Growth, Verifier, grow
from jaxdec.speculative.drafters import ModelDrafter
from jaxdec.speculative.growth import Fixed, GreedySiblings, Independent, StochasticBeam
from jaxdec.speculative.verifiers import RatioVerifier

TEMPERATURE = 0.8


def root_optimal(
    setting: Setting, drafter: Drafter, result: Result, temperature: float
) -> float | None:
    """The highest acceptance that is possible for the first node of a path, on average over the steps of a decode.

    None where there is no such bound: for drafts that were chosen rather than drawn, and at temperature 0.
    """
    drawn = _root(drafter)
    if drawn is None or not temperature:
        return None
    steps = np.asarray(result.steps)
    begins = (steps >= 0) & (steps != np.pad(steps, ((0, 0), (1, 0)), constant_values=-1)[:, :-1])
    row, place = spread(np.argwhere(begins), setting.scale.positions).T
    p, q = (
        laws(held.model, held.params, result.tokens, temperature)[row, place - 1]
        for held in (setting.target, setting.draft)
    )
    count, replacement = drawn
    return float(highest(p, q, count, replacement).mean())


def _root(drafter: Drafter) -> tuple[int, bool] | None:
    """How many children of the pending token a draft model draws, and whether with replacement."""
    if not isinstance(drafter, ModelDrafter):
        return None
    match drafter.growth:
        case GreedySiblings():
            return None
        case Fixed(shape):
            return shape.parents.count(-1), False
        case Independent(chains, _):
            return chains, True
        case StochasticBeam(width, _):
            return width, False
    return None


def spread(places: np.ndarray, count: int) -> np.ndarray:
    """As many of the places, evenly spread; some more than once if there are fewer."""
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]


@functools.partial(jax.jit, static_argnums=0)
def laws(model: Model, params: Params, tokens: jax.Array, temperature: float) -> jax.Array:
    """The law `[B, L, V]` of the token after each."""
    logits = model(params, Inputs.causal(tokens), None).logits
    return jax.nn.softmax(logits / temperature)


highest = jax.jit(
    lambda p, q, count, replacement: verifiers.optimal_acceptance(
        p, q, count, replacement=replacement
    ),
    static_argnums=(2, 3),
)


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def accepted_share(
    verifier: Verifier,
    growth: Growth,
    rows: Rows,
    settings: Settings,
    p: jax.Array,
    q: jax.Array,
    draws: int,
) -> jax.Array:
    """The mean acceptance over positions and draws of siblings; `p` and `q` are laws `[B, V]`, after the warp."""
    batch, vocab_size = p.shape
    width = growth.frontier

    def law(values: jax.Array, count: int) -> jax.Array:
        return jnp.broadcast_to(jnp.log(values)[:, None], (batch, count, vocab_size))

    def once(key: jax.Array) -> jax.Array:
        keys = row_keys(key, batch)
        places = rows.length[:, None] + jnp.arange(2)
        purpose = Purpose.TOKEN if verifier.shares_noise else Purpose.DRAFT
        noise = gumbel(key_at(keys, purpose, places), vocab_size)
        context = Context(rows, settings, keys, noise, None, verifier.shares_noise)
        # The warp divides by the temperature, which these laws are after.
        logits = TEMPERATURE * law(q, width)
        tree, _ = grow(growth, None, context, lambda carry, *_: (logits, carry), None)
        laws = law(p, growth.nodes + 1)
        if not isinstance(verifier, RatioVerifier):
            seen = Scored(TEMPERATURE * laws, laws)  # the walk warps the logits itself
            return (verifier.verify(None, tree, seen, laws, context).count > 0).mean()
        # The chance of a test varies less than its outcome.
        test = verifier.law(jnp.exp(laws), jnp.exp(tree.q), tree)
        failed = 1 - jnp.minimum(test.numerator / test.denominator, 1)
        return 1 - failed.prod(-1).mean()

    return jax.lax.map(once, jax.random.split(jax.random.key(0), draws)).mean()
