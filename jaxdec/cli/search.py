"""Decodes several hypotheses of a prompt that are compared on their way, and prints the one that weighs most.

Legend: P prompts, H hypotheses of a prompt.
"""

import argparse
import collections
import dataclasses
import functools
import json
from typing import Any

import jax
import numpy as np

import jaxdec
from jaxdec import catalogue, search
from jaxdec.catalogue import Method
from jaxdec.catalogue.assembly import assemble_search
from jaxdec.checkpoints import Checkpoint, HeadsCheckpoint
from jaxdec.cli import generate, knobs, loading, options
from jaxdec.cli.decode import Decoded, whole
from jaxdec.cli.display import DRAFTED, OWN, Page, figures, output, waiting
from jaxdec.decoding import Decoder
from jaxdec.model import Params, ScoreHead
from jaxdec.text import Tokenizer


def run(arguments: argparse.Namespace) -> None:
    """Decodes and prints: the answers on stdout, figures on stderr.

    Raises:
      ValueError: for bad input.
      FloatingPointError: if the model's law is not finite.
    """
    method, each = loading.searching(arguments.method), arguments.n
    prompts = [options.text_bytes(prompt) for prompt in arguments.prompt]
    target = loading.load(arguments.target)
    tokenizer, stops = loading.tokenizer(target), options.stop_strings(arguments)
    tokens, lengths = loading.encoded(tokenizer, prompts, chat=arguments.chat, bos=arguments.bos)
    decoder, params = _decoder(arguments, method, target, tokenizer)
    request = jaxdec.prepare(
        decoder,
        params,
        tokens,
        max_new_tokens=arguments.max_new_tokens,
        lengths=lengths,
        hypotheses=each,
        stop_strings=stops,
        tokenizer=tokenizer,
        **knobs.warp(arguments, target),
        **knobs.constraint(arguments, target, tokenizer),
        **knobs.own(arguments, decoder),
    )
    place, params = loading.placed(arguments.placement, params)
    rng = jax.random.key(arguments.seed)
    decoded = whole(decoder, params, request, rng, waiting, place)
    standings = _standings(decoder, decoded, each)
    shown = [i for i, one in enumerate(standings) if one.answer or arguments.all]
    if arguments.json:
        rows = [prompt for prompt in prompts for _ in range(each)]
        report = generate.report(method, rows, decoded, tokenizer, stops)
        found = [row | one.facts() for row, one in zip(report["rows"], standings, strict=True)]
        print(json.dumps({**report, "rows": [found[i] for i in shown]}))
        return
    page = Page(output(), len(shown), tokenizer, stops)
    for line, row in enumerate(shown):
        prompt = row // each
        if arguments.all:
            page.say(line, f"[{standings[row].line()}]\n")
        page.open(line, prompts[prompt], tokens[prompt, : lengths[prompt]], chat=arguments.chat)
        styles = [DRAFTED if mark else OWN for mark in decoded.drafted[row]]
        page.add(line, decoded.tokens[row], styles)
        page.end(line)
    _print_figures(decoded, standings)


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a hypothesis stands at the end.

    Attributes:
      prompt: which one it continues, from 0 on.
      hypothesis: which one of it, from 0 on.
      answer: whether it has the largest weight; the first of those that have.
      log_weight: up to a constant that the hypotheses of a prompt share.
      weight: its share of the weight of all; 0 if none has any.
      score: what the scorer said of it last, or it was ranked by; None if nothing is scored.
      steps: that it consists of; None where hypotheses are not compared by steps.
      log_prob: of its new tokens, under the law that they were drawn from; None where that is its score.
      status: why it ended.
    """

    prompt: int
    hypothesis: int
    answer: bool
    log_weight: float
    weight: float
    score: float | None
    steps: int | None
    log_prob: float | None
    status: str

    def facts(self) -> dict[str, Any]:
        """As JSON has it, which knows no infinity."""
        facts = dataclasses.asdict(self)
        del facts["prompt"]
        for name in ("log_weight", "score", "log_prob"):
            if facts[name] is not None and not np.isfinite(facts[name]):
                facts[name] = None
        return facts

    def line(self) -> str:
        """In words."""
        score = "" if self.score is None else f", score {self.score:.3f}"
        log_prob = "" if self.log_prob is None else f", log-prob {self.log_prob:.2f}"
        steps = "" if self.steps is None else f", {self.steps} step{'s' * (self.steps != 1)}"
        return (
            f"prompt {self.prompt}, hypothesis {self.hypothesis}: weight {self.weight:.3f}{score}{log_prob}{steps}, "
            f"{self.status}{', the answer' * self.answer}"
        )


def _decoder(
    arguments: argparse.Namespace, method: Method, target: Checkpoint, tokenizer: Tokenizer
) -> tuple[Decoder, Params]:
    scorer, weights = _scorer(arguments.scorer, target)
    decoder, params = assemble_search(
        method,
        target,
        inner=None if arguments.inner is None else loading.continuing(arguments.inner),
        draft=arguments.draft,
        length=arguments.draft_length,
        nodes=arguments.nodes,
        load=functools.partial(loading.load_draft, target=target),
        segment=_segment(arguments, tokenizer),
        scorer=scorer,
        branches=arguments.branches,
        m=arguments.m,
    )
    return decoder, {**params, **weights}


def _scorer(name: str | None, target: Checkpoint) -> tuple[search.Scorer | None, Params]:
    """What a past is worth, by the name of a rule or of a checkpoint of heads; and the weights that it needs."""
    if name is None or name in catalogue.SCORERS:
        return None if name is None else catalogue.SCORERS[name], {}
    others = f"{', '.join(catalogue.SCORERS)} or a checkpoint of a reward or a value"
    try:
        held = loading.load_draft(name, target)
    except ValueError as error:
        raise ValueError(f"there is no scorer {name!r}, only {others}: {error}") from None
    if not (isinstance(held, HeadsCheckpoint) and isinstance(held.heads, ScoreHead)):
        raise ValueError(f"checkpoint {name!r} scores no hypotheses; scorers are {others}")
    reads, width = getattr(held.config, "width", None), getattr(target.config, "width", None)
    if reads != width:
        raise ValueError(
            f"the scorer {name!r} reads states of width {reads}, the target {target.name!r} has {width}"
        )
    return search.scorers.of_hidden(held.heads.logit, held.kind), {held.kind: held.params}


def _segment(arguments: argparse.Namespace, tokenizer: Tokenizer) -> search.Segment | None:
    """Where steps end; None for the method's own."""
    ends = [options.argument_bytes(text) for text in arguments.delimiter]
    if not all(ends):
        raise ValueError("a --delimiter is empty (0 bytes); at least 1 byte is needed")
    if ends:
        return search.until([tokenizer.to_ids(end).tolist() for end in ends], arguments.step_tokens)
    return None if arguments.step_tokens is None else search.of_length(arguments.step_tokens)


