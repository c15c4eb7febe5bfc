"""Two roles: what two groups of devices do at the same time, inside one program.

A mesh with an axis `"role"` of two has two groups of devices that hold the same rows. `together` runs one function on
the first group and another on the second, and every device gets both results: a target verifies while its drafter
drafts on, and neither waits until the exchange. Without such an axis the two run one after the other, with the same
results, so that a decoder is written once.

Weights lie on both groups; what it saves is time.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp

First = TypeVar("First")
Second = TypeVar("Second")
_axis = jax.make_user_context(None)


@contextlib.contextmanager
def roles_over(axis: str | None) -> Iterator[None]:
    """Lets `together` split its work over a mesh axis of two, which the map around it is manual over."""
    with _axis(axis):
        yield


def together(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """The results of two functions that know nothing of one another, each computed by one role.

        (f(), g()):   role 0 computes f, role 1 computes g, and one exchange gives both to all

    The functions may communicate over other axes, such as `"model"`, each within its own group. They may not over
    `"role"` itself.

    Args:
      first: without arguments; gives a pytree of arrays.
      second: likewise.

    Returns:
      Both results, on every device. What is not finite stays so: bits are exchanged, not sums of numbers.
    """
    axis = _axis.value
    if axis is None:
        return first(), second()
    one, two = jax.eval_shape(first), jax.eval_shape(second)
    empty = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
    branches = (lambda: (first(), empty(two))), (lambda: (empty(one), second()))
    own = jax.lax.switch(jax.lax.axis_index(axis), branches)
    take = lambda tree, role: jax.tree.map(lambda x: _from(x, axis, role), tree)
    return take(own[0], 0), take(own[1], 1)


def _from(array: jax.Array, axis: str, role: int) -> jax.Array:
    """What the devices of a role hold, on all."""
    return jax.lax.all_gather(array, axis)[role]
