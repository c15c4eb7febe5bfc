import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import noise

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("size", [1, 2, 77, 1000])
def test_gumbel_is_that_of_jax_bit_for_bit(size):
    keys = jax.random.split(jax.random.key(3), 5)
    words = noise.key_words(keys)
    draw = jax.jit(noise.gumbel, static_argnums=3)
    index = jnp.arange(size, dtype=jnp.uint32)
    drawn = draw(words[:, :1], words[:, 1:], index, size)
    want = jax.jit(jax.vmap(lambda key: jax.random.gumbel(key, (size,), jnp.float32, mode="high")))
    np.testing.assert_array_equal(drawn, want(keys))


def test_bits_are_those_of_jax():
    key = jax.random.key(9)
    first, second = noise.key_words(key)
    bits = noise.random_bits(first, second, jnp.arange(50, dtype=jnp.uint32))
    np.testing.assert_array_equal(bits, jax.random.bits(key, (50,)))


def test_other_generators_are_refused():
    with pytest.raises(ValueError, match="rbg"):
        noise.key_words(jax.random.key(0, impl="rbg"))
    with pytest.raises(ValueError, match="int32"):
        noise.key_words(jnp.zeros((3, 2), jnp.int32))