def _standings(decoder: Decoder, decoded: Decoded, each: int) -> list[Standing]:
    """How all hypotheses stand, prompt after prompt."""
    pool = decoded.pool
    assert pool is not None
    weights = np.asarray(pool.log_weights, np.float64).reshape(-1, each)
    best = weights.max(axis=1, keepdims=True)
    some = np.isfinite(best)
    masses = np.where(some, np.exp(weights - np.where(some, best, 0.0)), 0.0)
    shares = masses / np.where(some, masses.sum(axis=1, keepdims=True), 1.0)
    answers = weights.argmax(axis=1)
    held = None if isinstance(pool, search.Scores) else pool
    scored = held is None or getattr(decoder, "scorer", None) is not None
    return [
        Standing(
            prompt=row // each,
            hypothesis=row % each,
            answer=bool(row % each == answers[row // each]),
            log_weight=float(weights.flat[row]),
            weight=float(shares.flat[row]),
            score=float(pool.scores[row]) if scored else None,
            steps=None if held is None else int(held.segments[row]),
            log_prob=None if held is None else float(held.log_probs[row]),
            status=status.name,
        )
        for row, status in enumerate(decoded.status)
    ]


def _print_figures(decoded: Decoded, standings: list[Standing]) -> None:
    """The figures of each answer, and of all hypotheses."""
    errors = figures()
    for one in standings:
        if one.answer:
            none = "" if one.weight else "; no hypothesis has any weight, so this is the first"
            errors.print(f"{one.line()}{none}", style="dim")
    counts = collections.Counter(one.status for one in standings)
    ended = ", ".join(f"{count} {status}" for status, count in counts.items())
    errors.print(generate.summary(decoded, ended), style="dim")
