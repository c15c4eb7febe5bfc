"""What `generate` and `infill` refuse: a `ValueError` with the value and the limit, before anything is traced."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdec
from jaxdec import any_subset
from jaxdec.testing import oracles

MODEL, TABLE = oracles.hash_oracle(6, seed=2)
PARAMS = {"target": TABLE}
PROMPT = np.array([[1, 2, 3], [4, 5, 0]])
KEY = jax.random.key(0)
PLAIN = jaxdec.autoregressive(MODEL)


def generate(decoder=PLAIN, params=PARAMS, prompt=PROMPT, *, rng=KEY, **options):
    return jaxdec.generate(decoder, params, prompt, rng=rng, **options)


@pytest.mark.parametrize("argument", ["max_new_tokens", "lengths", "most_new_tokens", "hypotheses"])
@pytest.mark.parametrize(
    "value", [2.5, float("nan"), None, "2", True, 1 << 31, -(1 << 31) - 1, [1, 2, 3], [[1], [2]]]
)
def test_integers(argument, value):
    if value is None and argument in ("lengths", "most_new_tokens"):
        value = [None, 1]
    if argument == "lengths" and not isinstance(value, list):
        value = [value, value]
    with pytest.raises(ValueError, match=argument):
        generate(**{argument: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(max_new_tokens=2.5), "max_new_tokens must hold integers, got 2.5"),
        (dict(max_new_tokens=-1), r"max_new_tokens must lie in \[0, 268435456\], got -1"),
        (dict(max_new_tokens=9, most_new_tokens=8), r"must lie in \[0, 8\], got 9"),
        (dict(lengths=[2.5, 2]), "lengths must hold integers, got float64"),
        (dict(lengths=[3, 4]), "prompt 1 has 4 tokens; 1 to 3 are allowed"),
        (dict(lengths=[3]), r"lengths must have shape \[2\], got \[1\]"),
        (dict(prompt=PROMPT[0]), r"prompt must have shape \[B, P\], got \(3,\)"),
        (dict(prompt=[[1, 2], [3]]), "must be integers .B, P., in rows of equal length"),
        (dict(prompt=PROMPT / 2), "prompt must hold integer tokens, got float64"),
        (dict(prompt="text"), r"prompt must have shape \[B, P\]"),
        (dict(prompt=PROMPT[:, :0]), "prompt 0 has 0 tokens"),
        (dict(prompt=PROMPT[:0]), "prompt has no rows"),
        (dict(prompt=PROMPT + 5), "prompt token 6 at row 0, position 0 is outside the vocabulary"),
        (dict(prompt=PROMPT + (1 << 40)), "outside the vocabulary of 6"),
        (dict(eos=[[1], [2]]), r"eos must be tokens, such as \(0,\), got shape \[2, 1\]"),
        (dict(eos="a"), "eos must be tokens"),
        (dict(eos=[1.0]), "eos must be tokens"),
        (dict(eos=[6]), "eos holds 6, outside the vocabulary of 6"),
        (dict(stop=["ab"]), "stop sequence 0 must be a sequence of tokens"),
        (dict(stop="ab"), "stop must be sequences of tokens"),
        (dict(stop=5), "stop must be sequences of tokens"),
        (dict(stop=[3, 4]), r"stop sequence 0 must be a sequence of tokens, such as \[10, 10\], got 3"),
        (dict(stop=[[3, 4], []]), "stop sequence 1 is empty"),
        (dict(stop=[[1, 2], [[3], [4]]]), r"stop sequence 1 .*, got shape \[2, 1\]"),
        (dict(stop=[[1], [1.5]]), "stop sequence 1 must be"),
        (dict(stop=[[1, 9]]), "stop sequence 0 holds 9"),
        (dict(temprature=0.5), "no setting 'temprature'; did you mean 'temperature'"),
        (dict(max_tokens=5), "did you mean 'max_new_tokens'.*Settings are temperature, top_k"),
        (dict(temperature="hot"), "temperature"),
        (dict(temperature=np.nan), "temperature: got nan"),
        (dict(temperature=[[1], [2, 3]]), "temperature: got .*, must be >= 0"),
        (dict(top_k=KEY), "top_k: got .*, must be an integer >= 0"),
        (dict(logit_bias=[[0.0], []]), "logit_bias: got .*, must be real numbers"),
        (dict(eos=KEY), "eos must be tokens"),
        (dict(order="left"), "order must be an Order, .* got str"),
        (dict(cache="int8"), "cache must be a function .* got str"),
        (dict(tokenizer=5), "tokenizer must be a Tokenizer, .* got int"),
        (dict(placement="data=2"), "placement must be a jaxdec.parallel.Placement, got str"),
        (dict(rng=()), r"2 keys .one a row., got shape .0,."),
        (dict(rng=[[1], [2, 3]]), "rng: got .*, must be a list of seeds"),
        (dict(rng=[1, 2, 3]), r"2 keys \(one a row\), got shape \(3,\)"),
        (dict(params={"target": "x"}), "the model cannot read its parameters"),
        (dict(rng=-1), r"rng must be a seed in \[0, 4294967296\), got -1"),
        (dict(rng=1 << 32), "rng must be a seed"),
        (dict(rng=0.5), "rng must be a key made by jax.random.key, .* list of seeds, got 0.5"),
        (dict(rng=None), "rng must be a key"),
        (dict(rng=jax.random.PRNGKey(0)), "rng must be a key.* dtype uint32"),
        (dict(rng=jax.random.split(jax.random.key(0), 3)), r"2 keys \(one a row\), got shape \(3,\)"),
        (dict(hypotheses=0), r"hypotheses must lie in \[1, "),
        (dict(decoder=MODEL), r"take jaxdec.autoregressive\(model\)"),
        (dict(decoder=PARAMS, params=PLAIN), "must be a decoder, .* got dict"),
        (dict(decoder=jaxdec.Autoregressive), "must be a decoder"),
        (dict(decoder=jaxdec.autoregressive(PARAMS)), "target of Autoregressive must be a jaxdec.Model"),
        (dict(params=PROMPT), "by part name, with 'target'; got ndarray: pass {'target': params}"),
        (dict(params={"target": None}), "the model cannot read its parameters"),
        (dict(params={"target": {"weights": TABLE}}), "the model cannot read its parameters"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generate(**options)


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        (dict(threshold="a"), "threshold must be a number, got 'a'"),
        (dict(threshold=np.nan), "threshold must lie in"),
        (dict(steps=2.5), "steps must be an integer, got 2.5"),
        (dict(steps=1 << 31), "steps must lie in"),
        (dict(treshold=1.0), "did you mean 'threshold'.*this decoder's own are threshold, steps"),
    ],
)
def test_knobs_of_a_decoder(knob, message):
    policy = jaxdec.diffusion.unmask.dynamic_threshold()
    decoder = jaxdec.denoise(oracles.canvas(MODEL), unmask=policy)
    with pytest.raises(ValueError, match=message):
        generate(decoder, **knob)


def test_models_that_do_not_keep_their_word():
    wider = dataclasses.replace(MODEL, vocab_size=7)
    for decoder in (jaxdec.autoregressive(wider), any_subset.assd(wider)):
        with pytest.raises(ValueError, match=r"vocabulary of 7, but its logits .* 6"):
            jaxdec.prepare(decoder, PARAMS, PROMPT)
    short = dataclasses.replace(MODEL, max_length=6)
    with pytest.raises(ValueError, match=r"prompt 0 has 3 tokens and asks for 4 more; .* is 6"):
        generate(jaxdec.autoregressive(short), max_new_tokens=4)


def test_a_model_is_looked_at_once(monkeypatch):
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Watched:
        def __call__(self, params, inputs, cache=None):
            seen.append(inputs)
            return MODEL.forward(params, inputs, cache)

    decoder = jaxdec.autoregressive(dataclasses.replace(MODEL, forward=Watched()))
    for size in (1, 2, 3):
        jaxdec.prepare(decoder, {"target": TABLE + size}, PROMPT[:size])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sizes=[2.5, 3]), "sizes must hold integers, got float64"),
        (dict(sizes=["a", "b"]), "sizes must hold integers"),
        (dict(visible=np.ones((2, 3))), "visible must be bool"),
        (dict(tokens="ab"), "tokens must be integers"),
        (dict(rng="0"), "rng must be a key"),
        (dict(tokens=[[1], [2, 3]]), "tokens: got .*, must be integers"),
        (dict(visible=[[True], []]), "visible: got .*, must be bool"),
        (dict(ranks="abc"), "ranks must be integers"),
        (dict(max_tokens=3), "no setting 'max_tokens'"),
    ],
)
def test_what_infill_refuses(options, message):
    given = dict(tokens=PROMPT, visible=np.array([[1, 0, 1]] * 2, bool), rng=KEY)
    given.update(options)
    with pytest.raises(ValueError, match=message):
        jaxdec.infill(PLAIN, PARAMS, given.pop("tokens"), given.pop("visible"), **given)


@pytest.mark.parametrize("value", [[[1], [2, 3]], KEY])
def test_a_knob_that_is_no_array(value):
    decoder = jaxdec.denoise(oracles.canvas(MODEL))
    with pytest.raises(ValueError, match=r"threshold: got .*, must be a number"):
        generate(decoder, threshold=value)


def test_seeds_are_keys(quick_compilation):
    options = dict(max_new_tokens=4, eos=())
    for seed in (3, np.int64(3)):
        np.testing.assert_array_equal(
            generate(rng=seed, **options).tokens, generate(rng=jax.random.key(3), **options).tokens
        )
    assert jaxdec.sampling.as_key(2**32 - 1).shape == ()
    keys = jax.random.split(jax.random.key(0), 2)
    assert jnp.array_equal(jaxdec.sampling.row_keys(keys, 2), keys)
