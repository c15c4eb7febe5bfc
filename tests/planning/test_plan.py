"""Chips, least work and conclusions, by hand; and what cannot be planned."""

import dataclasses

import pytest

from jaxdec.planning import CHIPS, Task, Topology, depths, plan, work
from jaxdec.planning.fitting import bytes_held, memory, named
from jaxdec.planning.plan import TOKENS, assembled, speculation, verification

TASK = Task("llama-8b", "v5e:2x2", data=2, model_axis=2, batch=4, context=1024)
CHIP = dataclasses.replace(CHIPS["v5e"], bandwidth=100.0, flops=1000.0, links=10.0, usable=1000)


def test_topologies():
    found = Topology.parse("v5e:4x4")
    assert (found.chips, found.name, found.compiled) == (16, "v5e:4x4", "v5e:4x4")
    assert Topology.parse("v5e:1x1").compiled == "v5e:2x2"
    assert Topology.parse("v4:2x2x2").chips == 8
    for chip in CHIPS.values():
        sizes = [Topology.parse(name).chips for name in chip.slices]
        assert sizes == sorted(sizes)
        assert chip.usable <= chip.memory


def test_the_least_time_and_bytes():
    assert work.seconds(CHIP, {"bytes": 200, "flops": 1000, "sent": 5}) == 2.5
    assert work.seconds(CHIP, {"bytes": 200, "flops": 5000, "sent": 0}) == 5
    least = work.least_bytes(
        weights=100,
        draft_weights=10,
        keys=50,
        draft_keys=5,
        depth=3,
        rows=2,
        tokens=4,
        vocab_size=7,
    )
    assert least == {"weights": 100, "keys": 50, "drafting": 45, "outputs": 224}


def test_counts_go_on_in_a_straight_line():
    first = {"bytes": 10, "moved": {"copies": 4}, "seen": [1, 2]}
    second = {"bytes": 16, "moved": {"copies": 6, "other": 1}, "seen": [1, 3]}
    found = work.along(first, second, 10)
    assert found == {"bytes": 70, "moved": {"copies": 24, "other": 10}, "seen": [1, 12]}


def program(nbytes, tokens=1, depth=0):
    return {"usual": {"bytes": nbytes, "flops": 0.0, "sent": 0.0}, "tokens": tokens, "depth": depth}


def test_costs_of_verification():
    rows = verification(CHIP, program(100), program(163))
    assert [row["times_one"] for row in rows] == pytest.approx([1, 1.07, 1.15, 1.31, 1.63])


@pytest.mark.parametrize(("cost", "word"), [(300, "Yes"), (500, "No")])
def test_whether_to_speculate(cost, word):
    found = speculation(CHIP, {1: program(100), 64: program(163), None: program(cost, 9, depth=4)})
    assert found["break_even"] == cost / 100
    assert found["most_tokens"] == 5
    assert found["cheap_tokens"] == 16
    assert found["words"].startswith(word)


def test_what_fits():
    held = {"arguments": 700, "params": 400, "cache": 200, "temporaries": 50, "code": 50}
    found = memory(TASK, CHIP, {"memory": held})
    assert found["fits"] and found["needed"] == 800
    assert found["smallest"] is None
    assert (found["most_rows"], found["most_context"]) == (6, 2048)  # 125 a row of the chip's two


