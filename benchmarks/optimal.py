"""What verifiers accept and what the best could: laws of held-out positions, and no decoding loop.

Legend: B positions, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.setting import Setting
from benchmarks.variants import plain
from jaxdec import growth, verifiers
from jaxdec.decoding import Exactness, Rows, Scored, Settings
from jaxdec.generation import Result, prepare
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.speculative import Context, Drafter, Growth, Speculative, Verifier, grow
from jaxdec.speculative.drafters import ModelDrafter
from jaxdec.speculative.growth import Fixed, GreedySiblings, Independent, StochasticBeam
from jaxdec.speculative.tree import RankTree
from jaxdec.speculative.verifiers import RatioVerifier

TEMPERATURE = 0.8


LOSSLESS = (Exactness.TOKEN_IDENTICAL, Exactness.DISTRIBUTION_IDENTICAL)


def root_acceptance(
    setting: Setting, decoder: Speculative, result: Result, temperature: float
) -> tuple[float, float] | None:
    """How often a child of the pending token is accepted where the steps of a decode began, and the highest that is
    possible, both on the same draws, made anew.

    None where there is no such bound: for drafts that were chosen rather than drawn, verifiers that keep no law, and
    at temperature 0.
    """
    drawn = _root(decoder.drafter)
    if drawn is None or not temperature or decoder.exactness not in LOSSLESS:
        return None
    steps = np.asarray(result.steps)
    begins = (steps >= 0) & (steps != np.pad(steps, ((0, 0), (1, 0)), constant_values=-1)[:, :-1])
    row, place = spread(np.argwhere(begins), setting.scale.positions).T
    p, q = (
        laws(held.model, held.params, result.tokens, temperature)[row, place - 1]
        for held in (setting.target, setting.draft)
    )
    count, replacement = drawn
    rule = (
        growth.independent(count, 1) if replacement else growth.fixed(RankTree.branching((count,)))
    )
    start, settings = begun(setting, np.asarray(result.tokens)[row, place - 1], temperature)
    accepted, bound = accepted_share(
        decoder.verifier, rule, start, settings, p, q, setting.scale.draws, replacement, temperature
    )
    return float(accepted), float(bound)


def begun(setting: Setting, tokens: np.ndarray, temperature: float) -> tuple[Rows, Settings]:
    """A row for each token, all that it holds, and what a request of that temperature asks for."""
    base = plain(setting.target.model, setting.target.params)
    request = prepare(base.decoder, base.params, tokens[:, None], temperature=temperature)
    return Rows.start(request, setting.target.model.vocab_size), request.settings


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


@functools.partial(jax.jit, static_argnums=(0, 1, 6, 7, 8))
def accepted_share(
    verifier: Verifier,
    growth: Growth,
    rows: Rows,
    settings: Settings,
    p: jax.Array,
    q: jax.Array,
    draws: int,
    replacement: bool | None = False,
    temperature: float = TEMPERATURE,
) -> tuple[jax.Array, jax.Array]:
    """The mean acceptance over positions and draws of siblings, and the highest that any verifier could reach on them.

    Args:
      verifier: judges siblings.
      growth: draws them, one level.
      rows: `[B]`, that begin there.
      settings: of their request, whose warp has the temperature alone.
      p: laws `[B, V]` of the target after the warp.
      q: laws `[B, V]` of the drafter after the warp.
      draws: of siblings at each position.
      replacement: how they are drawn; None for no bound, which is then 1.
      temperature: of the warp.
    """
    batch, vocab_size = p.shape
    width = growth.frontier
    held = jnp.zeros(p.shape, bool)
    if replacement is not None:
        held = verifiers.optimal_bound(p, q, growth.nodes, replacement=replacement)[1]

    def law(values: jax.Array, count: int) -> jax.Array:
        return jnp.broadcast_to(jnp.log(values)[:, None], (batch, count, vocab_size))

    def once(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = row_keys(key, batch)
        places = rows.length[:, None] + jnp.arange(2)
        purpose = Purpose.TOKEN if verifier.shares_noise else Purpose.DRAFT
        noise = gumbel(key_at(keys, purpose, places), vocab_size)
        context = Context(rows, settings, keys, noise, None, verifier.shares_noise)
        # The warp divides by the temperature, which these laws are after.
        logits = temperature * law(q, width)
        tree, _ = grow(growth, None, context, lambda carry, *_: (logits, carry), None)
        laws = law(p, growth.nodes + 1)
        drafted = jnp.take_along_axis(held, tree.tokens, axis=1) | ~tree.mask
        outside = ~drafted.all(-1)  # not all drafts lie in the set
        if not isinstance(verifier, RatioVerifier):
            seen = Scored(temperature * laws, laws)  # the walk warps the logits itself
            verdict = verifier.verify(None, tree, seen, laws, context)
            first = verdict.chunk(tree)[:, :1]
            emitted = jnp.take_along_axis(held, first, axis=1)[:, 0]
            return (verdict.count > 0).mean(), (outside + 1.0 * emitted).mean()
        # The chance of a test varies less than its outcome.
        test = verifier.law(jnp.exp(laws), jnp.exp(tree.q), tree)
        passed = jnp.minimum(test.numerator / test.denominator, 1)
        left = jnp.cumprod(1 - passed, axis=-1)
        taken = passed * jnp.pad(left[:, :-1], ((0, 0), (1, 0)), constant_values=1)
        emitted = (taken * drafted).sum(-1) + left[:, -1] * (test.closing[:, 0] * held).sum(-1)
        return 1 - left[:, -1].mean(), (outside + emitted).mean()

    accepted, bound = jax.lax.map(once, jax.random.split(jax.random.key(0), draws))
    bound = jnp.ones_like(bound) if replacement is None else bound
    return accepted.mean(), jnp.minimum(bound.mean(), 1)
