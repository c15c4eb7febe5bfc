"""Verification of draft trees on a GPU.

A walk has no parallelism but that of the vocabulary, too little for a GPU: the tokens after all scored tokens are drawn
at once, and the walk follows them.

Legend: B rows, T scored tokens, D depth, V vocabulary.
"""

import jax
import jax.numpy as jnp

from pallas_kernels.noise import key_words
from pallas_kernels.unmask import unmask
from pallas_kernels.verify.reference import Walked, at, depths, follow


def walk(logits, tokens, parents, mask, keys, temperature, banned, noise, *, depth: int) -> Walked:
    """See `pallas_kernels.verify.walk`."""
    del noise  # made in the kernel
    batch, scored, size = logits.shape
    words = at(key_words(keys), depths(parents, depth)).reshape(-1, 2)
    heat = jnp.repeat(temperature, scored)
    drawn = unmask(logits.reshape(-1, size), words, heat, banned, implementation="gpu")
    drawn = jax.tree.map(lambda x: x.reshape(batch, scored), drawn)
    found = drawn.tokens, drawn.warped.log_prob, drawn.own.log_prob
    return follow(*found, tokens, parents, mask, depth)
