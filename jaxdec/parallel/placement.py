"""Where a decode runs: a mesh of devices, and what of it lies where.

A mesh has up to three axes. Rows are split over `"data"`, heads, inner widths, vocabularies and experts over `"model"`,
and the slots of caches over `"sequence"`. One argument says so to whatever decodes:

    place = jaxdec.parallel.placement(data=2, model=4)
    jaxdec.generate(decoder, params, prompts, rng=0, placement=place)

The whole loop stands inside one `jax.shard_map`, manual over rows and slots: each group of devices runs a loop of its
own over its own rows until those are done, and the tokens are those of one device, whatever the mesh. What is split
over `"model"` is left to the compiler, apart from kernels, which run on each device's own heads.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdec.cache import Cache, SequenceCache
from jaxdec.model import Model, Params
from jaxdec.parallel.hosts import across
from jaxdec.parallel.roles import roles_over
from jaxdec.parallel.rules import AXES, CACHES, DATA, MODEL, NETWORKS, ROLE, SEQUENCE, Rule
from pallas_kernels import heads_over
from pallas_kernels.span_attention import Form, check_form

TARGET = "target"
"""The part whose arrays have to divide; what drafts for it may be too small to."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh, and rules that say over which of its axes arrays are split; compares by value.

    Attributes:
      mesh: with axes among `"data"`, `"model"`, `"sequence"` and `"role"`; one that is missing has size 1.
      rules: for parameters, the first that fits a path holds; an array that none fits lies whole on each device.
      cache_rules: rules for the arrays of caches, by their paths within one, row axis included.
      attention: how it goes over the devices of `"sequence"` (`pallas_kernels.span_attention.Split`): in the reading of
        prompts, and in steps if rows are not split; steps of rows that are split are by `gather`.
      memory: bytes that a device holds, to refuse what does not fit before anything is traced; what the devices
        report themselves if not given (CPUs report nothing).
    """

    mesh: Mesh
    rules: tuple[Rule, ...] = NETWORKS
    cache_rules: tuple[Rule, ...] = CACHES
    attention: Form = "gather"
    memory: int | None = None

    def __post_init__(self):
        check_form(self.attention)
        if not isinstance(self.mesh, Mesh):
            raise ValueError(f"mesh must be a jax.sharding.Mesh, got {self.mesh!r}")
        for axis in self.mesh.axis_names:
            if axis not in AXES:
                raise ValueError(f"a placement's mesh has axes among {AXES}, got {axis!r}")
        if self.size(ROLE) > 2:
            raise ValueError(f"there are 2 roles, got {self.size(ROLE)} along the axis {ROLE!r}")
        if DATA not in self.mesh.axis_names:
            raise ValueError(
                f"a placement's mesh needs the axis {DATA!r}, of size 1 at least, got {self.mesh.axis_names}"
            )

    def size(self, axis: str) -> int:
        """Devices along an axis; 1 for one that the mesh has not."""
        return self.mesh.shape.get(axis, 1)

    @property
    def manual(self) -> frozenset[str]:
        """The axes that the loop's map is manual over: all but a `"model"` of several devices."""
        return frozenset(self.mesh.axis_names) - ({MODEL} if self.size(MODEL) > 1 else set())

    @property
    def heads(self) -> str | None:
        """The axis that heads are split over, None if they are whole."""
        return MODEL if self.size(MODEL) > 1 else None

    def shardings(self, params: Params) -> Any:
        """A `NamedSharding` for each parameter, by the rules.

        Args:
          params: by part name, arrays or their shapes.

        Raises:
          ValueError: if a dimension does not divide over its axis, with the path and both numbers.
        """
        return jax.tree.map(
            lambda spec: NamedSharding(self.mesh, spec),
            self.specs(params),
            is_leaf=lambda node: isinstance(node, P),
        )

    def specs(self, params: Params) -> Any:
        """As `shardings`, partition specs alone."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: self._spec(self.rules, path, leaf), params
        )

    def place(self, params: Params) -> Params:
        """Puts parameters where the rules say; what lies there already is not copied. Do it once for several calls.

        Raises:
          ValueError: as `shardings`.
        """
        return put(params, self.shardings(params))

    def cache_specs(self, cache: Cache) -> Any:
        """Partition specs of the arrays of a cache, over all axes; heads that do not divide are all on each device.

        Args:
          cache: arrays or their shapes, as they are outside of the loop's map.
        """

        def spec(path, leaf):
            # Slots are split by the cache itself, which has seen to it that they divide.
            found = self._spec(self.cache_rules, path, leaf, (DATA, MODEL))
            return found if len(found) else P(DATA)

        return jax.tree_util.tree_map_with_path(spec, cache)

    def check_heads(self, model: Model) -> None:
        """Raises `ValueError` if the key-value heads of a target do not divide over the devices of `"model"`."""
        cache = jax.eval_shape(lambda: model.init_cache(1, 1))
        jax.tree_util.tree_map_with_path(
            lambda path, leaf: self._spec(self.cache_rules, path, leaf, (MODEL,)), {TARGET: cache}
        )

    def bytes_a_device(self, tree: Any, specs: Any) -> int:
        """What a device holds of some arrays, or of their shapes, that lie as partition specs say."""
        is_spec = lambda node: isinstance(node, P)
        held = zip(jax.tree.leaves(tree), jax.tree.leaves(specs, is_leaf=is_spec), strict=True)
        split = lambda spec: math.prod(self.size(axis) for axis in spec if axis)
        return sum(leaf.size * leaf.dtype.itemsize // split(spec) for leaf, spec in held)

    def part(self, spec: P, axes: Collection[str]) -> P:
        """What a partition spec says of some axes alone."""
        return P(*(axis if axis in axes else None for axis in spec))

    def map(self, body: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        """`body` on each device's own rows and slots: `jax.shard_map` over all axes but `"model"`.

        Args:
          body: a function of arrays.
          in_specs: of its arguments, over any axes; what they say of `"model"` is left to the arguments themselves.
          out_specs: of its results, likewise.
        """
        own = lambda tree: jax.tree.map(
            lambda spec: self.part(spec, self.manual),
            tree,
            is_leaf=lambda node: isinstance(node, P),
        )

        def split(*arguments):
            two = ROLE if self.size(ROLE) > 1 else None
            with heads_over(self.heads), roles_over(two):
                return body(*arguments)

        # Unchecked: decoders start their loops from plain zeros, which the check takes for replicated values.
        return jax.shard_map(
            split,
            mesh=self.mesh,
            in_specs=own(in_specs),
            out_specs=own(out_specs),
            axis_names=set(self.manual),
            check_vma=False,
        )

    def split_caches(self, given: Callable[[Any], Cache] | None) -> Callable[[Any], Cache] | None:
        """The caches of a request on this mesh: `given`, and then split over `"sequence"` where there is such an axis.

        Args:
          given: from the empty cache of a model to the one that is asked for; None for the model's own.
        """
        if self.size(SEQUENCE) == 1:
            return given
        # Groups of rows take different numbers of steps, and whoever passes keys on may not wait for another group.
        form = self.attention if self.size(DATA) == 1 else "gather"
        return SplitCaches(given, self.size(SEQUENCE), form, self.attention)

    def lay_out(self, tree: Any) -> Any:
        """Tells the compiler, inside the map, over which devices of `"model"` the caches of a state lie."""
        if self.heads is None:
            return tree

        def lay(path, leaf):
            spec = self.part(self._spec(self.cache_rules, path, leaf, (MODEL,)), (MODEL,))
            return jax.lax.with_sharding_constraint(leaf, spec)

        change = lambda cache: jax.tree_util.tree_map_with_path(lay, cache)
        return over_caches(change, lambda leaf: leaf, tree)

    def _spec(
        self, rules: Sequence[Rule], path: Any, leaf: Any, checked: Collection[str] = AXES
    ) -> P:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
        if rule is None:
            return P()
        axes = [axis if axis in self.mesh.axis_names else None for axis in rule.axes]
        if len(axes) > len(leaf.shape):
            raise ValueError(
                f"the rule {rule.pattern!r} names {len(axes)} dimensions, but {name} has shape {list(leaf.shape)}"
            )
        for place, axis in enumerate(axes):
            size, devices = leaf.shape[place], self.size(axis) if axis and axis in checked else 1
            if size % devices == 0:
                continue
            if not rule.strict or not name.startswith(TARGET):
                return P()
            raise ValueError(
                f"{rule.what or name}: {size} do not divide over {devices} devices of the axis {axis!r}"
                + (f" ({name}, shape {list(leaf.shape)})" if rule.what else "")
            )
        return P(*axes)


@dataclasses.dataclass(frozen=True)
class SplitCaches:
    """What a request asks for where slots are split: its caches over the devices of `"sequence"`; compares by value.

    Attributes:
      given: from the empty cache of a model to the one that is asked for; None for the model's own.
      devices: along the axis.
      form: of attention in steps.
      prompts: of attention in the reading of prompts.
    """

    given: Callable[[Any], Cache] | None
    devices: int
    form: Form
    prompts: Form

    def __call__(self, cache: Any) -> Any:
        """The empty cache of a model, split."""
        cache = cache if self.given is None else self.given(cache)
        return SequenceCache.split(cache, SEQUENCE, self.devices, self.form)


def placement(
    *,
    data: int = 1,
    model: int = 1,
    sequence: int = 1,
    role: int = 1,
    devices: Sequence[jax.Device] | None = None,
    rules: Sequence[Rule | tuple[str, tuple[str | None, ...]]] = (),
    attention: Form = "gather",
    memory: int | None = None,
) -> Placement:
    """A placement over devices, by the sizes of its axes.

    Args:
      data: devices, or groups of them, that rows are split over; -1 for as many as the others leave.
      model: devices that heads, inner widths, vocabularies and experts are split over.
      sequence: devices that the slots of caches are split over.
      role: 2 for two groups of devices, of which one verifies while the other drafts, in decoders that can
        (`jaxdec.parallel.together`).
      devices: in the order of the mesh, `data` outermost and `model` innermost; all that there are if not given.
      rules: for parameters, before the library's own: `Rule`s, or pairs of a pattern and axes a dimension, such as
        `(r"^draft/", ())`, which leaves a draft model whole on every device.
      attention: how it goes over the devices of `sequence`: `gather`, of few queries over many keys; `ring` or
        `bidirectional`, of as many queries as keys. See `Placement`.
      memory: see `Placement`.

    Raises:
      ValueError: for sizes that are not positive, or that are not those of the devices, or another form of attention.
    """
    given = list(jax.devices() if devices is None else devices)
    sizes = {DATA: data, ROLE: role, SEQUENCE: sequence, MODEL: model}
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or (
            size < 1 and not (name == DATA and size == -1)
        ):
            raise ValueError(f"{name} must be an integer of at least 1, got {size!r}")
    others = role * sequence * model
    if data == -1:
        if len(given) % others or not given:
            raise ValueError(
                f"{len(given)} devices do not divide into groups of {others}: {product(sizes, DATA)}"
            )
        sizes[DATA] = len(given) // others
    wanted = math.prod(sizes.values())
    if devices is None and wanted < len(given):
        given = given[:wanted]
    if wanted != len(given):
        raise ValueError(f"{product(sizes)} is {wanted} devices, got {len(given)}")
    own = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
    mesh = Mesh(np.asarray(given).reshape(tuple(sizes.values())), tuple(sizes))
    return Placement(mesh, (*own, *NETWORKS), attention=attention, memory=memory)


def product(sizes: dict[str, int], *without: str) -> str:
    """Sizes of axes for messages, `data 2 x model 4`; those of one device are left out, but for `"data"`."""
    told = [f"{a} {n}" for a, n in sizes.items() if a not in without and (n != 1 or a == DATA)]
    return " x ".join(told)


def put(tree: Any, shardings: Any) -> Any:
    """Arrays where shardings say: placed now, or told to the compiler of a program that is being traced."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))
    if traced:
        return jax.lax.with_sharding_constraint(tree, shardings)
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings)):
        return jax.device_put(tree, shardings)
    spread = lambda sharding, part: jax.tree.map(lambda leaf: across(leaf, sharding), part)
    return jax.tree.map(spread, shardings, tree)


def over_caches(
    change: Callable[[Any], Any],
    other: Callable[[Any], Any],
    tree: Any,
    is_leaf: Callable[[Any], bool] = lambda node: False,
) -> Any:
    """Maps each cache of a state by `change`, and every other array, or node that `is_leaf`, by `other`."""
    is_cache = lambda node: isinstance(node, Cache)
    return jax.tree.map(
        lambda node: change(node) if is_cache(node) else other(node),
        tree,
        is_leaf=lambda node: is_cache(node) or is_leaf(node),
    )
