"""What verifiers accept and what the best could: laws of held-out positions, and no decoding loop.

Legend: B positions, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.setting import Row, Setting, plain
from jaxdec import growth, verifiers
from jaxdec.catalogue import VERIFIERS
from jaxdec.decoding import Exactness, Rows, Settings
from jaxdec.generation import Result, prepare
from jaxdec.model import Inputs, Model, Params
from jaxdec.sampling import Purpose, gumbel, key_at, row_keys
from jaxdec.speculative import Context, Drafter, Growth, Verifier, grow
from jaxdec.speculative.drafters import ModelDrafter
from jaxdec.speculative.growth import Fixed, GreedySiblings, Independent, StochasticBeam
from jaxdec.speculative.tree import RankTree
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
    row, place = _spread(np.argwhere(begins), setting.scale.positions).T
    p, q = (
        _laws(held.model, held.params, result.tokens, temperature)[row, place - 1]
        for held in (setting.target, setting.draft)
    )
    count, replacement = drawn
    return float(_optimal(p, q, count, replacement).mean())


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


def _spread(places: np.ndarray, count: int) -> np.ndarray:
    """As many of the places, evenly spread; some more than once if there are fewer."""
    return places[np.linspace(0, len(places) - 1, count).round().astype(int)]


@functools.partial(jax.jit, static_argnums=0)
def _laws(model: Model, params: Params, tokens: jax.Array, temperature: float) -> jax.Array:
    """The law `[B, L, V]` of the token after each."""
    logits = model(params, Inputs.causal(tokens), None).logits
    return jax.nn.softmax(logits / temperature)


_optimal = jax.jit(
    lambda p, q, count, replacement: verifiers.optimal_acceptance(
        p, q, count, replacement=replacement
    ),
    static_argnums=(2, 3),
)


def optimal_acceptance(setting: Setting) -> list[Row]:
    """How often one of k siblings is accepted, by verifier, next to the most that any exact verifier could accept.

    Held-out positions, temperature 0.8; siblings are drawn from the draft model's law anew many times.
    """
    scale, rows = setting.scale, []
    held = setting.prompts(scale.many)
    inside = np.arange(held.tokens.shape[1]) < held.lengths[:, None]
    row, place = _spread(np.argwhere(inside), scale.positions).T
    p, q = (
        _laws(each.model, each.params, jnp.asarray(held.tokens), TEMPERATURE)[row, place]
        for each in (setting.target, setting.draft)
    )
    base = plain(setting.target.model, setting.target.params)
    request = prepare(
        base.decoder, base.params, held.tokens[row, place][:, None], temperature=TEMPERATURE
    )
    start = Rows.start(request, p.shape[-1])
    for siblings in scale.siblings:
        shape = RankTree.branching((siblings,))
        drawings: dict[str, tuple[Growth, bool | None]] = {
            "without replacement": (growth.fixed(shape), False)
        }
        if siblings > 1:
            drawings["with replacement"] = growth.independent(siblings, 1), True
            drawings["one drawn, the others the likeliest"] = growth.greedy_siblings(shape), None
        for drawing, (rule, replacement) in drawings.items():
            bound = None
            if replacement is not None:
                bound = float(_optimal(p, q, siblings, replacement).mean())
            for name, make in VERIFIERS.items():
                verifier = make()
                if not _judges(verifier, rule):
                    continue
                accepted = float(
                    accepted_share(verifier, rule, start, request.settings, p, q, scale.draws)
                )
                rows.append(
                    {
                        "siblings": siblings,
                        "drawing": drawing,
                        "verifier": name,
                        "exactness": verifier.exactness.value,
                        "temperature": TEMPERATURE,
                        "positions": scale.positions,
                        "draws": scale.draws,
                        "acceptance": accepted,
                        "optimal": bound,
                        "gap": None if bound is None else bound - accepted,
                    }
                )
    return rows


def _judges(verifier: Verifier, growth: Growth) -> bool:
    """Whether a verifier is exact and takes such siblings."""
    if verifier.exactness is Exactness.HEURISTIC:
        return False
    if verifier.chains_only and growth.nodes > growth.depth:
        return False
    return growth.independent or not verifier.needs_independence


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
        tree, _ = grow(growth, context, lambda carry, *_: (logits, carry), None)
        laws = law(p, growth.nodes + 1)
        if not isinstance(verifier, RatioVerifier):
            return (verifier.verify(tree, laws, context).count > 0).mean()
        # The chance of a test varies less than its outcome.
        test = verifier.law(jnp.exp(laws), jnp.exp(tree.q), tree)
        failed = 1 - jnp.minimum(test.numerator / test.denominator, 1)
        return 1 - failed.prod(-1).mean()

    return jax.lax.map(once, jax.random.split(jax.random.key(0), draws)).mean()
