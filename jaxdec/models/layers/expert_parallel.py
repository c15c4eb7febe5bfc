"""Experts over the devices of a mesh axis.

A decode loop is a `jax.shard_map` that is manual over rows and leaves the axis `"model"` to the compiler; the experts
are the one part of a network that the compiler cannot split well, so a mixture maps over that axis itself, in one of
two forms. Both give what one device gives, up to the order of sums in floats; no token is ever dropped.

`"replicated"`: every device has all tokens, as beside any tensor-parallel layer. Each adds up the experts that it
    holds, and one all-reduce of the residual joins them: `2 (G - 1) / G` vectors a token and device. So are all tokens
    of a forward routed together, all nodes of a draft tree among them.
`"dispatch"`: every device takes its share of the tokens, those whose best expert it holds as far as there is room,
    sends each to the devices of its other experts and takes the sums back, by all-to-alls of fixed capacity; what does
    not fit goes in further rounds, whose number is agreed on over the axis. Then an all-gather of the residual. Fewer
    bytes where G is more than about 2 K, for many tokens.

A third form, `"speculative"`, takes more than the mixture: see `expert_shuffle`.

Legend: N tokens, D width, E experts, K experts a token, G devices of the axis, S = N / G, C capacity, from one device
to another in a round.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxdec.models.layers.experts import Bank, weighted_sum
from jaxdec.parallel import MODEL
from pallas_kernels import split_over

AXIS = MODEL
"""The mesh axis that experts lie over."""
DISPATCH_FROM = 1024
"""Tokens a device, from where three collectives of fewer bytes are taken for one of more."""
LEAST = 8
"""Tokens from one device to another in a round, at least: few tokens go in one."""

Form = Literal["replicated", "dispatch", "speculative"]

_chosen = jax.make_user_context(None)


@contextlib.contextmanager
def use_experts(form: Form | None) -> Iterator[None]:
    """Mixtures whose experts lie over devices take one form; None for the best for the number of tokens.

    Where a layer cannot take the form `"speculative"` it takes `"dispatch"`.

    Raises:
      ValueError: for an unknown form.
    """
    if form is not None and form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))} or None, got {form!r}")
    with _chosen(form):
        yield


def devices_of(experts: int) -> int:
    """How many devices some experts lie over: G, or 1.

    Those that the caller's heads are split over (`pallas_kernels.heads_over`), if these divide the number of experts.
    """
    if split_over() != AXIS:
        return 1
    devices = jax.sharding.get_abstract_mesh().shape[AXIS]
    return 1 if experts % devices else devices


def form_of(tokens: int, per_token: int, devices: int) -> Form:
    """The form that is taken: that of the enclosing `use_experts`, else the one of fewer bytes.

    `"dispatch"` iff there are `DISPATCH_FROM` tokens a device and its `2 K / G + 1` vectors a token are fewer than 2.
    """
    if _chosen.value is not None:
        return _chosen.value
    many = tokens >= DISPATCH_FROM * devices
    return "dispatch" if many and devices > 2 * per_token else "replicated"


def over_devices(
    x: jax.Array,
    experts: jax.Array,
    weights: jax.Array,
    bank: Bank,
    activation: str,
    shared: tuple[Callable[[Any, jax.Array], jax.Array], Any, Any] | None = None,
) -> jax.Array:
    """`weighted_sum` with the bank over the devices of the axis that `devices_of` finds.

    Args:
      x: `[N, D]`.
      experts: int32 `[N, K]`.
      weights: float32 `[N, K]`.
      bank: E experts, which G divides.
      activation: of `ACTIVATIONS`.
      shared: `(apply, params, specs)` of a unit that every token goes to and that can be split over the axis, such
        that its outputs add up; joined by the same all-reduce.

    Returns:
      `[N, D]`, of the type of `x`.
    """
    devices = devices_of(len(bank.gate))
    apply, params, specs = shared or (None, (), ())

    def replicated(x, experts, weights, bank, params):
        own = experts - jax.lax.axis_index(AXIS) * len(bank.gate)
        own = jnp.where(own < 0, len(bank.gate), own)
        partial = weighted_sum(x, own, weights, bank, activation).astype(x.dtype)
        return jax.lax.psum(partial if apply is None else partial + apply(params, x), AXIS)

    def dispatched(x, experts, weights, bank, params):
        # Every token begins on the device of its best expert, as far as there is room.
        order = by_device(experts[:, 0] // len(bank.gate), devices)
        mine = order.reshape(devices, -1)[jax.lax.axis_index(AXIS)]
        own = lambda a: jnp.take(a, mine, axis=0, mode="clip")
        mixed = dispatch(own(x), own(experts), own(weights), bank, activation)
        if apply is not None:
            partial = jnp.take(apply(params, x), order, axis=0, mode="clip")
            mixed = mixed + jax.lax.psum_scatter(partial, AXIS, tiled=True)
        every = jax.lax.all_gather(mixed, AXIS, tiled=True)
        return jnp.zeros_like(x).at[order].set(every, mode="drop")

    form = form_of(len(x), experts.shape[1], devices)
    # Unchecked as the loop around it is; the other axes are as the caller has them.
    mapped = jax.shard_map(
        replicated if form == "replicated" else dispatched,
        in_specs=(P(), P(), P(), P(AXIS), specs),
        out_specs=P(),
        axis_names={AXIS},
        check_vma=False,
    )
    return mapped(x, experts, weights, bank, params)


def by_device(homes: jax.Array, devices: int) -> jax.Array:
    """An order of tokens in which every device has an equal run of them, most of them at home.

    Args:
      homes: int32 `[N]`, the device that each token should be on, known or predicted.
      devices: G.

    Returns:
      int32 `[G S]`, S the least with `G S >= N`: the tokens of device 0, then those of device 1, ...; a number of N or
      more is nobody. Tokens whose home is full go where there is room.
    """
    tokens = len(homes)
    share = -(-tokens // devices)
    mine = homes[:, None] == jnp.arange(devices)
    rank = jnp.cumsum(mine, axis=0, dtype=jnp.int32) - 1
    rank = jnp.take_along_axis(rank, homes[:, None], axis=1)[:, 0]
    seated = rank < share
    order = jnp.full((devices * share,), tokens, jnp.int32)
    number = jnp.arange(tokens, dtype=jnp.int32)
    place = jnp.where(seated, homes * share + rank, devices * share)
    order = order.at[place].set(number, mode="drop")
    free = jnp.cumsum(order == tokens, dtype=jnp.int32) - 1
    # The i-th token without a seat takes the i-th free one.
    standing = jnp.cumsum(~seated, dtype=jnp.int32) - 1
    late = jnp.full((devices * share,), tokens, jnp.int32)
    late = late.at[jnp.where(seated, devices * share, standing)].set(number, mode="drop")
    return jnp.where(order == tokens, late[free], order)


def capacity_of(tokens: int, per_token: int, devices: int) -> int:
    """Tokens from one device to another in a round: a quarter of what an even spread of S tokens over experts needs.

    A round costs its capacity whether it is full or not, and the fullest pair of devices decides how many there are:
    small rounds pad less. (An exchange of unequal parts would pad nothing; no CPU has one to test it on.)
    """
    return min(tokens, max(LEAST, -(-tokens * per_token // (4 * devices))))


def dispatch(
    x: jax.Array,
    experts: jax.Array,
    weights: jax.Array,
    bank: Bank,
    activation: str,
    capacity: int | None = None,
) -> jax.Array:
    """`weighted_sum` on one device of the axis, of the tokens that begin there; for use under a map over the axis.

    A token with several experts on a device goes there once.

    Args:
      x: `[S, D]`, this device's tokens.
      experts: int32 `[S, K]`, places among the experts of all devices.
      weights: float32 `[S, K]`.
      bank: this device's experts, E / G.
      activation: of `ACTIVATIONS`.
      capacity: C; None for that of `capacity_of`. It decides how many rounds there are, and nothing else.

    Returns:
      `[S, D]`, of the type of `x`.
    """
    (tokens, per_token), held = experts.shape, len(bank.gate)
    devices, me = jax.lax.axis_size(AXIS), jax.lax.axis_index(AXIS)
    if capacity is None:
        capacity = capacity_of(tokens, per_token, devices)
    to = experts // held
    sent = (to[:, :, None] == jnp.arange(devices)).any(1) & (jnp.arange(devices) != me)
    rank = jnp.cumsum(sent, axis=0, dtype=jnp.int32) - 1
    rounds = jax.lax.pmax(-(-sent.sum(0, dtype=jnp.int32).max() // capacity), AXIS)
    exchange = lambda a: jax.lax.all_to_all(a, AXIS, 0, 0, tiled=True)
    # Experts and weights travel as one array of integers.
    as_weights = lambda a: jax.lax.bitcast_convert_type(a, jnp.float32)
    choices = jnp.concatenate(
        [experts.astype(jnp.int32), jax.lax.bitcast_convert_type(weights, jnp.int32)], axis=1
    )

    def here(x, experts, weights):
        own = experts - me * held
        return weighted_sum(x, jnp.where(own < 0, held, own), weights, bank, activation)

    def one_round(state):
        done, total = state
        slot = rank - done * capacity
        going = sent & (slot >= 0) & (slot < capacity)
        seat = jnp.where(going, jnp.arange(devices) * capacity + slot, devices * capacity)
        number = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32)[:, None], seat.shape)
        who = jnp.full((devices * capacity,), tokens, jnp.int32).at[seat].set(number, mode="drop")
        x_there = exchange(jnp.take(x, who, axis=0, mode="fill", fill_value=0))
        told = exchange(jnp.take(choices, who, axis=0, mode="fill", fill_value=held * devices))
        partial = here(x_there, told[:, :per_token], as_weights(told[:, per_token:]))
        back = exchange(partial.astype(x.dtype))
        taken = jnp.take(back, seat, axis=0, mode="fill", fill_value=0)
        return done + 1, total + taken.astype(jnp.float32).sum(1)

    start = jnp.int32(0), here(x, experts, weights)
    total = jax.lax.while_loop(lambda state: state[0] < rounds, one_round, start)[1]
    return total.astype(x.dtype)
