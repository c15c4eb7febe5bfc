"""Keys and noise: who draws what, and from which law."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdec import sampling
from jaxdec.sampling import Purpose
from jaxdec.testing.statistics import g_test

EULER = 0.5772156649015329


def check_noise(
    gumbel: Callable[[jax.Array, int], jax.Array] = sampling.gumbel,
    uniform: Callable[[jax.Array], jax.Array] = sampling.uniform,
) -> None:
    """Noise has its law and the resolution of float32, tails too; keys tell rows, purposes and places apart.

    Args:
      gumbel: `(keys [...], V) -> [..., V]`.
      uniform: `(keys [...]) -> [...]`.
    """
    keys = jax.random.split(jax.random.key(0), 4096)
    u = np.asarray(jax.jit(uniform)(keys))
    assert u.dtype == np.float32 and (u >= 0).all() and (u < 1).all()
    # Of 2^12 numbers out of 2^23, about one pair is equal.
    assert len(np.unique(u)) > 4080, f"4096 uniforms have {len(np.unique(u))} values"
    assert g_test(np.histogram(u, 16, (0, 1))[0], np.full(16, 1 / 16)) > 1e-6

    g = np.asarray(jax.jit(gumbel, static_argnums=1)(keys[:1], 2**22))[0]
    assert abs(g.mean() - EULER) < 5e-3 and abs(g.var() - np.pi**2 / 6) < 2e-2
    tail = g[g > 11]  # 70 of them are expected; uniforms of 23 bits have 140 values there
    assert len(tail) > 20 and len(np.unique(tail)) > 0.97 * len(tail), "the tail of Gumbel noise"

    law = np.array([0.5, 0.3, 0.15, 0.05])
    noise = g[: 2**21].reshape(-1, 4)
    drawn = sampling.perturbed_argmax(jnp.log(jnp.asarray(law, jnp.float32)), jnp.asarray(noise))
    assert g_test(np.bincount(np.asarray(drawn), minlength=4), law) > 1e-6
    _check_keys()


def _check_keys() -> None:
    data = lambda keys: [tuple(k) for k in np.asarray(jax.random.key_data(keys)).reshape(-1, 2)]
    rng = jax.random.key(3)
    rows = sampling.row_keys(rng, 5)
    expected = [data(jax.random.fold_in(rng, row))[0] for row in range(5)]
    assert data(rows) == expected, "row keys are fold_in(rng, row)"
    assert data(sampling.row_keys(rng, 3)) == expected[:3], "row keys depend on the batch"
    assert data(sampling.row_keys(rows, 5)) == expected, "keys that are given pass through"
    seeds = [row_key for seed in (3, 4) for row_key in data(sampling.row_keys(seed, 1))]
    assert data(sampling.row_keys([3, 4], 2)) == seeds, "a prompt's seed is that of it alone"
    first, second = (jnp.asarray(x) for x in np.indices((5, 3, 4))[1:])
    seen: list[tuple[int, ...]] = []
    for purpose in Purpose:
        seen += data(sampling.key_at(rows, purpose, first[:, :, 0]))
        seen += data(sampling.key_at(rows, purpose, first, second))
    assert len(set(seen)) == len(seen) == len(Purpose) * 5 * 15, "two decisions share a key"
    one = sampling.key_at(rows[2:3], Purpose.TOKEN, jnp.asarray([[7]]))
    assert data(one)[0] == data(sampling.key_at(rows, Purpose.TOKEN, jnp.full((5, 1), 7)))[2]
