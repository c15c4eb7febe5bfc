"""The choice of a gap's length: scores against loops over conditionals and against a known joint law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec.generation.gap_length import ChosenLength
from jaxdec.model import Inputs
from jaxdec.testing.oracles import hash_oracle, joint_oracle

MODEL, TABLE = hash_oracle(6, seed=4)
PREFIX, SUFFIX = np.array([1, 5, 2]), np.array([4, 0])
RNG = jax.random.key(7)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def choose(lengths=(1, 2, 4), prefix=PREFIX, suffix=SUFFIX, decoder=None, params=TABLE, **options):
    decoder = decoder or jaxdec.any_subset.fused(MODEL, width=2)
    return jaxdec.choose_length(
        decoder,
        {"target": params},
        prefix,
        suffix,
        lengths,
        **{"rng": RNG, "temperature": 0.8, **options},
    )


def fill(length, prefix=PREFIX, suffix=SUFFIX):
    """The gap as plain decoding fills it, in a request of one row."""
    row = np.concatenate([prefix, np.zeros(length, int), suffix])[None]
    visible = np.ones(row.shape, bool)
    visible[0, len(prefix) : len(prefix) + length] = False
    plain = jaxdec.autoregressive(MODEL)
    filled = jaxdec.infill(plain, {"target": TABLE}, row, visible, rng=RNG[None], temperature=0.8)
    return np.asarray(filled.tokens)[0, len(prefix) : len(prefix) + length]


@jax.jit
def causal(tokens):
    """log p of each token after each place, given those up to it."""
    return jax.nn.log_softmax(MODEL(TABLE, Inputs.causal(tokens), None).logits)


def left_to_right(text, start):
    """log p(text[start:] | text[:start]), one causal forward a token."""
    total = 0.0
    for place in range(start, len(text)):
        seen = np.zeros(32, int)
        seen[:place] = text[:place]
        total += float(causal(seen[None])[0, place - 1, text[place]])
    return total


def test_scores_are_those_of_a_loop_over_conditionals():
    choice = choose()
    expected = {
        n: left_to_right(np.concatenate([PREFIX, fill(n), SUFFIX]), len(PREFIX)) for n in (1, 2, 4)
    }
    assert isinstance(choice, ChosenLength)
    assert list(choice.log_probs) == [1, 2, 4]
    for length, score in expected.items():
        assert choice.log_probs[length] == pytest.approx(score, abs=1e-4)
    assert choice.length == max(expected, key=expected.__getitem__)
    np.testing.assert_array_equal(choice.tokens, fill(choice.length))


def test_scores_are_marginals_of_the_joint_law():
    model, joint = joint_oracle(3, 5, seed=1)
    prefix, suffix = np.array([2]), np.array([1])
    choice = choose(
        (3, 1, 2), prefix, suffix, jaxdec.any_subset.fused(model, width=2), joint, temperature=0.0
    )
    table = np.asarray(joint, np.float64)
    for length, score in choice.log_probs.items():
        text = [2, *fill_of_joint(table, length), 1]
        marginal = table.sum(axis=tuple(range(len(text), 5)))[tuple(text)]
        assert score == pytest.approx(np.log(marginal / table.sum((1, 2, 3, 4))[2]), abs=1e-4)
    assert choice.log_probs[choice.length] == max(choice.log_probs.values())


def fill_of_joint(table, length):
    """The greedy fill of `[2, gap, 1]`, by conditioning the table on both sides."""
    given = {0: 2, length + 1: 1}
    for place in range(1, length + 1):
        index = tuple(given.get(i, slice(None)) for i in range(5))
        free = [i for i in range(5) if i not in given]
        law = table[index].sum(axis=tuple(k for k, i in enumerate(free) if i != place))
        given[place] = int(law.argmax())
    return [given[i] for i in range(1, length + 1)]


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_the_length_that_leads_to_the_suffix_is_chosen(wanted):
    # A chain that mostly counts 0, 1, ..., 4, 0: one length leads from the prefix to the suffix.
    model, _ = joint_oracle(5, 5)
    step = 0.9 * np.roll(np.eye(5), 1, axis=1) + 0.02
    joint = np.einsum("ab,bc,cd,de->abcde", step, step, step, step) / 5
    choice = choose(
        (2, 3, 1),
        np.array([2]),
        np.array([(3 + wanted) % 5]),
        jaxdec.autoregressive(model),
        jnp.asarray(joint, jnp.float32),
        temperature=0.0,
    )
    assert choice.length == wanted
    np.testing.assert_array_equal(choice.tokens, (3 + np.arange(wanted)) % 5)


def test_only_the_bounded_context_is_read():
    bounds = {"prefix_tokens": 2, "suffix_tokens": 1}
    bounded = choose(**bounds)
    cut = choose(prefix=PREFIX[-2:], suffix=SUFFIX[:1])
    assert bounded.log_probs == cut.log_probs
    other = choose(prefix=[3, *PREFIX[-2:]], suffix=[*SUFFIX[:1], 5], **bounds)
    assert bounded.log_probs == other.log_probs
    assert bounded.log_probs != choose().log_probs


def test_a_length_without_a_finite_law_is_not_chosen():
    with pytest.raises(ValueError, match="finite law"):
        choose(params=TABLE * jnp.nan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": ()}, r"at least 1, got \(\)"),
        ({"lengths": (2, 0)}, r"at least 1, got \(2, 0\)"),
        ({"lengths": (2, 2)}, r"different integers .* got \(2, 2\)"),
        ({"prefix": []}, r"prefix must be one row of at least 1 token, got \[0\]"),
        ({"suffix": []}, r"suffix must be one row of at least 1 token, got \[0\]"),
        ({"prefix": [[1, 2]]}, r"prefix .* got \[1, 2\]"),
        ({"prefix": [0.5]}, "integer tokens, got float64"),
        ({"prefix": [6]}, "vocabulary of 6"),
        ({"prefix_tokens": 0}, "prefix_tokens must be at least 1, got 0"),
        ({"suffix_tokens": -1}, "suffix_tokens must be at least 1, got -1"),
        ({"rng": RNG[None]}, r"one key, got shape \(1,\)"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose(**arguments)
