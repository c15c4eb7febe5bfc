"""Which experts lie on which device, so that tokens seldom have to move.

A token that goes to expert i of one layer often goes to the same few experts of the next. Counted over a text,

    N_l[i, j] = how often a token went to i at layer l and to j at layer l + 1,

experts that follow one another are put on one device, E / G of each layer on each of G devices, so as to

    maximise  sum_l sum_ij N_l[i, j] [device_l(i) = device_{l+1}(j)].

The result is a permutation of each layer's experts: the network computes what it did.

Source: ExFlow (2401.08383), the integer programme and its two levels of devices.

Legend: L layers with a mixture, E experts, G devices, K experts a token.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Method = Literal["exact", "exchange"]
EXACT_UNTIL = 1000
"""Variables of pairs, `(L - 1) E^2 G`, up to which the integer programme is solved."""


class ExpertPlaces(NamedTuple):
    """Where experts lie.

    Attributes:
      devices: int32 `[L, E]`, the device of each expert.
      local: share of the counted transitions that stay on their device.
      bound: no placement has a larger share; 1 where none was proved.
    """

    devices: np.ndarray
    local: float
    bound: float = 1.0


def expert_affinity(experts: np.ndarray, count: int) -> np.ndarray:
    """Counts `N` float64 `[L - 1, E, E]` of the transitions between successive layers, all K x K of a token.

    Args:
      experts: int `[L, ..., K]`, where tokens went; see `jaxdec.models.layers.recorded`.
      count: E.

    Raises:
      ValueError: for fewer than two layers, or an expert outside of `[0, E)`.
    """
    experts = np.asarray(experts)
    if experts.ndim < 2 or len(experts) < 2:
        raise ValueError(f"experts must be [L, ..., K] with L of at least 2, got {experts.shape}")
    if experts.size and not 0 <= experts.min() <= experts.max() < count:
        raise ValueError(f"experts must be 0 to {count - 1}, got {experts.min()}, {experts.max()}")
    routed = experts.reshape(len(experts), -1, experts.shape[-1])
    counts = np.zeros((len(routed) - 1, count, count))
    for layer, (here, after) in enumerate(itertools.pairwise(routed)):
        np.add.at(counts[layer], (here[:, :, None], after[:, None, :]), 1)
    return counts


def local_share(counts: np.ndarray, devices: np.ndarray) -> float:
    """The share of the transitions `[L - 1, E, E]` that stay on their device, given `[L, E]` devices."""
    same = devices[:-1, :, None] == devices[1:, None, :]
    return float((counts * same).sum() / max(counts.sum(), 1))


def in_order(layers: int, experts: int, devices: int) -> np.ndarray:
    """Devices int32 `[L, E]` of experts as they are numbered: the first E / G on device 0, and so on."""
    return np.tile(np.arange(experts, dtype=np.int32) // (experts // devices), (layers, 1))


def place_experts(
    counts: np.ndarray,
    devices: int | tuple[int, int],
    method: Method | None = None,
    *,
    seconds: float = 60.0,
) -> ExpertPlaces:
    """Puts experts on devices so that as many transitions as possible stay local.

    Args:
      counts: `[L - 1, E, E]`, from `expert_affinity`.
      devices: G, which divides E; or (nodes, G a node): experts are put on nodes first, then on the devices of each,
        numbered node by node.
      method: `"exact"`: the integer programme, by HiGHS, begun above what `"exchange"` reaches. `"exchange"`: layer by
        layer, the best of all assignments given the layers beside it, from several starts until nothing improves. None:
        exact up to `EXACT_UNTIL` variables of pairs.
      seconds: that the integer programme may take; the best found by then holds.

    Returns:
      Places; of two levels no bound is known.

    Raises:
      ValueError: if the devices do not divide the experts, or for another shape of `counts`.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or not len(counts):
        raise ValueError(f"counts must be [L - 1, E, E], got {counts.shape}")
    if method is not None and method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)} or None, got {method!r}")
    levels = devices if isinstance(devices, tuple) else (devices,)
    total, experts = int(np.prod(levels)), counts.shape[1]
    if min(levels) < 1 or experts % total:
        raise ValueError(f"{total} devices do not divide {experts} experts")
    if len(levels) == 1:
        return _one_level(counts, total, method, seconds)
    nodes, each = levels
    outer = _one_level(counts, nodes, method, seconds).devices
    held = np.stack([np.argsort(row, kind="stable").reshape(nodes, -1) for row in outer])
    placed = np.zeros(outer.shape, np.int32)
    for node in range(nodes):
        own = held[:, node]
        inside = np.stack(
            [c[np.ix_(*pair)] for c, *pair in zip(counts, own, own[1:], strict=False)]
        )
        inner = _one_level(inside, each, method, seconds).devices
        np.put_along_axis(placed, own, node * each + inner, axis=1)
    return ExpertPlaces(placed, local_share(counts, placed))


