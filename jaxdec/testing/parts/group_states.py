"""What parts look at, made up: a forward over a group, its progress, what stands on it."""

from typing import Any

import jax.numpy as jnp

from jaxdec.decoding import Scored, Settings, Stops
from jaxdec.diffusion import Progress
from jaxdec.diffusion.fuse import Standing

END = 0
"""The token of a board that ends its row."""
# A board reads the end tokens of its settings alone.
ENDING: Any = Settings(None, None, Stops.create(eos=[END]))  # type: ignore[arg-type]


def scored(logits):
    """A forward over a group, of whose states nothing is known but the logits `[B, W, V]`."""
    return Scored(jnp.asarray(logits), jnp.asarray(logits))


def group_alone(begin, opened, allowed):
    """The progress of a canvas that has nothing but a group: its first place, positions, and those left."""
    whole = lambda x: jnp.asarray(x, jnp.int32)
    return Progress(whole(begin), whole(opened), jnp.asarray(allowed).sum(-1, dtype=jnp.int32))


def standing(masked, tokens=None, hypotheses=1):
    """What stands on a group of which all that is not `masked [B, W]` holds a token."""
    there = jnp.ones_like(masked)
    tokens = jnp.zeros(there.shape, jnp.int32) if tokens is None else jnp.asarray(tokens)
    return Standing(jnp.asarray(masked), tokens, there, there.sum(1), ENDING, hypotheses)
