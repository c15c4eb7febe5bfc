"""`jaxdec plan`: what is printed of a plan, and a whole one of a shipped model."""

import importlib.util
import json

import pytest

from jaxdec.cli.plan import short, show
from tests.parallel.processes import needs_tpu_compiler

FOUND = {
    "task": {
        "model": "llama-8b",
        "method": "eagle",
        "topology": "v5e:2x2",
        "data": 1,
        "sequence": 1,
        "model_axis": 4,
        "batch": 16,
        "context": 8192,
        "dtype": "bfloat16",
    },
    "chip": {"name": "v5e"},
    "layers": {"whole": 32, "compiled": [2, 4]},
    "memory": {
        "params": 4e9,
        "cache": 14e9,
        "temporaries": 1e9,
        "code_and_state": 1e6,
        "needed": 19.001e9,
        "available": 17.18e9,
        "fits": False,
        "most_rows": 13,
        "most_context": 7104,
        "smallest": {"topology": "v5e:2x4", "data": 1, "model": 8, "needed": 9.5e9},
    },
    "step": {
        "bytes": 18e9,
        "times_least": 1.04,
        "flops": 2e12,
        "sent": 3e7,
        "seconds": 0.022,
        "collectives": {"all-reduce bf16 over 4": {"times": 65, "bytes": 17e6}},
    },
    "verification": [{"tokens": 1, "times_one": 1.0}, {"tokens": 64, "times_one": 1.5}],
    "speculation": {"words": "Yes: it pays."},
}


def test_what_is_printed(capsys):
    show(FOUND)
    printed = capsys.readouterr().out
    for words in (
        "data 1 x sequence 1 x model 4",
        "programs of 2 and 4 layers, continued to 32",
        "18 GB",
        "22.000 ms",
        "all-reduce bf16 over 4",
        "Does not fit: params 4 GB, cache 14 GB, temporaries 1 GB, code and state 1 MB are 19 GB, 1.82 GB more than a "
        "chip gives a program; there is room for 13 rows of this context, or for 7104 tokens a row; the smallest slice "
        "that holds it is v5e:2x4 as data 1 x model 8, with 9.5 GB a chip.",
        "Yes: it pays.",
    ):
        assert words in printed


def test_a_program_that_the_compiler_refused_has_no_figures(capsys):
    memory = {**FOUND["memory"], "most_rows": 0, "most_context": 0, "smallest": None}
    without = dict.fromkeys(("step", "wide_step", "verification", "speculation"))
    show({**FOUND, **without, "memory": memory})
    printed = capsys.readouterr().out
    assert "params" in printed and "the compiler refused it" in printed
    assert "no row has room; no slice of these chips holds it." in printed
    assert "bytes a step" not in printed and "times the cost of one" not in printed


def test_numbers_in_short():
    assert [short(value) for value in (12, 1234, 5.6e6, 2e9, 3e12)] == [
        "12 ",
        "1.23 k",
        "5.6 M",
        "2 G",
        "3 T",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--topology", "v5e:4x4", "--placement", "data=2,model=4"],
            "is 8 chips, topology v5e:4x4 has 16",
        ),
        (["--topology", "v7:2x2"], "no TPU 'v7'"),
        (["--model", "llama-3b"], "no model 'llama-3b'"),
        (["--method", "medussa"], "no method 'medussa'"),
        (["--method", "dflash"], "dflash heads"),
        (["--layers", "4"], "--layers must be two numbers"),
        (["--plot", "plan.exe"], "must end with one of"),
        (["--json", "no/such/folder/plan.json"], "there is no folder"),
        (["--refresh", "never"], "--refresh must be one of"),
    ],
)
def test_bad_input_is_one_line(jaxdec, options, message):
    given = ["plan", "--model", "llama-8b", "--topology", "v5e:1x1", "--batch", "2"]
    code, out, err = jaxdec(*given, *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and message in err


def test_without_the_compiler(jaxdec, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = jaxdec(
        "plan", "--model", "code-target", "--topology", "v5e:1x1", "--context", 256
    )
    assert code == 2
    assert "pip install 'jaxdec[tpu]'" in err


@pytest.mark.slow
@needs_tpu_compiler
def test_a_whole_plan(jaxdec, tmp_path):
    held, drawn = tmp_path / "plan.json", tmp_path / "plan.svg"
    sizes = ["--batch", 4, "--context", 256, "--nodes", 7, "--layers", "1,2"]
    split = ["--topology", "v5e:2x2", "--placement", "data=2,model=2"]
    code, out, err = jaxdec(
        "plan",
        "--model",
        "code-target",
        *split,
        *sizes,
        "--method",
        "lookup-tree",
        "--json",
        held,
        "--plot",
        drawn,
    )
    assert code == 0, err
    found = json.loads(held.read_text())
    assert found["memory"]["fits"]
    assert found["tokens_a_forward"] == 8
    sums = found["step"]["collectives"]["all-reduce bf16 over 2"]
    assert sums["times"] == 2 * found["layers"]["whole"] + 1  # two a layer, one for the embedding
    assert found["step"]["kernels"]["span_attention"] == found["layers"]["whole"]
    assert found["step"]["bytes"] > 0 and found["step"]["seconds"] > 0
    assert "tokens a forward" in out
    assert drawn.stat().st_size > 1000
