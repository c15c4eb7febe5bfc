"""Which implementation of an operation runs.

Every operation has one signature and up to three implementations: `reference` (plain jnp, anywhere), `tpu` (Pallas,
Mosaic) and `gpu` (Pallas, Triton). The one that runs is, in this order: the call's own `implementation`, that of the
enclosing `use`, the best for the platform that the program is compiled for. The choice is part of a program's identity:
`jax.jit` compiles anew under another `use`.

On a GPU the best is the reference for now: the kernels for GPUs agree with it in Pallas's interpreter and lower for
CUDA, but have not run on a GPU yet. `use("gpu")` takes them; `python -m benchmarks run kernels` checks them there.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
from jax.sharding import PartitionSpec

Implementation = Literal["reference", "tpu", "gpu"]

_chosen = jax.make_user_context(None)
_split = jax.make_user_context(None)
_BEST: dict[str, Implementation] = {"tpu": "tpu"}
"""By platform; elsewhere it is the reference."""


@contextlib.contextmanager
def use(implementation: Implementation | None) -> Iterator[None]:
    """Runs operations that do not say otherwise by one implementation.

        with pallas_kernels.use("reference"):
            jaxdec.generate(...)

    Ahead-of-time compilation for a TPU on another machine names it: `use("tpu")`.

    Args:
      implementation: its name, or None for the best of each platform.

    Raises:
      ValueError: for an unknown name.
    """
    _check(implementation)
    with _chosen(implementation):
        yield


@contextlib.contextmanager
def heads_over(axis: str | None) -> Iterator[None]:
    """Runs operations on heads with the heads split over a mesh axis that is otherwise left to the compiler.

    Each device runs the operation on its own heads, and nothing is communicated; the compiler could not split a kernel.
    What reads whole vocabularies runs by its reference there, which the compiler splits.

    Args:
      axis: an automatic axis of the mesh of the enclosing program; None for none. Heads that do not divide over it are
        all on each device.
    """
    with _split(axis):
        yield


def split_over() -> str | None:
    """The axis of the enclosing `heads_over`; None if there is none."""
    return _split.value


def dispatch(
    operation: str,
    forms: dict[str, Callable[..., Any]],
    *arrays: Any,
    implementation: Implementation | None = None,
    unsupported: Callable[..., str | None] = lambda name, *arrays: None,
    heads: tuple[Any, Any] | None = None,
) -> Any:
    """Calls an operation by the implementation that is asked for.

    Where `heads_over` an axis holds, it runs once a device of the axis, on its share of the heads.

    Args:
      operation: its name, for messages.
      forms: the implementations by name, functions of `arrays`; `reference` always.
      *arrays: pytrees of arrays.
      implementation: its name, or None for the best.
      unsupported: why an implementation cannot serve these arrays, a function of its name and the arrays; None if it
        can. One that was asked for by name then raises; the best falls back to the reference.
      heads: which axes of the arrays and of the results are heads: two prefixes of their trees, with the axis or None;
        None for an operation that knows no heads.

    Raises:
      ValueError: for an unknown name, or one that cannot serve the call.
    """
    _check(implementation)
    axis = split_over()
    if axis is not None:
        if heads is None:
            return forms["reference"](*arrays)
        return _by_heads(operation, forms, arrays, implementation, unsupported, heads, axis)
    name = implementation or _chosen.value
    if name is not None:
        reason = f"{operation} has none" if name not in forms else unsupported(name, *arrays)
        if reason is not None:
            raise ValueError(f"implementation {name!r}: {reason}")
        return forms[name](*arrays) if name == "reference" else _narrow(forms[name])(*arrays)
    # With nothing but CPUs at hand the kernels are not even traced.
    platform = jax.default_backend()
    best = _BEST.get(platform, "reference")
    if best == "reference" or best not in forms or unsupported(best, *arrays) is not None:
        return forms["reference"](*arrays)
    # A program for another device of this machine, the CPU say, still gets the reference.
    chosen = {platform: _narrow(forms[best])}
    return jax.lax.platform_dependent(*arrays, default=forms["reference"], **chosen)


def _by_heads(
    operation: str,
    forms: dict[str, Callable[..., Any]],
    arrays: tuple[Any, ...],
    implementation: Implementation | None,
    unsupported: Callable[..., str | None],
    heads: tuple[Any, Any],
    axis: str,
) -> Any:
    """The operation on each device's own heads, under a map of its own over `axis`."""

    def own(*arrays: Any) -> Any:
        with heads_over(None):
            return dispatch(
                operation, forms, *arrays, implementation=implementation, unsupported=unsupported
            )

    devices = jax.sharding.get_abstract_mesh().shape[axis]
    sizes = jax.tree.map(
        lambda place, part: (
            [] if place is None else [x.shape[place] for x in jax.tree.leaves(part)]
        ),
        heads[0],
        arrays,
        is_leaf=lambda node: node is None,
    )
    # Heads that do not divide, such as those of a small draft model, are all on each device.
    whole = any(size % devices for size in jax.tree.leaves(sizes))

    def spec(place: int | None) -> PartitionSpec:
        if place is None or whole:
            return PartitionSpec()
        return PartitionSpec(*(None,) * place, axis)

    given, results = (jax.tree.map(spec, tree, is_leaf=lambda node: node is None) for tree in heads)
    mapped = jax.shard_map(
        own, in_specs=given, out_specs=results, axis_names={axis}, check_vma=False
    )
    return mapped(*arrays)


def _narrow(form: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel for a device, traced without 64-bit types, which devices have not, whatever the caller's program has."""

    def call(*arrays):
        with jax.enable_x64(False):
            return form(*arrays)

    return call


def _check(implementation: str | None) -> None:
    if implementation is not None and implementation not in get_args(Implementation):
        names = ", ".join(get_args(Implementation))
        raise ValueError(f"implementation must be one of {names} or None, got {implementation!r}")
