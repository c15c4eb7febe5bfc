"""What lets the compiler update a cache in place where it would copy it else."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Held = TypeVar("Held")


def after(value: jax.Array, tree: Any) -> jax.Array:
    """An int32 value as it is, which no compiler can know before the arrays of a tree are computed.

    Who reads a buffer that somebody else will overwrite has to be seen to come first, or the compiler keeps a copy; a
    dependence of data is the one order that all of them see. `optimization_barrier` is gone by then.
    """
    first = [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(tree)]
    total = sum((x.astype(jnp.float32) for x in first), jnp.float32(0))
    return value + (total > jnp.inf).astype(jnp.int32)


def once(wanted: jax.Array, change: Callable[[Held], Held], held: Held) -> Held:
    """`change(held)` if `wanted`, bool `[]`, else `held`: a loop of one round at most.

    What goes through a loop is updated in place, where a compiler may copy what goes through a branch.
    """
    body = lambda carry: (jnp.bool_(False), change(carry[1]))
    return jax.lax.while_loop(lambda carry: carry[0], body, (wanted, held))[1]