def expert_order(devices: np.ndarray) -> np.ndarray:
    """The permutation int32 `[L, E]` that lays experts out device by device: which expert stands at each place."""
    return np.argsort(devices, axis=1, kind="stable").astype(np.int32)


def permute_experts(params: Any, order: np.ndarray, groups: int = 1) -> Any:
    """The same network with each layer's experts in another order.

    Exact: outputs are those of before up to the order of float sums; of experts with equal scores, which is the choice
    of nobody but a gate of zeros, another may be chosen.

    Args:
      params: a nested dict, of one model or of parts by name; its L mixtures are those of `Experts`.
      order: `[L, E]`, which expert is to stand at each place; from `expert_order`.
      groups: of the gate (`Mixture.groups`); they must stay together.

    Raises:
      ValueError: if there are not L mixtures of E experts, a row is no permutation, or it breaks up a group.
    """
    order = np.asarray(order)
    count = order.shape[1]
    if not (np.sort(order, axis=1) == np.arange(count)).all():
        raise ValueError(f"every row of order must be a permutation of 0 to {count - 1}")
    parts = order.reshape(len(order), groups, -1) // (count // groups)
    if (parts != parts[:, :, :1]).any():
        raise ValueError(f"order breaks up a group of {count // groups} experts")
    left = list(order)

    def walk(tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        if getattr(tree.get("gate_proj"), "ndim", 0) != 3:
            # Layers are numbered; nothing else in a network has an order.
            keys = sorted(tree, key=lambda k: (int(k), "") if str(k).isdigit() else (-1, str(k)))
            done = {key: walk(tree[key]) for key in keys}
            return {key: done[key] for key in tree}
        if not left or len(tree["gate_proj"]) != count:
            raise ValueError(
                f"order is for {len(order)} mixtures of {count} experts; the network has another "
                f"one, of {len(tree['gate_proj'])}"
            )
        row, changed = left.pop(0), dict(tree)
        for name in ("gate_proj", "up_proj", "down_proj", "gate_bias"):
            if name in tree:
                changed[name] = tree[name][row]
        return {**changed, "gate": {**tree["gate"], "kernel": tree["gate"]["kernel"][:, row]}}

    permuted = walk(params)
    if left:
        raise ValueError(
            f"order is for {len(order)} mixtures, the network has {len(order) - len(left)}"
        )
    return permuted


def _one_level(counts: np.ndarray, devices: int, method: Method | None, seconds: float):
    layers, experts = len(counts) + 1, counts.shape[1]
    if devices == 1:
        return ExpertPlaces(np.zeros((layers, experts), np.int32), 1.0)
    found = _exchange(counts, devices)
    small = len(counts) * experts**2 * devices <= EXACT_UNTIL
    if method == "exchange" or (method is None and not small):
        return ExpertPlaces(found, local_share(counts, found))
    return _exact(counts, devices, found, seconds)


def _exchange(counts: np.ndarray, devices: int, starts: int = 64) -> np.ndarray:
    """Each layer anew given its neighbours, which is a transport problem, until no layer can be improved."""
    from scipy.optimize import linear_sum_assignment

    layers, experts = len(counts) + 1, counts.shape[1]
    seats = np.arange(experts) // (experts // devices)
    generator = np.random.default_rng(0)
    best, most = in_order(layers, experts, devices), -1.0
    for start in range(starts):
        places = in_order(layers, experts, devices)
        if start:
            places = generator.permuted(places, axis=1)
        before = -1.0
        while (now := local_share(counts, places)) > before:
            before = now
            for layer in range(layers):
                gain = np.zeros((experts, devices))
                if layer:
                    gain += counts[layer - 1].T @ np.eye(devices)[places[layer - 1]]
                if layer + 1 < layers:
                    gain += counts[layer] @ np.eye(devices)[places[layer + 1]]
                expert, seat = linear_sum_assignment(gain[:, seats], maximize=True)
                places[layer, expert] = seats[seat]
        if now > most:
            best, most = places.copy(), now
    return best


def _exact(counts: np.ndarray, devices: int, found: np.ndarray, seconds: float) -> ExpertPlaces:
    """The integer programme: x[l, i, g] = expert i of layer l lies on g; y[l, i, j, g] = both of a pair do."""
    from scipy import optimize, sparse

    (pairs, experts, _), layers = counts.shape, len(counts) + 1
    share, own = experts // devices, layers * experts * devices
    x = np.arange(own).reshape(layers, experts, devices)
    y = own + np.arange(pairs * experts**2 * devices).reshape(pairs, experts, experts, devices)
    size, rows = own + y.size, []

    def equations(columns: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
        """`low <= sum of values * variables <= high`, one equation a row of columns."""
        number = np.repeat(np.arange(len(columns)), columns.shape[1])
        entries = np.broadcast_to(values, columns.shape).ravel()
        matrix = sparse.csr_array((entries, (number, columns.ravel())), (len(columns), size))
        rows.append(optimize.LinearConstraint(matrix, low, high))

    equations(x.reshape(-1, devices), np.ones(devices), 1, 1)
    equations(x.transpose(0, 2, 1).reshape(-1, experts), np.ones(experts), share, share)
    # A device has E / G experts of the other layer: sharper than y <= x alone.
    balance = np.append(np.ones(experts), -float(share))
    after = np.concatenate([y.transpose(0, 1, 3, 2), x[:-1, :, :, None]], axis=3)
    before = np.concatenate([y.transpose(0, 2, 3, 1), x[1:, :, :, None]], axis=3)
    for tied in (after, before):
        equations(tied.reshape(-1, experts + 1), balance, 0, 0)
    for ends in (x[:-1, :, None], x[1:, None, :]):
        both = np.stack(np.broadcast_arrays(y, ends), axis=-1).reshape(-1, 2)
        equations(both, np.asarray([1.0, -1.0]), -np.inf, 0)
    upper = np.ones(size)
    # Devices are numbered by the first expert of the first layer that lies there.
    first, device = np.indices((experts, devices))
    upper[x[0][device > first]] = 0
    weights = np.broadcast_to(counts[..., None], y.shape).ravel() / max(counts.sum(), 1)
    least = local_share(counts, found)
    columns, values = y.reshape(1, -1), weights
    equations(columns, values, least - 1e-9, np.inf)
    solved = optimize.milp(
        np.concatenate([np.zeros(own), -weights]),
        integrality=np.arange(size) < own,
        bounds=optimize.Bounds(0, upper),
        constraints=rows,
        options={"time_limit": seconds},
    )
    bound = 1.0 if solved.mip_dual_bound is None else min(1.0, -float(solved.mip_dual_bound))
    if solved.x is not None:
        placed = solved.x[:own].reshape(layers, experts, devices).argmax(-1).astype(np.int32)
        if local_share(counts, placed) > least:
            found = placed
    local = local_share(counts, found)
    return ExpertPlaces(found, local, max(bound, local))
