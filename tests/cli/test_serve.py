"""`jaxdec serve`: lines of JSON in, lines of JSON out, whatever stands in them."""

import json

import pytest

ASKED = [
    {"id": "a", "prompt": "def add(a, b):\n", "seed": 3, "max_new_tokens": 9, "temperature": 0.7},
    {"id": "b", "prompt": "import os\nimport", "seed": 1, "samples": 2},
    {"id": "c", "prompt": "x" * 20, "temperature": 0, "priority": 2},
]
BAD = [
    "no JSON",
    "[1, 2]",
    '{"id": 1}',
    '{"id": 2, "prompt": "x", "temprature": 1}',
    '{"id": 3, "prompt": "x", "temperature": -1}',
    '{"id": 4, "prompt": "' + "x" * 33 + '"}',
    '{"id": 5, "prompt": ""}',
    '{"id": 6, "prompt": "x", "max_new_tokens": 13}',
    '{"id": 7, "prompt": "x", "samples": "two"}',
    '{"id": 8, "prompt": "x", "seed": 1.5}',
    '{"id": 9, "prompt": "\\ud800"}',
    "[" * 100_000,
]
ARGUMENTS = ["--max-prompt", 32, "--max-new-tokens", 12, "--slots", 2, "--places", 4, "--steps", 4]


def serve(jaxdec, models, path, *more, method="lookup"):
    argv = ["--method", method, "--target", models / "target", "--input", path, *ARGUMENTS, *more]
    code, out, err = jaxdec("serve", *argv)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def test_lines_are_answered_as_generate_answers_them(jaxdec, models, tmp_path):
    lines = [json.dumps(each) for each in ASKED]
    (tmp_path / "lines").write_text("\n".join([BAD[0], lines[0], *BAD[1:], "", *lines[1:], ""]))
    answers, err = serve(jaxdec, models, tmp_path / "lines", "--stream", "--prefix", "import os")
    refused = [each for each in answers if "error" in each]
    assert [each["id"] for each in refused] == [None, None, *range(1, 10), None]
    done = {(each["id"], each["sample"]): each for each in answers if "status" in each}
    assert set(done) == {("a", 0), ("b", 0), ("b", 1), ("c", 0)}
    assert "4 answered, 12 refused" in err
    for (name, sample), answer in done.items():
        (asked,) = [each for each in ASKED if each["id"] == name]
        argv = ["--prompt", asked["prompt"], "--seed", asked.get("seed", 0), "--json"]
        argv += [
            "--max-new-tokens",
            asked.get("max_new_tokens", 12),
            "--n",
            asked.get("samples", 1),
        ]
        argv += ["--temperature", asked.get("temperature", 1.0), "--method", "autoregressive"]
        code, out, _ = jaxdec("generate", "--target", models / "target", *argv)
        assert code == 0
        row = json.loads(out)["rows"][sample]
        assert (answer["text"], answer["status"]) == (row["text"], row["status"])
        told = "".join(
            each["new_text"]
            for each in answers
            if "new_text" in each and each["request"] == answer["request"]
        )
        assert answer["text"].startswith(told)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--slots", 0], "slots"),
        (["--prefix", ""], "0 tokens"),
        (["--max-new-tokens", 2**31], "max"),
        (["--method", "nothing"], "nothing"),
        (["--input", "no/such/file"], "no/such/file"),
    ],
)
def test_bad_options_end_with_one_line(jaxdec, models, more, message):
    code, out, err = jaxdec("serve", "--target", models / "target", *more)
    assert code == 2 and not out
    assert message in err and len(err.splitlines()) == 1


def test_samples_wait_for_room(jaxdec, models, tmp_path):
    """More than there is room for beside what waits already, but no more than there are places."""
    lines = [{"id": n, "prompt": "x", "samples": 3, "max_new_tokens": 2} for n in range(4)]
    lines.append({"id": 4, "prompt": "x", "samples": 5})
    (tmp_path / "lines").write_text("\n".join(map(json.dumps, lines)))
    answers, _ = serve(jaxdec, models, tmp_path / "lines")
    (refused,) = [each for each in answers if "error" in each]
    assert refused["id"] == 4 and "must be at most 4" in refused["error"]
    done = sorted((each["id"], each["sample"]) for each in answers if "status" in each)
    assert done == [(name, sample) for name in range(4) for sample in range(3)]
