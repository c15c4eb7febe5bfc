"""Kernels that verify draft trees against their references."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from pallas_kernels.verify import cases, ratio_walk, reference, walk
from tests.kernels.interpreting import checked

pytestmark = pytest.mark.usefixtures("quick_compilation")

TEMPERATURES = np.array([0.8, 0.0, 1.3, 1e-39], np.float32)
TWINS = cases.Case("twins", 2, (-1, -1, 1, -1, 3), 2, 40)
KERNELS = ("tpu", "gpu")
walk_jitted = jax.jit(walk, static_argnames=("depth", "implementation"))
gumbel_jitted = jax.jit(reference.gumbel, static_argnums=2)
ratio_walk_jitted = jax.jit(ratio_walk, static_argnames=("depth", "implementation"))


def run(function, *arrays, implementation, depth):
    """A call by one implementation; kernels are interpreted, that of the TPU with bounds and races checked."""
    with contextlib.ExitStack() as stack:
        if implementation == "tpu":
            stack.enter_context(checked())
        if implementation == "gpu":
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            call = pl.pallas_call
            patch.setattr(
                pl, "pallas_call", lambda *a, **how: call(*a, **how | {"interpret": True})
            )
        walked = function(*arrays, depth=depth, implementation=implementation)
        walked = jax.tree.map(np.asarray, walked)
    return walked


def example(case, *, right=0.9, twins=True, seed=0):
    """Arguments of `walk`: each node carries the token that is drawn after its parent with probability `right`.

    Logits are a function of the path, so that siblings of one token, if allowed, have the same law after them.
    """
    rng = np.random.default_rng(seed)
    batch, nodes, vocab_size = case.batch, len(case.parents), case.vocab_size
    temperature = TEMPERATURES[:batch]
    keys = jax.random.split(jax.random.key(seed), (batch, case.depth + 1))
    noise = np.asarray(gumbel_jitted(keys, temperature, vocab_size))
    bans = case.bans & (rng.random((batch, vocab_size)) < 0.5)
    tokens = np.zeros((batch, nodes), np.int32)
    logits = np.zeros((batch, nodes + 1, vocab_size), np.float32)
    for row in range(batch):
        paths = [()]
        for scored in range(nodes + 1):
            if scored:
                parent = case.parents[scored - 1] + 1
                allowed = np.where(bans[row], -np.inf, logits[row, parent])
                scale = temperature[row] if temperature[row] > 1e-30 else 1e-30
                drawn = np.argmax(allowed / scale + noise[row, len(paths[parent])])
                if rng.random() > right or (not twins and (*paths[parent], drawn) in paths):
                    drawn = rng.integers(vocab_size)
                tokens[row, scored - 1] = drawn
                paths.append((*paths[parent], drawn))
            of_path = np.random.default_rng([seed, row, *paths[scored]])
            logits[row, scored] = 3 * of_path.normal(size=vocab_size)
            logits[row, scored][of_path.random(vocab_size) < 0.1] = -np.inf
    parents = np.broadcast_to(np.array(case.parents, np.int32), tokens.shape)
    mask = np.ones(tokens.shape, bool)
    return [logits, tokens, parents, mask, keys, temperature, bans if case.bans else None]


def assert_same(found, wanted):
    """Equal decisions, and log-probabilities but for rounding as far as the chunk goes."""
    for name in ("path", "count", "next_token"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    chunk = np.arange(wanted.path.shape[1]) <= wanted.count[:, None]
    known = chunk & ~np.isnan(wanted.log_probs)
    np.testing.assert_array_equal(np.isnan(found.log_probs[chunk]), ~known[chunk])
    for name in ("log_probs", "raw_log_probs"):
        values = getattr(found, name)[known], getattr(wanted, name)[known]
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize(
    "case",
    [cases.SMALL[0], *(pytest.param(case, marks=pytest.mark.slow) for case in cases.SMALL[1:])],
    ids=lambda case: case.name,
)
def test_a_walk_is_that_of_the_reference(case, implementation):
    arrays = example(case)
    arrays[3][0, -1] = False
    wanted = run(walk_jitted, *arrays, implementation="reference", depth=case.depth)
    assert wanted.count.max() == case.depth
    assert_same(run(walk_jitted, *arrays, implementation=implementation, depth=case.depth), wanted)


@pytest.mark.parametrize("implementation", KERNELS)
def test_of_siblings_with_one_token_the_walk_goes_on_below_any(implementation):
    arrays = example(TWINS, right=1.0)
    wanted = run(walk_jitted, *arrays, implementation="reference", depth=2)
    np.testing.assert_array_equal(wanted.path, [[0, 2, 3]] * 2)
    assert_same(run(walk_jitted, *arrays, implementation=implementation, depth=2), wanted)


def test_only_logits_on_the_path_are_read():
    case = cases.SMALL[1]
    arrays = example(case, right=0.6, twins=False)
    wanted = run(walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    kept = np.zeros(arrays[0].shape[:2], bool)
    for row, count in enumerate(wanted.count):
        kept[row, wanted.path[row, : count + 1]] = True
    assert 0 < kept.sum() < kept.size
    arrays[0][~kept] = np.nan
    again = run(walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    jax.tree.map(np.testing.assert_array_equal, again, wanted)


@pytest.mark.parametrize("implementation", KERNELS)
def test_a_broken_law_shows_in_its_log_probability(implementation):
    case = cases.SMALL[0]
    arrays = example(case, right=1.0)
    for row, (place, bad) in enumerate(((200, np.nan), (3, np.inf), (slice(None), -np.inf))):
        arrays[0][row, 1, place] = bad
    wanted = run(walk_jitted, *arrays, implementation="reference", depth=case.depth)
    np.testing.assert_array_equal(np.isnan(wanted.log_probs[:, 1]), [True, True, True, False])
    assert_same(run(walk_jitted, *arrays, implementation=implementation, depth=case.depth), wanted)


def test_words_of_keys_serve_and_noise_that_is_held_changes_nothing():
    case = cases.SMALL[1]
    arrays = example(case)
    wanted = run(walk_jitted, *arrays, implementation="reference", depth=case.depth)
    noise = gumbel_jitted(arrays[4], arrays[5], case.vocab_size)
    arrays[4] = jax.random.key_data(arrays[4])
    assert_same(
        run(walk_jitted, *arrays, noise, implementation="reference", depth=case.depth), wanted
    )
    arrays[4] = jnp.zeros_like(arrays[4])  # the noise goes before them
    assert_same(
        run(walk_jitted, *arrays, noise, implementation="reference", depth=case.depth), wanted
    )


@pytest.mark.parametrize("case", cases.REAL, ids=lambda case: case.name)
def test_a_walk_lowers_for_a_gpu(case):
    function = functools.partial(walk, depth=case.depth, implementation="gpu")
    text = jax.jit(function).trace(*cases.walk_shapes(case)).lower(lowering_platforms=("cuda",))
    assert "triton" in text.as_text()


def test_shapes_that_do_not_fit_are_refused():
    arrays = example(cases.SMALL[1])
    for place, name in enumerate(
        ("logits", "tokens", "parents", "mask", "keys", "temperature", "banned")
    ):
        wrong = list(arrays)
        wrong[place] = jnp.ones((7,))
        with pytest.raises(ValueError, match=f"{name} must"):
            walk(*wrong, depth=3)
    with pytest.raises(ValueError, match=r"noise must have the shape \(4, 4, 128\), got \(2, 3\)"):
        walk(*arrays, jnp.ones((2, 3)), depth=3)
    with pytest.raises(ValueError, match=r"keys must have the shape \(4, 5\), got \(4, 4\)"):
        walk(*arrays, depth=4)


def test_keys_of_another_generator_go_to_the_reference():
    arrays = example(cases.SMALL[1])
    arrays[4] = jax.random.split(jax.random.key(0, impl="rbg"), arrays[4].shape)
    walk_jitted(*arrays, depth=3)
    with pytest.raises(ValueError, match="rbg"):
        walk(*arrays, depth=3, implementation="tpu")


def ratio_example(case, *, drawn=True):
    """Arguments of `ratio_walk`: the nodes are draws from laws near the target's, or its most likely tokens."""
    rng = np.random.default_rng(1)
    batch, nodes, vocab_size = case.batch, len(case.parents), case.vocab_size
    logits = 3 * rng.normal(size=(batch, nodes + 1, vocab_size)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    temperature = TEMPERATURES[:batch]
    above = logits[:, [parent + 1 for parent in case.parents]]
    q = above / np.maximum(temperature, 0.1)[:, None, None] + 0.3 * rng.normal(size=above.shape)
    q = np.array(jax.nn.log_softmax(q.astype(np.float32)))
    tokens = np.argmax(q + rng.gumbel(size=q.shape) * drawn, axis=-1).astype(np.int32)
    parents = np.broadcast_to(np.array(case.parents, np.int32), tokens.shape)
    mask = np.ones(tokens.shape, bool)
    uniforms = rng.random(tokens.shape).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), batch)
    banned = rng.random((batch, vocab_size)) < 0.1 if case.bans else None
    return [
        logits,
        q if drawn else None,
        tokens,
        parents,
        mask,
        uniforms,
        keys,
        temperature,
        banned,
    ]


