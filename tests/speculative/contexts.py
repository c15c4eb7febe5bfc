"""What the tests of drafters share: requests, contexts, and what a step found out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxdec
from jaxdec.decoding import Rows
from jaxdec.speculative import Context, StepResult
from jaxdec.testing.oracles import hash_oracle


def randoms(seed):
    return np.random.default_rng(seed)


def request(texts, vocab_size, **options):
    """A request whose prompts are some texts, lists of tokens."""
    model, params = hash_oracle(vocab_size)
    lengths = np.array([len(text) for text in texts])
    prompt = np.zeros((len(texts), lengths.max()), int)
    for row, text in zip(prompt, texts, strict=True):
        row[: len(text)] = text
    return jaxdec.prepare(
        jaxdec.autoregressive(model), {"target": params}, prompt, lengths=lengths, **options
    )


def context(texts, vocab_size, depth, *, noise=None, prompts=None, **options):
    """What a drafter sees of rows that hold some texts; `prompts` says how many tokens of each are prompt."""
    asked = request(texts, vocab_size, **options)
    rows = Rows.start(asked, vocab_size)
    if prompts is not None:
        rows = rows.__class__(**{**vars(rows), "prompt_length": jnp.asarray(prompts, jnp.int32)})
    shape = (len(texts), depth + 1, vocab_size)
    noise = jnp.zeros(shape) if noise is None else noise
    return Context(rows, asked.settings, jax.random.split(jax.random.key(0), len(texts)), noise)


@functools.partial(jax.jit, static_argnums=0)
def propose(drafter, params, state, seen):
    """What a drafter proposes, by one program where each operation would be one."""
    return drafter.propose(params, state, seen)


@functools.partial(jax.jit, static_argnums=0)
def start(drafter, params, asked):
    """The state of a drafter that looks at the request alone."""
    return drafter.init(params, asked, None)


def step_result(proposal, **given):
    """What a step found out, as far as a drafter's `update` reads it; the rest is None."""
    names = [field.name for field in dataclasses.fields(StepResult)]
    return StepResult(**{**dict.fromkeys(names), "proposal": proposal, **given})


def paths(tokens, parents, mask):
    """What is read along the way to each node."""
    read = {-1: ()}
    for node, (token, parent, real) in enumerate(zip(tokens, parents, mask, strict=True)):
        if real:
            read[node] = (*read[int(parent)], int(token))  # fails if the parent does not come first
    return [path for node, path in read.items() if node >= 0]
