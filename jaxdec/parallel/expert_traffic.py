"""What mixtures over devices move, counted from routing traces in vectors of the model's width.

A vector that goes from one device to another counts once; what stays on its device is free. A token that goes to
several experts of one device goes there once, and comes back as one sum.

Legend: L layers with a mixture, E experts, G devices, K experts a token, S tokens.
"""

import numpy as np


def all_reduce(layers: int, devices: int) -> int:
    """Vectors a token where every device adds up its own experts for all tokens: `2 (G - 1)` a layer, by a ring."""
    return 2 * (devices - 1) * layers


def two_all_to_alls(
    experts: np.ndarray, devices: np.ndarray, count: int, homes: np.ndarray
) -> np.ndarray:
    """Vectors of each token that goes from its home to its experts and back, in every layer.

    Args:
      experts: int `[L, S, K]`.
      devices: int `[L, E]`, where experts lie.
      count: G.
      homes: int `[S]` or `[L, S]`: where a token is before a layer and after it.

    Returns:
      int `[S]`.
    """
    away = visited(experts, devices, count)
    homes = np.broadcast_to(homes, away.shape[:2])
    np.put_along_axis(away, homes[..., None], False, axis=-1)
    return 2 * away.sum((0, 2))


def one_all_to_all(
    experts: np.ndarray, devices: np.ndarray, count: int, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of each token that stays where its experts were, all devices holding the whole context.

    A token stays if its device has one of its experts, and goes to that of its best expert else. Its other experts get
    it from where it was, and send their sums to where it goes.

    Args:
      experts: int `[L, S, K]`, the best one first.
      devices: int `[L, E]`, where experts lie.
      count: G.
      start: int `[S]`, where it is before the first layer.

    Returns:
      `(vectors int [S], stays int [S])`: how many of its L steps into a layer leave it where it was. The keys and
      values of new tokens, which all devices need then, are `context`.
    """
    to = visited(experts, devices, count)
    vectors = np.zeros(to.shape[1], int)
    stays, at = vectors.copy(), np.asarray(start)
    for layer, needed in enumerate(to):
        stay = np.take_along_axis(needed, at[:, None], axis=1)[:, 0]
        vectors += needed.sum(1) - stay + needed.sum(1) - 1
        stays += stay
        at = np.where(stay, at, devices[layer][experts[layer, :, 0]])
    return vectors, stays


def context(layers: int, devices: int, numbers: int) -> int:
    """Numbers a token by which all devices get its keys and values, `numbers` in each layer: `(G - 1) L numbers`."""
    return (devices - 1) * layers * numbers


def visited(experts: np.ndarray, devices: np.ndarray, count: int) -> np.ndarray:
    """Whether each device holds an expert of each token: bool `[L, S, G]`, from `[L, S, K]` and `[L, E]`."""
    layers = np.arange(len(experts))[:, None, None]
    return (devices[layers, experts][..., None] == np.arange(count)).any(2)
