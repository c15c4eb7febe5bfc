"""`jaxdec search`: what it prints is what `jaxdec.generate` gives with the decoder that the options describe."""

import io
import json
import sys

import jax
import numpy as np
import pytest

import jaxdec as library
from jaxdec import catalogue, checkpoints, search, text
from jaxdec.catalogue.search.populations import shared_tokens

PROMPTS = ["def f(a):\n  ", "x"]
TOKENS, EACH = 12, 3
SEARCH = ["--n", EACH, "--max-new-tokens", TOKENS, "--seed", 3, "--ban", text.EOS]
FILTER = ["--step-tokens", 4, "--inner", "lookup", "--set", "reward_temperature=0.5"]


@pytest.fixture
def decode(jaxdec, models):
    """Runs the command with the tiny model; returns stdout and stderr."""

    def run(*argv, prompts=PROMPTS):
        code, out, err = jaxdec("search", *prompts, "--target", models / "target", *SEARCH, *argv)
        assert code == 0, err
        return out, err

    return run


@pytest.fixture
def made(jaxdec, models, monkeypatch):
    """The decoder that options describe, and what else is asked for."""

    def run(*argv):
        seen = []

        def prepare(decoder, params, prompt, **options):
            seen.append((decoder, {"params": params, **options}))
            raise ValueError("seen")

        monkeypatch.setattr(library, "prepare", prepare)
        code, _, err = jaxdec("search", "x", "--target", models / "target", *argv)
        assert (code, err) == (2, "jaxdec search: seen\n")
        return seen[0]

    return run


@pytest.fixture
def plain(models):
    """Plain decoding of the tiny model."""
    return library.autoregressive(checkpoints.load(models / "target").model)