@pytest.mark.parametrize(("case", "drawn"), [(cases.SMALL[1], True), (cases.SMALL[2], False)])
def test_a_ratio_walk_is_that_of_the_reference(case, drawn):
    arrays = ratio_example(case, drawn=drawn)
    arrays[4][0, -1] = False
    wanted = run(ratio_walk_jitted, *arrays, implementation="reference", depth=case.depth)
    assert 0 < wanted.count.sum() < case.batch * case.depth
    found = run(ratio_walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    assert_same(found, wanted)


@pytest.mark.slow
def test_only_laws_on_the_path_and_of_tested_nodes_are_read():
    case = cases.SMALL[1]
    arrays = ratio_example(case)
    logits, q, tokens, parents = arrays[:4]
    wanted = run(ratio_walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    for row, count in enumerate(wanted.count):
        path = wanted.path[row, : count + 1].tolist()
        logits[row, [n for n in range(logits.shape[1]) if n not in path]] = np.nan
        for node in range(q.shape[1]):
            parent = parents[row, node] + 1
            passed = [n for n in path if n and parents[row, n - 1] + 1 == parent]
            # Later siblings of the one that passed; its token may stand twice, then it was the second.
            late = passed and node >= passed[0] and tokens[row, node] != tokens[row, passed[0] - 1]
            if parent not in path or late:
                q[row, node] = np.nan
    assert np.isnan(q).any() and np.isnan(logits).any()
    again = run(ratio_walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    jax.tree.map(np.testing.assert_array_equal, again, wanted)


@pytest.mark.slow
def test_a_broken_law_ends_a_ratio_walk():
    case = cases.SMALL[1]
    arrays = ratio_example(case)
    for row, (place, bad) in enumerate(((100, np.nan), (3, np.inf), (slice(None), -np.inf))):
        arrays[0][row, 0, place] = bad
    wanted = run(ratio_walk_jitted, *arrays, implementation="reference", depth=case.depth)
    np.testing.assert_array_equal(np.isnan(wanted.log_probs[:, 0]), [True, True, True, False])
    np.testing.assert_array_equal(wanted.count[:3], 0)
    found = run(ratio_walk_jitted, *arrays, implementation="tpu", depth=case.depth)
    assert_same(found, wanted)


@pytest.mark.slow
def test_a_sibling_that_passes_leads_to_the_first_of_its_token():
    """Node 0 fails, node 2 passes with the same token, and node 1 hangs off node 0."""
    logits = np.zeros((1, 4, 8), np.float32)
    logits[0, 1, 5] = 50  # after node 0 token 5 is certain
    q = np.full((1, 3, 8), -100, np.float32)
    q[0, 0] = np.log(0.125 - 0.01 * (np.arange(8) == 3))  # leaves token 3
    q[0, 1, 5] = q[0, 2, 3] = 0
    tokens, parents = np.array([[3, 5, 3]], np.int32), np.array([[-1, 0, -1]], np.int32)
    uniforms = np.array([[2.0, 0.5, 0.5]], np.float32)  # 2 fails for certain
    arrays = [logits, q, tokens, parents, np.ones((1, 3), bool), uniforms]
    arrays += [jax.random.split(jax.random.key(0), 1), np.ones(1, np.float32)]
    for name in ("reference", "tpu"):
        found = run(ratio_walk_jitted, *arrays, implementation=name, depth=2)
        np.testing.assert_array_equal(found.path, [[0, 1, 2]], name)


def test_arguments_of_a_ratio_walk_that_do_not_fit_are_refused():
    arrays = ratio_example(cases.SMALL[1])
    for place, name in ((1, "q"), (5, "uniforms"), (6, "keys")):
        wrong = list(arrays)
        wrong[place] = jnp.ones((7,))
        with pytest.raises(ValueError, match=f"{name} must"):
            ratio_walk(*wrong, depth=3)
    with pytest.raises(ValueError, match=r"'gpu': verify.ratio_walk has none"):
        ratio_walk(*arrays, depth=3, implementation="gpu")
