"""Functions that make parts say what is wrong with an argument, whatever stands in its place."""

import numpy as np
import pytest

import jaxdec
from jaxdec import diffusion, drafters, growth
from jaxdec.arguments import typed
from jaxdec.speculative import RankTree
from jaxdec.testing import oracles

MODEL, _ = oracles.hash_oracle(5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drafters.prompt_lookup(length="8"), "length must be an integer, got '8'"),
        (lambda: drafters.prompt_lookup(length=True), "length must be an integer, got True"),
        (lambda: drafters.prompt_lookup(length=2**40), "length must be an integer"),
        (lambda: drafters.input_copy(length=2**25), "length must be at most 16777216"),
        (lambda: drafters.model(MODEL, growth=growth.chain), r"a Growth or None, got chain; call it: chain"),
        (lambda: drafters.jacobi(None), "model must be a Model, got None"),
        (lambda: diffusion.denoise(MODEL, branches=b"2"), "branches must be an integer"),
        (lambda: diffusion.denoise(MODEL, branches=MODEL), "branches must be an integer"),
        (lambda: growth.fixed((-1, 0)), "shape must be a RankTree"),
        (lambda: growth.chain(2.0), "length must be an integer, got 2.0"),
        (lambda: growth.chain(10**6), "length must be at most 4096, got 1000000"),
        (lambda: RankTree.branching((10,) * 9), "nodes must be at most 4096, got 11110"),
        (lambda: RankTree.best(10**9, 10**9, (0.5,)), "depth must be at most 4096"),
        (lambda: RankTree.of([0.5]), "parents must be several, each an integer, got .0.5."),
        (lambda: diffusion.unmask.threshold(np.nan), "threshold must be a finite number, got nan"),
        (lambda: diffusion.unmask.quota(spread="odd"), "cosine, doubling; got 'odd'"),
        (lambda: diffusion.unmask.quota(spread=3), "spread must be one of even, linear_time, cosine, doubling, got 3"),
        (lambda: diffusion.schedules.raster(2**20, 2**20), "at most 1048576 positions"),
        (lambda: diffusion.schedules.scales([2**20]), "at most 1048576 positions"),
        (lambda: diffusion.schedules.partition([[1], []]), "groups: got .*, must be integers"),
        (lambda: jaxdec.verifiers.TypicalAcceptance("x"), "posterior_threshold must be a finite number"),
    ],
)  # fmt: skip
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_what_is_taken():
    assert drafters.prompt_lookup(length=np.int64(3)) == drafters.prompt_lookup(length=3)
    assert RankTree.of(range(-1, 2)) == RankTree.of(np.arange(-1, 2)) == RankTree.chain(3)
    diffusion.unmask.threshold(np.float32(0.5))
    diffusion.unmask.threshold(1)


def test_a_function_stays_what_it_was():
    def made(a: int, *, b: str | None = None) -> tuple:
        """Makes."""
        return a, b

    held = typed(made)
    assert held(1) == (1, None) and held(a=1, b="x") == (1, "x")
    assert type(held(np.int64(3))[0]) is int
    assert (held.__doc__, held.__name__) == ("Makes.", "made")
    with pytest.raises(TypeError):
        held()
