"""What verifiers accept, next to the most that is possible."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks.case import CAUSAL, Case
from benchmarks.columns import EXACTNESS, Row, number, word
from benchmarks.optimal import LOSSLESS, TEMPERATURE, accepted_share, begun, laws, spread
from benchmarks.progress import each
from benchmarks.setting import Setting
from jaxdec import growth
from jaxdec.catalogue import VERIFIERS
from jaxdec.speculative import Growth, Verifier
from jaxdec.speculative.tree import RankTree


def run(setting: Setting) -> list[Row]:
    """One row a number of siblings, way of drawing them and verifier."""
    scale, rows = setting.scale, []
    held = setting.prompts(scale.many)
    inside = np.arange(held.tokens.shape[1]) < held.lengths[:, None]
    row, place = spread(np.argwhere(inside), scale.positions).T
    p, q = (
        laws(model.model, model.params, jnp.asarray(held.tokens), TEMPERATURE)[row, place]
        for model in (setting.target, setting.draft)
    )
    start, settings = begun(setting, held.tokens[row, place], TEMPERATURE)
    every = [(count, *drawing) for count in scale.siblings for drawing in drawings(count)]
    for siblings, drawing, rule, replacement in each(every, "{0[0]} siblings, {0[1]}".format):
        for name, verifier in judges(rule):
            share = accepted_share(verifier, rule, start, settings, p, q, scale.draws, replacement)
            accepted, bound = map(float, share)
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
                    "optimal": None if replacement is None else bound,
                    "gap": None if replacement is None else bound - accepted,
                }
            )
    return rows


def drawings(siblings: int) -> Iterator[tuple[str, Growth, bool | None]]:
    """Ways to draw siblings, and whether with replacement; None where there is no bound."""
    shape = RankTree.branching((siblings,))
    yield "without replacement", growth.fixed(shape), False
    if siblings > 1:
        yield "with replacement", growth.independent(siblings, 1), True
        yield "one drawn, the others the likeliest", growth.greedy_siblings(shape), None


def judges(rule: Growth) -> Iterator[tuple[str, Verifier]]:
    """The exact verifiers that take such siblings."""
    for name, make in VERIFIERS.items():
        verifier = make()
        chain = not verifier.chains_only or rule.nodes <= rule.depth
        takes = rule.independent or not verifier.needs_independence
        if verifier.exactness in LOSSLESS and chain and takes:
            yield name, verifier


CASE = Case(
    name="optimal_acceptance",
    order=7,
    about=(
        "How often one of k siblings is accepted, by verifier, next to the most that any exact verifier could accept. "
        "Held-out positions, temperature 0.8; siblings are drawn from the draft model's law anew many times."
    ),
    models=CAUSAL,
    columns=(
        ("siblings", word("siblings")),
        ("drawn", word("drawing")),
        ("verifier", word("verifier")),
        ("accepted", number("acceptance", ".4f")),
        ("at most", number("optimal", ".4f")),
        ("gap", number("gap", ".4f")),
        EXACTNESS,
    ),
    legend=(
        "*at most*: what the best verifier would reach with siblings that are drawn like these (2502.18779), the mean "
        "over the positions and the same draws, so that no verifier exceeds it by chance; the *gap* is what a better "
        "one could gain."
    ),
    labels=("siblings", "drawing", "verifier"),
    run=run,
)