def test_what_does_not_fit():
    held = {"arguments": 1300, "params": 400, "cache": 800, "temporaries": 80, "code": 50}
    slices = {
        "v5e:2x2, data 2 x model 2": (4, 2, 400, 800),
        "v5e:2x4, data 8 x model 1": (8, 8, 800, 200),
        "v5e:2x4, data 4 x model 2": (8, 4, 400, 400),
        "v5e:2x4, data 2 x model 4": (8, 2, 300, 400),
        "v5e:4x4, data 4 x model 4": (16, 4, 200, 200),
    }
    elsewhere = {
        name: {"chips": n, "data": data, "model": n // data, "params": params, "cache": cache}
        for name, (n, data, params, cache) in slices.items()
    }
    found = memory(TASK, CHIP, {"memory": held, "elsewhere": elsewhere})
    assert not found["fits"]
    assert (found["most_rows"], found["most_context"]) == (2, 448)
    assert found["smallest"] == {
        "topology": "v5e:2x4",
        "data": 2,
        "model": 4,
        "needed": 300 + 400 + 40 + 150,
    }
    found = memory(TASK, CHIP, {"memory": held, "elsewhere": {}})
    assert found["smallest"] is None


def test_what_the_compiler_says_of_a_program_that_it_refuses():
    words = (
        "Ran out of memory on HBM, the total memory required for HLO temporaries (19.50G) exceeds"
    )
    assert named(f"RESOURCE_EXHAUSTED: {words} available HBM (15.75G).") == round(19.5 * 2**30)
    assert named("RESOURCE_EXHAUSTED: something else") is None
    held = bytes_held(None, 1000, params=600, cache=300)
    assert (held["arguments"], held["temporaries"]) == (900, 100)


def test_a_program_that_was_refused_leaves_memory_alone():
    refused = {"usual": None, "widest": None, "tokens": 33, "depth": 4}
    held = {"arguments": 1700, "params": 900, "cache": 800, "temporaries": 80, "code": 0}
    spent = {"seconds": [1.0], "processor_seconds": [1.0]}
    both = [{**refused, "memory": held, "elsewhere": {}, **spent}] * 2
    own = {**work.along(both[0], both[1], 3.0), **spent}
    plain = {tokens: {**program(100), **spent} for tokens in (1, TOKENS[-1])}
    found = assembled(TASK, CHIP, {None: own, **plain}, [2, 4])
    assert (found["memory"]["needed"], found["memory"]["fits"]) == (1780, False)
    assert found["step"] is found["wide_step"] is found["speculation"] is None
    assert len(found["verification"]) == len(TOKENS)
    found = assembled(TASK, CHIP, {None: own, 1: own, TOKENS[-1]: own}, [2, 4])
    assert found["verification"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"topology": "v5e:4x4"},
            "data 2 x sequence 1 x model 2 is 4 chips, topology v5e:4x4 has 16",
        ),
        ({"topology": "v9:2x2"}, "no TPU 'v9'"),
        ({"topology": "v5e:2x2x2"}, "2 sizes of at least 1"),
        ({"topology": "v5e:0x2"}, "2 sizes of at least 1"),
        ({"model": "llama-9b"}, "no model 'llama-9b'.*llama-8b"),
        ({"method": "autoregresive"}, "no method 'autoregresive'"),
        ({"method": "assd"}, "fills gaps"),
        ({"method": "beams"}, "decodes several hypotheses"),
        ({"method": "threshold"}, "no mask token"),
        ({"model": "llada-8b"}, "does not decode a canvas"),
        ({"method": "eagle-3"}, "eagle3 heads"),
        ({"method": "draft"}, "name one by --draft"),
        ({"method": "draft", "draft": "qwen3-0.6b"}, "151936 tokens, llama-8b has 128256"),
        ({"batch": 3}, "batch 3 does not divide over data 2"),
        ({"context": 2**20}, "context must be 64 to 131072"),
        ({"dtype": "int8"}, "dtype must be one of bfloat16, float32"),
        ({"data": 0}, "data must be at least 1, got 0"),
        (
            {"topology": "v5e:4x8", "model_axis": 16},
            "kv_heads 8 of llama-8b do not divide over model 16",
        ),
    ],
)
def test_what_cannot_be_planned(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(dataclasses.replace(TASK, **changes))


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, [2, 4]),  # 218 MB a layer and chip
        ({"model_axis": 8}, [5, 10]),
        ({"model_axis": 1}, [1, 2]),
        ({"model": "qwen3-0.6b", "model_axis": 1}, [9, 18]),
        ({"model": "qwen3-0.6b"}, [28]),
    ],
)
def test_layers_that_stand_for_a_network(changes, layers):
    assert depths(dataclasses.replace(TASK, **changes)) == layers


def test_one_number_of_layers_is_all_of_them():
    with pytest.raises(ValueError, match="own 32, got 4"):
        plan(TASK, layers=(4,))
