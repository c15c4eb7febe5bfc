"""The fastest way to decode a model on this device: which drafter, and how much it drafts, plain decoding included.

Legend: B rows, n drafts a step at most.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdec.autoregressive import autoregressive
from jaxdec.decoding import Decoder, check_parts, part_names
from jaxdec.generation import ChosenDecoder, fastest, generate, prepare
from jaxdec.generation.tuning import least, tokens_and_forwards
from jaxdec.measuring.forwards import ForwardCosts, forward_costs, proposal_costs
from jaxdec.model import Heads, Model, Params
from jaxdec.speculative import Drafter, Speculative, Verifier, drafters, growth, speculative

PLAIN = "plain"
"""What plain decoding is called among the candidates."""

Ladder = Callable[[int], Drafter]
"""Builds the drafter that drafts at most n tokens a step."""


def ladders(named: Mapping[str, Model | Heads | Ladder]) -> dict[str, Ladder]:
    """Drafters by how much they draft.

    A model drafts chains, and the trees of its likeliest paths (`growth.best_first`) under its name with `-tree`; heads
    draft such trees; a function of n is taken as it is. Prompt lookup needs nothing, and is always there.

    Args:
      named: models and heads by the name of their parameters, or functions by any name.

    Raises:
      ValueError: for a name that is taken.
    """
    made: dict[str, Ladder] = {"lookup": lambda n: drafters.prompt_lookup(length=n)}

    def put(name: str, ladder: Ladder) -> None:
        if name in made or name == PLAIN:
            raise ValueError(f"drafters need names of their own, got {name!r} twice")
        made[name] = ladder

    for name, drafter in named.items():
        if isinstance(drafter, Heads):
            put(name, _of_heads(drafter, name))
        elif isinstance(drafter, Model):
            put(name, _of_model(drafter, name, tree=False))
            put(f"{name}-tree", _of_model(drafter, name, tree=True))
        else:
            put(name, drafter)
    return made


def _of_heads(heads: Heads, name: str) -> Ladder:
    def ladder(n: int) -> Drafter:
        rule = growth.best_first(n, min(n, heads.heads), siblings=min(8, heads.vocab_size))
        return drafters.heads(heads, growth=rule, name=name)

    return ladder


def _of_model(model: Model, name: str, tree: bool) -> Ladder:
    def ladder(n: int) -> Drafter:
        if not tree:
            return drafters.model(model, length=n, name=name)
        # A path of all n would be the chain; half of them leave the other half for siblings.
        rule = growth.best_first(n, min(-(-n // 2), 12), siblings=min(8, model.vocab_size))
        return drafters.model(model, growth=rule, name=name)

    return ladder


def auto(
    model: Model,
    params: Mapping[str, Params],
    prompt: jax.Array | np.ndarray,
    *,
    rng: jax.Array,
    drafters: Mapping[str, Model | Heads | Ladder] | None = None,
    drafts: Sequence[int] = (2, 4, 8, 16, 32),
    verifier: Verifier | None = None,
    costs: ForwardCosts | None = None,
    draft_seconds: float = 0.0,
    new_tokens: int = 64,
    repeats: int = 3,
    margin: float = 0.02,
    prompt_lengths: Any = None,
    clock: Callable[[], float] = time.perf_counter,
    report: Callable[[str], None] = lambda name: None,
    **generate_kwargs: Any,
) -> ChosenDecoder:
    """Chooses how to decode a model fastest: a drafter, how much it drafts, or plain decoding.

    With tau tokens a forward, a forward of T tokens of each row that costs R(T) seconds, and proposals that cost c, a
    row's token is predicted to take

        s = (R(T) + c) / (tau B)   seconds.

    tau is counted on the prompts, R and c are measured in loops on this device. Predictions say why something is fast;
    the choice is by the clock: all candidates decode the prompts in turns, and those that fall far behind leave early.
    With `costs`, such as a plan's of chips that are not here, nothing is timed, and the least s is chosen.

    Args:
      model: the target.
      params: parameters of the target and of all drafters, by part name.
      prompt: int `[B, P]`, prompts like those to come; the choice holds for this B.
      rng: as in `generate`.
      drafters: what can draft, by the names of their parameters, such as `{"draft": small, "medusa": heads}`, or
        functions of n; prompt lookup is always tried. See `ladders`.
      drafts: numbers n of drafts a step to try, each at least 1.
      verifier: as in `speculative`.
      costs: R for this B, in place of the clock.
      draft_seconds: what each forward of a drafter's own model costs, with `costs` alone.
      new_tokens: tokens that each row decodes at most in a measurement.
      repeats: measurements of each.
      margin: drafts are chosen only if plain decoding takes more than `1 + margin` times their seconds.
      prompt_lengths: int `[B]`, the tokens in each prompt; all P if not given.
      clock: returns seconds.
      report: is called with the name of each candidate before it is compiled.
      **generate_kwargs: further arguments of `generate`, such as `temperature`.

    Returns:
      The choice, and the figures of all candidates; its names are `"plain"`, and a drafter's with n, as `"lookup 8"`.

    Raises:
      ValueError: for impossible arguments, or if the prompts end without a token.

    Exactness: that of the verifier; by default tokens are those of plain decoding.
    """
    drafts = tuple(drafts)
    if not drafts or min(drafts) < 1 or len(set(drafts)) < len(drafts):
        raise ValueError(f"drafts must be different integers of at least 1, got {drafts}")
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be at least 1, got {new_tokens}")
    if "max_new_tokens" in generate_kwargs:
        raise ValueError("max_new_tokens is set by new_tokens here")
    if not draft_seconds >= 0 or (draft_seconds and costs is None):
        raise ValueError(
            f"draft_seconds must be at least 0, and 0 without costs, got {draft_seconds}"
        )
    decoders: dict[str, Decoder] = {PLAIN: autoregressive(model)}
    for name, ladder in ladders(drafters or {}).items():
        for n in drafts:
            decoder = speculative(model, drafter=ladder(n), verifier=verifier)
            check_parts(params, part_names(decoder))
            decoders[f"{name} {n}"] = decoder
    settings = {"max_new_tokens": new_tokens, "lengths": prompt_lengths, **generate_kwargs}

    def decode(decoder: Decoder) -> tuple[int, int]:
        found = generate(decoder, params, prompt, rng=rng, **settings)
        return tokens_and_forwards(found)

    batch = np.shape(prompt)[0]
    if costs is not None:
        rates = {name: _rate(name, decode(decoder)) for name, decoder in decoders.items()}
        drafting = {name: draft_seconds * _forwards(one) for name, one in decoders.items()}
        predicted = _per_token(decoders, rates, costs, drafting, batch)
        best = least(predicted, PLAIN, margin)
        return ChosenDecoder(decoders[best], best, {}, rates, predicted, decoders)

    choice = fastest(
        decoders, decode, repeats=repeats, margin=margin, clock=clock, behind=1.5, report=report
    )
    request = lambda decoder: prepare(decoder, params, prompt, **settings)
    widths = sorted({_scored(decoder) for decoder in decoders.values()})
    context = request(decoders[PLAIN]).capacity + widths[-1] + 4
    if model.max_length is not None:
        context = min(context, model.max_length)
    measured = forward_costs(
        model, params["target"], batch=batch, context=context, tokens=widths, clock=clock
    )
    speculation = {name: one for name, one in decoders.items() if isinstance(one, Speculative)}
    drafting = {PLAIN: 0.0, **proposal_costs(speculation, params, request, clock=clock)}
    predicted = _per_token(decoders, choice.tokens_per_forward, measured, drafting, batch)
    return dataclasses.replace(choice, predicted=predicted)


def _scored(decoder: Decoder) -> int:
    """Tokens of a row that a forward of the target scores."""
    return decoder.drafter.nodes + 1 if isinstance(decoder, Speculative) else 1


def _forwards(decoder: Decoder) -> int:
    """Of the drafter's own model in a step."""
    return decoder.drafter.forwards if isinstance(decoder, Speculative) else 0


def _rate(name: str, counted: tuple[int, int]) -> float:
    """Tokens a forward."""
    tokens, forwards = counted
    if not tokens:
        raise ValueError(f"no prompt gave a token with {name!r}")
    return tokens / forwards


def _per_token(
    decoders: Mapping[str, Decoder],
    rates: Mapping[str, float],
    costs: ForwardCosts,
    drafting: Mapping[str, float],
    batch: int,
) -> dict[str, float]:
    """The prediction, by name."""
    return {
        name: (costs.at(_scored(decoder)) + drafting[name]) / (rates[name] * batch)
        for name, decoder in decoders.items()
    }