def test_hypotheses_are_those_of_generate(decode, models):
    target = checkpoints.load(models / "target")
    decoder = search.particle_filter(
        library.speculative(target.model, drafter=library.drafters.prompt_lookup()),
        search.scorers.log_prob(mean=True),
        segment=search.of_length(4),
    )
    tokens, lengths = text.encode_batch(PROMPTS)
    wanted = library.generate(
        decoder,
        {"target": target.params},
        tokens,
        lengths=lengths,
        rng=jax.random.key(3),
        max_new_tokens=TOKENS,
        hypotheses=EACH,
        temperature=0.8,
        banned=np.arange(target.model.vocab_size) == text.EOS,
        reward_temperature=0.5,
    )
    every = json.loads(decode("--json", "--all", *FILTER)[0])
    assert (every["method"], every["exactness"]) == ("particle-filter", "heuristic")
    assert every["tokens"] == 2 * EACH * TOKENS
    assert every["target_forwards"] == int(wanted.stats.target_forwards.sum())
    for row, found in enumerate(every["rows"]):
        new = slice(int(wanted.prompt_lengths[row]), int(wanted.lengths[row]))
        assert found["tokens"] == wanted.tokens[row, new].tolist()
        assert (found["prompt"], found["hypothesis"]) == (PROMPTS[row // EACH], row % EACH)
        assert found["status"] == wanted.status[row].name
        for name, held in (("log_weight", "log_weights"), ("score", "scores")):
            assert found[name] == float(getattr(wanted.pool, held)[row])
        assert found["log_prob"] == float(wanted.pool.log_probs[row])
        assert found["steps"] == TOKENS // 4
    weights = np.array([row["log_weight"] for row in every["rows"]]).reshape(2, EACH)
    assert len(np.unique(weights)) > EACH  # so that the answer is not the first by chance
    shares = np.exp(weights) / np.exp(weights).sum(1, keepdims=True)
    np.testing.assert_allclose([row["weight"] for row in every["rows"]], shares.flat)
    answers = (np.arange(2) * EACH + weights.argmax(1)).tolist()
    assert [row for row, found in enumerate(every["rows"]) if found["answer"]] == answers

    alone = json.loads(decode("--json", *FILTER)[0])
    assert alone["rows"] == [every["rows"][row] for row in answers]
    assert alone["tokens"] == every["tokens"]
    out, err = decode(*FILTER)
    assert out == "".join(row["prompt"] + row["text"] + "\n" for row in alone["rows"])
    *lines, figures = err.splitlines()
    for line, row, prompt in zip(lines, alone["rows"], range(2), strict=True):
        said = f"prompt {prompt}, hypothesis {row['hypothesis']}: weight {row['weight']:.3f}, score"
        assert line.startswith(said) and line.endswith(f"{row['status']}, the answer")
    forwards = f"{every['tokens']} tokens, {every['target_forwards']} target forwards"
    assert figures.startswith(forwards) and figures.endswith(f", {2 * EACH} LENGTH")
    shown = decode("--all", *FILTER)[0]
    for row, found in enumerate(every["rows"]):
        head = f"[prompt {row // EACH}, hypothesis {row % EACH}: weight {found['weight']:.3f}, "
        ending = ", the answer]\n" if found["answer"] else "LENGTH]\n"
        start = shown.index(head)
        body = shown[start:].split("]\n", 1)
        assert (body[0] + "]\n").endswith(ending)
        assert body[1].startswith(found["prompt"] + found["text"] + "\n")


def test_where_nobody_has_any_weight_the_first_is_shown(decode):
    out, err = decode("--method", "first-finish", prompts=["x"])
    answer, figures = err.splitlines()
    assert answer.startswith("prompt 0, hypothesis 0: weight 0.000, log-prob ")
    assert answer.endswith("; no hypothesis has any weight, so this is the first")
    assert figures.endswith(f", {EACH} LENGTH") and out.startswith("x")
    (row,) = json.loads(decode("--method", "first-finish", "--json", prompts=["x"])[0])["rows"]
    assert out == "x" + row["text"] + "\n"
    assert (row["hypothesis"], row["weight"], row["log_weight"], row["score"]) == (0, 0, None, None)


def test_beams_are_ranked_by_their_scores(decode, models):
    target = checkpoints.load(models / "target")
    tokens, lengths = text.encode_batch(PROMPTS)
    wanted = library.generate(
        search.beams(target.model),
        {"target": target.params},
        tokens,
        lengths=lengths,
        rng=0,
        max_new_tokens=TOKENS,
        hypotheses=EACH,
        temperature=0.8,
        banned=np.arange(target.model.vocab_size) == text.EOS,
    )
    rows = json.loads(decode("--method", "beams", "--all", "--json")[0])["rows"]
    for row, found in enumerate(rows):
        new = slice(int(wanted.prompt_lengths[row]), int(wanted.lengths[row]))
        assert found["tokens"] == wanted.tokens[row, new].tolist()
        assert found["score"] == found["log_weight"] == float(wanted.pool.scores[row])
        assert (found["answer"], found["steps"]) == (row % EACH == 0, None)
    said = decode("--method", "beams")[1].splitlines()[0]
    assert said.startswith("prompt 0, hypothesis 0: weight 0.") and "LENGTH, the answer" in said


def test_options_reach_the_decoder(made, plain, models):
    likely, sums = (search.scorers.log_prob(mean) for mean in (True, False))
    steps = ["--step-tokens", 5]
    lines = search.until([list(b"\n\n"), [10]], 5)
    ends = ["--delimiter", "\n\n", "--delimiter", "\n"]
    cases = [
        ([], search.particle_filter(plain, likely, segment=search.of_length(16))),
        (["--method", "smc"], search.smc(plain)),
        (
            ["--method", "smc", *steps, *ends, "--scorer", "log-prob"],
            search.smc(plain, segment=lines, potential=sums),
        ),
        (
            ["--method", "a-star", *steps, "--branches", 2],
            search.a_star(plain, likely, segment=search.of_length(5), branches=2),
        ),
        (
            ["--method", "deep-prune", *steps],
            search.deep_prune(plain, shared_tokens, after=5),
        ),
        (["--method", "short-m-at-k"], search.short_m_at_k(plain, 3)),
        (
            ["--method", "short-m-at-k", "--m", 2, *ends],
            search.short_m_at_k(plain, 2, end_of_thinking=[list(b"\n\n"), [10]]),
        ),
    ]
    for argv, wanted in cases:
        assert made(*argv)[0] == wanted, argv
    argv = ["--inner", "draft", "--draft", models / "draft", "--draft-length", 2, "--n", 5]
    more = ["--top-k", 4, "--stop", "ab", "--regex", "[ab]{9}"]
    decoder, asked = made("--method", "first-finish", *argv, *more)
    draft = checkpoints.load(models / "draft")
    assert decoder == search.first_finish(
        catalogue.METHODS["draft"].make(catalogue.Parts(plain.model, draft.model, length=2))
    )
    assert asked["params"].keys() == {"target", "draft"}
    assert (asked["hypotheses"], asked["top_k"], asked["stop_strings"]) == (5, 4, [b"ab"])
    assert asked["constraint"] is not None
    assert made("--method", "a-star", "--set", "expansions=9")[1]["expansions"] == 9


def test_a_checkpoint_of_a_head_scores(jaxdec, monkeypatch):
    seen = []

    def prepare(decoder, params, prompt, **options):
        seen.append((decoder, params))
        raise ValueError("seen")

    monkeypatch.setattr(library, "prepare", prepare)
    argv = ["A1+2\n", "--target", "steps", "--bos", "--scorer", "steps-value"]
    assert jaxdec("search", *argv) == (2, "", "jaxdec search: seen\n")
    ((decoder, params),) = seen
    held = checkpoints.load_heads("steps-value")
    assert decoder.scorer == search.scorers.of_hidden(held.heads.logit, "value")
    jax.tree.map(np.testing.assert_array_equal, params["value"], held.params)


def test_every_search_of_the_catalogue_is_taken(jaxdec, models, monkeypatch):
    seen = []

    def assemble(method, *others, **options):
        seen.append(method.name)
        raise ValueError("seen")

    monkeypatch.setattr("jaxdec.cli.search.assemble_search", assemble)
    for name in catalogue.SEARCHING:
        argv = ["x", "--method", name, "--target", models / "target"]
        assert jaxdec("search", *argv) == (2, "", "jaxdec search: seen\n")
    assert tuple(seen) == catalogue.SEARCHING
    for name in catalogue.SEARCHING:
        fields = catalogue.Parts.__dataclass_fields__
        assert set(catalogue.METHODS[name].takes) <= fields.keys()


CASES = {
    "no prompt": ([], "PROMPT"),
    "an empty prompt": (["x", ""], ("prompt 1", "at least 1")),
    "no method": (["x", "--method", "lookup"], ("'lookup' that searches", "smc", "a-star")),
    "no inner method": (["x", "--inner", "smc"], ("'smc' that continues prompts", "`jaxdec info`")),
    "no hypothesis": (["x", "--n", "0"], ("'0'", "from 1 to 1024")),
    "no scorer": (["x", "--scorer", "best"], ("'best'", "log-prob, mean-log-prob")),
    "a scorer that drafts": (["x", "--scorer", "code-eagle"], ("'code-eagle'", "scores no")),
    "a scorer of another": (["x", "--scorer", "steps-reward"], ("width 192", "'target' has")),
    "a part of another": (
        ["x", "--branches", "2"],
        ("takes no branches", "inner, segment, scorer"),
    ),
    "steps of none": (["x", "--step-tokens", "0"], ("'0'", "at least 1")),
    "an empty delimiter": (["x", "--delimiter", ""], ("--delimiter is empty", "at least 1 byte")),
    "a draft for nobody": (["x", "--draft", "a"], ("'particle-filter'", "takes no draft 'a'")),
    "thinking in steps": (
        ["x", "--method", "short-m-at-k", "--step-tokens", "9"],
        ("ends with a delimiter", "steps of 9 tokens"),
    ),
    "traces judged at words": (
        ["x", "--method", "deep-prune", "--delimiter", "a"],
        ("after a number of tokens", "no delimiters"),
    ),
    "more are kept than there are": (
        ["x", "--method", "short-m-at-k", "--n", "2"],
        ("m is 3", "2 hypotheses"),
    ),
    "no knob": (["x", "--set", "expansions=9"], ("'expansions'", "it has reward_temperature")),
    "no value": (
        ["x", "--method", "a-star", "--set", "expansions=2.5"],
        ("expansions=2.5", "NAME=int"),
    ),
    "a knob out of range": (
        ["x", "--method", "smc", "--set", "ess_threshold=2"],
        ("ess_threshold", "2", "[0, 1]"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(jaxdec, target, name):
    argv, expected = CASES[name]
    code, out, err = jaxdec("search", *argv, *target)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1, err
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in err


def test_a_law_that_is_not_finite_is_an_error(jaxdec, models):
    code, out, err = jaxdec("search", *PROMPTS, "--target", models / "nan", *SEARCH, *FILTER)
    assert (code, out) == (1, "")
    assert err == "jaxdec search: the model's law is not finite: row 0 ended after 0 tokens\n"


def test_a_prompt_from_stdin(jaxdec, target, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, _, err = jaxdec("search", "-", *target)
    assert (code, err.count("prompt 0 is empty")) == (2, 1)
