"""Requests through the engine, and the same requests alone."""

import dataclasses

import jax
import numpy as np

import jaxdec
from jaxdec.generation.requests import Call, Completed, Engine
from jaxdec.sampling import row_keys

MOST = dict(max_prompt=12, max_new_tokens=10)
VOCAB = 7


def mixed(count, *, seed=0, gaps=False, stops=True, knobs=True):
    """Requests of all kinds: lengths from one token on, budgets from none on, keys, knobs, stops of their own."""
    draw = np.random.default_rng(seed)
    calls = []
    for number in range(count):
        length = int(draw.integers(1, MOST["max_prompt"] + 1))
        call = Call(
            prompt=draw.integers(0, VOCAB, length),
            rng=int(draw.integers(0, 1000)),
            max_new_tokens=int(draw.integers(0, MOST["max_new_tokens"] + 1)),
            eos=[(), (3,), (1, 4)][number % 3] if stops else (),
            stop=[(), [[2, 5], [6]], [[0, 0, 1]]][number % 3] if stops else (),
            knobs={"temperature": [0.0, 1.0, 0.7][number % 3]} if knobs else {},
            tag=number,
        )
        if gaps:
            size = length + max(call.max_new_tokens, 1)
            visible = np.zeros(size, bool)
            visible[draw.permutation(size)[:length]] = True
            call = dataclasses.replace(
                call, prompt=draw.integers(0, VOCAB, size), visible=visible, max_new_tokens=None
            )
        calls.append(call)
    return calls


def engine(decoder, params, **settings):
    """Three slots, a short queue, chunks of four tokens."""
    given = {"slots": 3, "places": 8, "chunk": 4, "temperature": 1.0, **MOST, **settings}
    return Engine(decoder, params, **given)


def alone(decoder, params, call, sample=0):
    """A request as `generate` or `infill` decodes it: a dict like the one of `found`."""
    key = row_keys(call.rng, call.samples, call.samples)[sample][None]
    more = dict(rng=key, eos=() if call.eos is None else call.eos, stop=call.stop, **call.knobs)
    if call.visible is not None:
        result = jaxdec.infill(
            decoder, params, call.prompt[None], np.asarray(call.visible)[None], **more
        )
        known = np.asarray(result.known[0])
        return dict(
            sequence=np.where(known, np.asarray(result.tokens[0]), 0)[: len(call.prompt)],
            status=result.status[0],
            stats=jax.tree.map(lambda x: int(x[0]), result.stats),
        )
    # Padded alike, so that a few programs serve all requests.
    prompt = np.zeros((1, MOST["max_prompt"]), np.int32)
    prompt[0, : len(call.prompt)] = call.prompt
    budget = MOST["max_new_tokens"]
    result = jaxdec.generate(
        decoder,
        params,
        prompt,
        lengths=[len(call.prompt)],
        max_new_tokens=call.max_new_tokens if call.max_new_tokens is not None else budget,
        most_new_tokens=budget,
        **more,
    )
    length = int(result.lengths[0])
    cut = lambda x: np.asarray(x)[0, :length]
    return dict(
        tokens=cut(result.tokens),
        status=result.status[0],
        stats=jax.tree.map(lambda x: int(x[0]), result.stats),
        log_probs=cut(result.log_probs),
        raw_log_probs=cut(result.raw_log_probs),
        drafted=cut(result.drafted),
        steps=cut(result.steps),
    )


def found(done: Completed):
    """What came back of a request, as `alone` gives it."""
    if done.places is not None:
        known = np.zeros(len(done.call.prompt), bool)
        known[done.places[: len(done.tokens)]] = True
        return dict(
            sequence=np.where(known, done.sequence, 0), status=done.status, stats=done.stats
        )
    names = ("tokens", "status", "stats", "log_probs", "raw_log_probs", "drafted", "steps")
    return {name: getattr(done, name) for name in names}


def same(done: Completed, expected):
    """Asserts that a request came back as it is alone: bit for bit, but for the last digit of log-probabilities."""
    for name, value in found(done).items():
        wanted = expected[name]
        if name == "stats":
            value, wanted = dataclasses.astuple(value), dataclasses.astuple(wanted)
        tolerance = 1e-5 if "log_probs" in name else 0
        np.testing.assert_allclose(
            np.asarray(value),
            np.asarray(wanted),
            rtol=0,
            atol=tolerance,
            err_msg=f"{name} of {done.call}",
        )
