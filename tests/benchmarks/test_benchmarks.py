"""The harness: every case runs on tiny checkpoints, and the report says what the JSON files say."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdec
from benchmarks import canvases, charts, optimal, report, workload
from benchmarks.__main__ import main
from benchmarks.agreement import first_differences
from benchmarks.case import ANY_SUBSET, CANVAS, CAUSAL, FILLED, check
from benchmarks.cases import CASES, diffusion, diffusion_cache, requests, soak, speculation
from benchmarks.variants import plain
from jaxdec import checkpoints, growth, text
from jaxdec.catalogue import DENOISING, METHODS, REFRESH_RULES
from jaxdec.decoding import Rows
from jaxdec.diffusion import canvas_model
from jaxdec.model import Inputs, from_nnx
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.speculative.tree import RankTree
from jaxdec.testing import oracles
from jaxdec.testing.oracles import hash_oracle
from jaxdec.training.corpus import Source
from tests.benchmarks import humaneval_files

RUN = [name for name, case in CASES.items() if case.models is not None and not case.modules]
NAMES = {
    kind: [name for name in RUN if CASES[name].models.kinds == kind.kinds]
    for kind in (CAUSAL, ANY_SUBSET, CANVAS, FILLED)
}
MACHINE = {"device", "devices", "cpu", "cores", "jax", "commit", "date", "copy_bytes_per_second"}
TIMED = {
    *("method", "exactness", "batch", "temperature", "draft_length", "prompt_tokens", "new_tokens"),
    *("tokens_per_second", "tokens_per_forward", "acceptance", "loop_steps", "identical"),
    *("seconds", "seconds_quartiles", "prefill_seconds", "compile_seconds", "repeats"),
    *("wall_ratio", "wall_ratio_quartiles", "end_to_end_ratio", "bytes_per_second"),
    *("bandwidth_share", "verify_ratio", "draft_ratio", "predicted_ratio"),
}


def save(path, width, layers, fills=None):
    config = TransformerConfig(
        vocab_size=text.VOCAB_SIZE,
        width=width,
        layers=layers,
        heads=2,
        kv_heads=1,
        head_dim=8,
        hidden=64,
    )
    _, params = from_nnx(Transformer(config, rngs=nnx.Rngs(layers)))
    block = 8 if fills == "blocks" else None
    mask = None if fills is None else text.MASK
    checkpoints.save(
        path, config, params, eos=[text.EOS], fills=fills, mask_token=mask, block_size=block
    )
    return str(path)


def pair(root, fills=None, role="draft"):
    """The options that name a tiny pair."""
    target = save(root / "t", 32, 2, fills)
    second = save(root / "d", 16, 1, fills if role == "draft" else None)
    return ["--target", target, f"--{role}", second]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every case's result, run as a user runs it."""
    root = tmp_path_factory.mktemp("benchmarks")
    causal, infills = pair(root / "causal"), pair(root / "infills", "subsets")
    models = dict.fromkeys(NAMES[CAUSAL], causal) | dict.fromkeys(NAMES[ANY_SUBSET], infills)
    models |= dict.fromkeys(NAMES[CANVAS], pair(root / "canvas", "blocks", "judge"))
    filled = ["--target", save(root / "filled" / "t", 32, 2, "canvas")]
    models |= dict.fromkeys(NAMES[FILLED], filled)
    humaneval_files.write(root)
    jax.config.update("jax_disable_most_optimizations", True)  # these programs run for a moment
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDEC_DATA", str(root))
        for case in RUN:
            options = ["--quick", *models[case], "--results", str(root / "results")]
            assert main(["run", case, *options]) == 0
    jax.config.update("jax_disable_most_optimizations", False)
    found = report.load(root / "results")
    assert [result["case"] for result in found] == RUN
    return {result["case"]: result for result in found}


@pytest.mark.parametrize("case", RUN)
def test_a_result_says_where_it_comes_from(results, case):
    result = results[case]
    assert set(result["machine"]) >= MACHINE
    assert result["quick"] and result["rows"]
    models = CASES[case].models
    target, *others = result["models"].values()
    assert list(result["models"]) == list(models.named(target, *(others or [None])))
    assert all(target["parameters"] > second["parameters"] for second in others)


@pytest.mark.parametrize("case", NAMES[ANY_SUBSET][:3])
def test_rows_about_gaps(results, case):
    for row in results[case]["rows"]:
        if row["exactness"] == "token-identical":
            assert row["identical"] == 1.0
        assert row["forwards_per_token"] <= 1
        assert row["target_rows"] >= 2 * row["target_forwards"]
        if case != "any_subset":
            assert row["compile_seconds"] > 0 and row["seconds"] > 0
    if case == "any_subset":
        assert {row["masked"] for row in results[case]["rows"]} == {0.5, 0.95}
        assert all(0 < row["bits_per_byte"] < 20 for row in results[case]["rows"])
    if case == "any_subset_grown":
        assert sum(row["method"] == "auto" for row in results[case]["rows"]) == 2
    if case == "any_subset_cache":
        assert results[case]["rows"][0]["times_cached"] == 1.0


@pytest.mark.parametrize("case", ["pair", "grown"])
def test_timed_rows(results, case):
    for row in results[case]["rows"]:
        assert set(row) >= TIMED
        plain = row["draft_length"] == 0
        assert 1 <= row["tokens_per_forward"] <= row["draft_length"] + 1
        assert row["tokens"] == row["prompts"] * row["new_tokens"]
        assert row["compile_seconds"] > 0
        assert row["identical"] == (None if row["method"] == "plain" else 1.0)
        if not plain:
            cost = row["verify_ratio"] + row["draft_length"] * row["draft_ratio"]
            assert row["predicted_ratio"] == pytest.approx(row["tokens_per_forward"] / cost)


def test_controls(results):
    for case in ("pair", "tokens_per_forward"):
        rows = {(row["method"], row["temperature"]): row for row in results[case]["rows"]}
        for temperature in (0.0, 0.8):
            assert rows["draft = target 2", temperature]["acceptance"] == 1
            assert rows["uniform draft 2", temperature]["acceptance"] < 1
            assert rows["uniform draft 2", temperature]["identical"] == 1


def test_grown_targets_keep_the_text(results):
    rows = results["grown"]["rows"]
    assert {row["target"] for row in rows} == {"shipped", "grown"}
    assert {row["method"] for row in rows} == {"plain", "draft 2", "auto"}
    assert all(row["same_text_as_shipped"] == 1 for row in rows)
    sizes = [row["parameters"] for row in rows if row["method"] == "plain"]
    assert sizes[1] > 1.5 * sizes[0]


def test_step_overhead_is_step_over_forward(results):
    for row in results["step_overhead"]["rows"]:
        low, high = row["overhead_quartiles"]
        assert 0 < low <= row["overhead"] <= high
        assert row["bar"] == 1.15


def test_loads_beside_plain_and_the_best_fixed_length(results):
    rows = results["load"]["rows"]
    assert [row["method"] for row in rows] == ["plain", "draft 2", "adaptive by load"]
    plain, fixed, adaptive = rows
    assert plain["cost_ratio"] == 1 and plain["drafts"] == 0 and fixed["drafts"] == 2
    assert fixed["cost_ratio"] > 0 and 0 <= adaptive["drafts"] <= 2
    assert adaptive["best"] in ("plain", "draft 2") and adaptive["bar"] == 1
    for row in (fixed, adaptive):
        low, high = row["times_plain_quartiles"]
        assert 0 < low <= row["times_plain"] <= high
        assert row["identical"] == 1 and row["tokens"] == plain["tokens"]
    assert adaptive["times_best"] > 0


def test_parts_of_a_step_beside_the_step(results):
    rows = results["step_parts"]["rows"]
    assert {row["weights"] for row in rows} >= {"t", "tiny"}
    for row in rows:
        assert row["step_seconds"] > 0 and row["step_share"] > 0
        assert row["part"] != "plain step" or row["step_share"] == 1


def test_host_overhead_is_a_call_less_a_bare_forward(results):
    rows = results["host_overhead"]["rows"]
    assert [(row["batch"], row["temperature"]) for row in rows] == [
        (1, 0),
        (1, 0.8),
        (8, 0),
        (8, 0.8),
    ]
    for row in rows:
        low, high = row["host_seconds_quartiles"]
        assert low <= row["host_seconds"] <= high
        assert row["seconds"] > 0 and row["bare_seconds"] > 0 and row["prepare_seconds"] > 0
        assert row["tokens"] == row["batch"] and row["repeats"] == 3


def test_a_soak_loses_nothing_and_changes_nothing(results):
    *parts, total = results["soak"]["rows"]
    assert [(row["models"], row["method"]) for row in parts] == list(soak.SHARES)
    assert total["requests"] == 60
    for row in results["soak"]["rows"]:
        none = ("wrongly_refused", "lost", "duplicates", "mismatches")
        assert [row[name] for name in none] == [0] * len(none), row
        assert row["compared"] == row["samples"] == sum(row["outcomes"].values())
    for row in parts:
        assert row["compiled"] == 0, row["programs"]


def test_requests_under_load_have_the_tokens_of_static_batches(results):
    rows = results["requests"]["rows"]
    assert len(rows) == 2 * (6 + 2)
    for row in rows:
        assert row["identical"] == 1 and row["requests"] == 4
        assert row["tokens_per_second"] > 0
        for what in ("first", "token", "whole"):
            assert 0 <= row[f"{what}_50_seconds"] <= row[f"{what}_95_seconds"]
        if row["load"] is not None:
            assert row["requests_per_second"] > 0
        elif row["method"] == "static batches":
            assert row["times_static"] == 1
    drawn = requests.latencies(rows, "whole")
    assert list(drawn) == [
        f"{d}: {m}" for d in ("plain", "draft 4") for m in ("static batches", "engine")
    ]
    assert len(requests.figure(rows).axes) == 3


def test_agreement_with_plain_decoding(results):
    for row in results["tokens_per_forward"]["rows"]:
        if row["exactness"] == "distribution-identical" and row["temperature"] > 0:
            continue  # the same law, other tokens
        assert row["identical"] == 1 and row["identical_rows"] == row["prompts"]
        assert row["first_differences"] == []
        assert len(row["acceptance_by_depth"]) == row["draft_length"]


def test_speculation_by_method_and_by_nodes(results):
    rows = results["speculation"]["rows"]
    families = ("dynamic-tree", "sequoia", "rsd-s", "comb")
    names = ["draft", "lookup", "specinfer-recursive", *families]
    for temperature in (0.0, 0.8):
        here = {row["method"]: row for row in rows if row["temperature"] == temperature}
        edited = here.pop("lookup, editing", None)
        assert (edited is None) == bool(temperature)  # the text is forced
        assert edited is None or edited["identical"] == 1.0
        assert list(here) == names
        for name, row in here.items():
            assert row["tokens"] == row["prompts"] * row["new_tokens"] == 2 * 8
            accepted = row["accepted_by_depth"]
            assert accepted[0] == row["target_forwards"] and len(accepted) == row["depth"] + 1
            for depth, share in enumerate(row["acceptance_by_depth"]):
                assert share is None or share == accepted[depth + 1] / accepted[depth]
            assert row["nodes_per_forward"] <= row["nodes"]
            same = row["exactness"] == "token-identical" or temperature == 0
            assert row["identical"] == (1.0 if same else None)
            assert row["family"] == (name if name in families else "")
            drawn = name not in ("lookup", "dynamic-tree") and temperature > 0
            assert (row["root_optimal"] is not None) == drawn
            assert not drawn or row["root_expected"] <= row["root_optimal"] + 1e-6
            assert 0 <= row["repeated"] <= 1 and row["tokens_per_forward_error"] >= 0
        assert all(here[name]["nodes"] == 4 for name in families)
        best = max(here.values(), key=lambda row: (row["nodes"] > row["depth"], row["bar"] or 0))
        assert best["bar"] == speculation.TREE_BARS[temperature]
        assert best["about"] == "best tree within 64 nodes"
    assert here["lookup"]["bar"] == 1.5


def test_the_automatic_choice(results):
    rows = results["auto"]["rows"]
    assert {row["target"] for row in rows} == {"shipped", "grown"}
    for place, row in enumerate(rows):
        if row["method"] == "plain":
            assert rows[place + 1]["method"] == "auto", "the choice stands beside plain decoding"
            assert row["predicted"] == 1
            continue
        assert row["identical"] == 1.0 and row["predicted"] > 0
        assert (row["of_best"] is None) == (row["method"] != "auto")


def test_acceptance_next_to_the_highest_that_is_possible(results):
    rows = results["optimal_acceptance"]["rows"]
    single = [row["verifier"] for row in rows if row["siblings"] == 1]
    assert {"walk", "token", "block", "recursive", "kseq"} <= set(single)
    drawings = {row["drawing"] for row in rows if row["siblings"] == 2}
    assert len(drawings) == 3
    for row in rows:
        assert 0 <= row["acceptance"] <= 1
        assert (row["optimal"] is None) == row["drawing"].startswith("one drawn")
        assert row["gap"] is None or row["gap"] > -1e-6


def test_measured_acceptance_of_known_laws(quick_compilation):
    p, q = jnp.array([[0.5, 0.3, 0.2, 0.0]]), jnp.array([[0.1, 0.2, 0.3, 0.4]])
    many = [jnp.broadcast_to(law, (400, 4)) for law in (p, q)]
    overlap = 0.1 + 0.2 + 0.2
    chain, pair = growth.fixed(RankTree.chain(1)), growth.independent(2, 1)
    model, params = hash_oracle(4)
    request = jaxdec.prepare(
        jaxdec.autoregressive(model),
        {"target": params},
        np.zeros((400, 1), np.int32),
        temperature=optimal.TEMPERATURE,
    )
    start = Rows.start(request, 4)

    def measure(verifier, growth, replacement=False):
        share = optimal.accepted_share(
            verifier(), growth, start, request.settings, *many, 10, replacement
        )
        accepted, bound = map(float, share)
        highest = jaxdec.verifiers.optimal_acceptance(p, q, growth.nodes, replacement=replacement)
        assert accepted <= bound + 1e-6  # of the same draws
        assert bound == pytest.approx(float(highest[0]), abs=0.03)
        return accepted

    assert measure(jaxdec.verifiers.TokenRatio, chain) == pytest.approx(overlap, abs=0.03)
    assert measure(jaxdec.verifiers.RecursiveRejection, chain) == pytest.approx(overlap, abs=0.03)
    # Rejected, the law left is (0.4, 0.1, 0, 0) / 0.5, of which a second draw meets 0.1 + 0.2.
    expected = overlap + (1 - overlap) * 0.3
    assert measure(jaxdec.verifiers.RecursiveRejection, pair, True) == pytest.approx(
        expected, abs=0.03
    )
    walk = measure(jaxdec.verifiers.SharedNoiseWalk, chain)
    # Of the Gumbel coupling: the sum over v of 1 / sum_u max(p_u / p_v, q_u / q_v).
    assert walk == pytest.approx(1 / 10 + 1 / 6.167 + 1 / 6.333, abs=0.03)


def test_a_comb_has_a_chain_with_siblings():
    held = SimpleNamespace(model=hash_oracle(8)[0], params=None)
    setting = SimpleNamespace(target=held, draft=held)
    for nodes, depth in [(4, 2), (8, 4), (16, 8), (64, 8)]:
        shape = speculation.comb(setting, nodes).decoder.drafter.growth.shape
        assert len(shape.parents) == nodes and max(shape.depths) == depth
        assert set(shape.parents) == {-1, *range(0, nodes - nodes // depth, nodes // depth)}


def test_the_chart_of_trees_has_a_line_a_family(results, tmp_path):
    rows = results["speculation"]["rows"]
    found = speculation.curves(rows, 0.0)
    assert set(found) == {"dynamic-tree", "sequoia", "rsd-s", "comb"}
    (row,) = [r for r in rows if (r["method"], r["temperature"]) == ("comb", 0.0)]
    assert found["comb"] == [(4, row["tokens_per_forward"])]
    for ax in speculation.chart(rows).axes:
        assert [label.get_text() for label in ax.texts] == [*found, "chain"]
    (path,) = charts.write([results["speculation"]], tmp_path)
    assert path == tmp_path / "docs" / "images" / "speculation.svg"
    assert path.read_bytes().count(b"</svg>") == 1


def test_filled_gaps(results):
    rows = results["infilling"]["rows"]
    assert len(rows) == 3 * (1 + 2 * 7)
    for row in rows:
        assert (row["problems"], row["in_file"]) == (2, 5)
        assert (row["left_out_empty"], row["left_out_long"]) == (1, 1)
        assert sum(row["verdicts"].values()) == 2 and row["passes"] <= row["parses"]
        if row["method"] == "true text":
            assert row["exact"] == row["parses"] == row["passes"] == 1
        elif row["method"] == "sequential":
            assert row["forwards_per_byte"] == 1 and row["identical"] is None
        elif row["exactness"] == "token-identical":
            assert row["identical"] == 1 and row["identical_rows"] == 2
        assert row.get("rows_per_byte", 0) >= row.get("forwards_per_byte", 0)
    scored = ("exact", "parses", "passes", "bits_per_byte", "entropy")
    worth = {}
    for row in rows:
        if row["exactness"] == "token-identical":
            worth.setdefault((row["file"], row["temperature"]), set()).add(
                tuple(row[name] for name in scored)
            )
    assert len(worth) == 6 and all(len(found) == 1 for found in worth.values())


def test_canvases_by_policy(results):
    true, *rows = results["diffusion"]["rows"]
    assert true["method"] == "true text" and true["bits_per_byte"] > 0
    drafting = [row for row in rows if row["method"] == "diffuspec"]
    rows = [row for row in rows if row["method"] != "diffuspec"]
    temperatures = (0.0, 1.0)
    assert [(row["temperature"], row["top_p"]) for row in drafting] == [(0.0, 1.0), (1.0, 0.9)]
    for row in drafting:
        assert row["identical_rows"] == 1 and row["exactness"] == "token-identical"
    assert len(rows) == 2 * (1 + 2)
    bits = {row["temperature"]: row["bits_per_byte"] for row in rows[::3]}
    for row in rows:
        assert row["tokens"] == row["prompts"] * row["new_tokens"] == 2 * 16
        assert 1 <= row["tokens_per_forward"] <= row["block"] == 8
        assert row["rows_per_token"] * row["tokens"] == row["target_rows"]
        # A block of 8 positions in each forward, and the block before it in the first of the second block.
        assert row["target_rows"] == 8 * (row["target_forwards"] + row["prompts"])
        assert row["bits_per_byte"] > 0 and 0 <= row["entropy"] <= 4
        if row["setting"] in ("", "threshold 1"):
            assert row["tokens_per_forward"] == 1
            assert row["identical_rows"] == row["identical"] == 1
        # Whatever the policy, the reference is the text from left to right.
        expected = row["bits_per_byte"] / bits[row["temperature"]] - 1
        np.testing.assert_allclose(row["worse"], expected, atol=1e-6)
        assert 0 < row["distinct"] <= 1 and row["top_p"] == (0.9 if row["temperature"] else 1)
    for temperature in temperatures:
        same = [r for r in rows if r["temperature"] == temperature]
        assert same[0]["method"] == "left-to-right" and same[0]["best"] and same[0]["worse"] == 0


def test_the_chart_is_drawn_from_the_results(results, tmp_path):
    rows = results["diffusion"]["rows"]
    found = diffusion.curves([*rows, {**rows[2], "block": 4}])
    assert {name: [len(curve) for curve in lines.values()] for name, lines in found.items()} == {
        "left-to-right": [1, 1],
        "threshold": [2, 2],
    }
    assert found["left-to-right"][0.0] == [(1.0, rows[1]["bits_per_byte"])]
    panels = [ax.get_title() for ax in diffusion.chart(rows).axes if ax.axison]
    assert panels == ["threshold"]
    # What a tiny model writes is degenerate, and is not drawn; as if it were not.
    assert charts.write([results["diffusion"]], tmp_path) == []
    as_true = {name: rows[0][name] for name in ("blanks", "entropy")}
    sound = {**results["diffusion"], "rows": [{**row, **as_true} for row in rows]}
    (path,) = charts.write([sound], tmp_path)
    assert path == tmp_path / "docs" / "images" / "diffusion.svg"
    drawn = path.read_bytes()
    assert drawn.count(b"</svg>") == 1
    assert len(charts.write([*{**results, "diffusion": sound}.values()], tmp_path)) == 4
    assert path.read_bytes() == drawn
    with pytest.raises(ValueError, match="no result of the cases speculation, diffusion"):
        charts.write([results["pair"]], tmp_path)


def test_the_best_setting_is_the_fastest_that_is_not_much_worse():
    def row(speed, worse, method="threshold", entropy=0.0):
        found = {"method": method, "block": 8, "worse": worse, "less_varied": entropy}
        return {**found, "tokens_per_forward": speed}

    rows = [row(1, 0.0), row(3, 0.05), row(2, -0.1), row(9, 0.06), row(8, -0.2, entropy=0.3)]
    rows += [row(3, 0.0), row(1, 0.2, "saber")]
    found = diffusion._best(rows)
    assert [row["best"] for row in found] == [False, True, *[False] * 5]


def test_sweeps_come_after_their_baselines():
    seen = set()
    for sweep in diffusion.SWEEPS:
        assert sweep.baseline is None or sweep.baseline in seen
        seen.add(sweep.method)
    assert seen == {name for name in DENOISING if METHODS[name].benchmark == "diffusion"}


def test_a_judge_scores_given_the_prompt_and_the_text_so_far(quick_compilation):
    model, params = hash_oracle(text.VOCAB_SIZE)
    setting = SimpleNamespace(draft=SimpleNamespace(model=model, params=params))
    tokens = np.array([[97, 98, 99, 100, 101], [97, 98, 99, 97, 97]])
    held = workload.Prompts(tokens[:, :2], np.array([2, 2]))
    judge = canvases.Judge(setting, held)
    law = jax.nn.log_softmax(model(params, Inputs.causal(jnp.asarray(tokens)), None).logits)
    chosen = [[law[row, i - 1, tokens[row, i]] for i in (2, 3, 4)] for row in range(2)]
    expected = -np.mean(chosen, axis=1) / np.log(2)
    np.testing.assert_allclose(judge.bits(tokens[:, 2:]), expected, rtol=1e-5)
    found = judge.worth(tokens[:, 2:], tokens[[0, 0], 2:])
    assert found["worse"] == pytest.approx(expected.mean() / expected[0] - 1, rel=1e-4)
    assert (found["identical"], found["identical_rows"]) == (4 / 6, 1 / 2)
    assert found["entropy"] == pytest.approx(np.log2(3) - 1 / 3)
    assert found["less_varied"] == pytest.approx(1 / 3 / np.log2(3))


def test_caches_of_canvases(results):
    rows = {row["method"]: row for row in results["diffusion_cache"]["rows"]}
    none, block, true = rows.values()
    assert list(rows) == ["none", "block", "true text"] and true["blanks"] > 0
    assert block["identical"] == block["identical_rows"] == 1 and block["worse"] == 0
    assert block["target_forwards"] == none["target_forwards"]
    assert block["rows_per_forward"] < none["rows_per_forward"] / 2
    assert block["seconds"] > 0 and block["wall_ratio"] > 0 and none["wall_ratio"] is None


def test_every_cache_has_its_reference():
    target = SimpleNamespace(
        model=oracles.canvas(hash_oracle(text.VOCAB_SIZE)[0], mask_token=text.MASK),
        params=None,
        fills="blocks",
        block_size=8,
    )
    found = {
        v.name: (v, reference)
        for v, reference in diffusion_cache.cached(SimpleNamespace(target=target))
    }
    assert set(found) == {*REFRESH_RULES, "none, sub-blocks"}
    for variant, reference in found.values():
        plain = found[reference][0].decoder
        assert dataclasses.replace(variant.decoder, refresh=plain.refresh) == plain
    target.fills = "canvas"
    names = [variant.name for variant, _ in diffusion_cache.cached(SimpleNamespace(target=target))]
    assert names == ["none", "prefix", "dual", "frozen"]


def test_the_legend_of_a_case_comes_with_its_rows(results):
    alone, others = [results["infilling"]], [results["pair"], results["grown"]]
    assert "*sequential*" not in report.render(others)
    shown = report.render(alone)
    assert "*sequential*" in shown
    assert "2 passed" in shown and "new tokens a prompt" not in shown


def test_the_report_comes_from_the_files_alone(results, tmp_path, capsys):
    result = json.loads(json.dumps(results["pair"]))
    result["rows"][1]["tokens_per_second"] = 123456.0
    result["machine"]["cpu"] = "an abacus"
    (tmp_path / "pair.json").write_text(json.dumps(result))
    assert main(["report", "--results", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| 123456 |" in shown and "an abacus" in shown and "not a measurement" in shown
    for case in RUN:
        assert (f"## {case}:" in shown) == (case == "pair")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "pair", "--target", "no-such-model"], "no checkpoint 'no-such-model'"),
        (["report"], "x.json is not a benchmark result"),
        (["report", "--write"], "x.json is not a benchmark result"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "x.json").write_text('{"case": "unheard of"}')
    assert main([*arguments, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_checkpoints_of_the_wrong_kind(tmp_path, capsys):
    causal, infills = pair(tmp_path / "causal"), pair(tmp_path / "infills", "subsets")
    for case, models, needed in [
        ("pair", infills, "pair needs a model of kind causal as its target; 't' is of kind any-s"),
        ("infilling", causal, "needs a model of kind any-subset as its target; 't' is of kind ca"),
        ("all", causal, "any_subset needs a model of kind any-subset as its target; 't' is of"),
        ("pair", [*causal[:2], *infills[2:]], "kind causal as its draft; 'd' is of kind any-su"),
    ]:
        assert main(["run", case, "--quick", *models]) == 2
        error = capsys.readouterr().err
        assert needed in error and error.count("\n") == 1


def test_canvases_need_a_canvas_and_a_causal_judge():
    model = dataclasses.replace(hash_oracle(text.VOCAB_SIZE)[0], any_subset=False)
    causal = SimpleNamespace(name="next", model=model)
    canvas = SimpleNamespace(name="canvas", model=canvas_model(causal.model, text.MASK))
    check(CASES["diffusion"], canvas, causal)
    for case, target, second, needed in [
        ("diffusion", causal, causal, "kind canvas as its target; 'next' is of kind causal"),
        ("diffusion", canvas, canvas, "kind causal as its judge; 'canvas' is of kind canvas"),
        ("pair", canvas, causal, "kind causal as its target; 'canvas' is of kind canvas"),
    ]:
        with pytest.raises(ValueError, match=needed):
            check(CASES[case], target, second)


def test_cases_are_found_in_their_order():
    folder = report.ROOT / "benchmarks" / "cases"
    assert {path.stem for path in folder.glob("*.py")} == {"__init__", *CASES}
    orders = [case.order for case in CASES.values()]
    assert orders == sorted(set(orders))
    assert (next(iter(CASES)), next(reversed(CASES))) == ("pair", "kernels")
    for name, case in CASES.items():
        assert case.name == name and case.about and case.columns
    names = [(models.target, models.second) for models in (ANY_SUBSET, CANVAS)]
    assert names == [("code-infill", "code-infill-draft"), ("code-block", "code-target")]


def test_data_that_is_missing_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAXDEC_DATA", str(tmp_path / "nowhere"))
    assert main(["run", "infilling", "--quick", *pair(tmp_path, "subsets")]) == 2
    error = capsys.readouterr().err
    assert "HumanEval-SingleLineInfilling" in error and error.count("\n") == 1


def test_prompts_are_held_out_windows():
    files = tuple(
        Source(str(i), b"".join(b"%d line %d\n" % (i, n) for n in range(300))) for i in range(3)
    )
    found = workload.prompts((Source("short", b"x = 1\n"), *files), 5)
    assert found.tokens.shape == (5, workload.LONGEST)
    assert ((found.lengths >= workload.SHORTEST) & (found.lengths <= workload.LONGEST)).all()
    rows = [text.decode(row[:n]) for row, n in zip(found.tokens, found.lengths, strict=True)]
    assert [row[0] for row in rows] == list("01201"), "every file once, then again"
    assert len(set(rows)) == 5
    again = workload.prompts(files, 5)
    np.testing.assert_array_equal(again.tokens, found.tokens)
    with pytest.raises(ValueError, match="no file of at least"):
        workload.prompts(files[:0], 1)


def test_a_first_difference_is_shown_with_the_gap_of_the_two_best_tokens():
    model, params = hash_oracle(text.VOCAB_SIZE)
    prompts = workload.Prompts(np.full((2, workload.LONGEST), 7, np.int32), np.array([130, 140]))
    work = workload.Workload(prompts, 2, 4, 0.0)
    expected = [np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8])]
    found = [expected[0], np.array([5, 6, 9, 8])]
    (difference,) = first_differences(plain(model, params), work, found, expected)
    before = jnp.concatenate([jnp.full(140, 7), jnp.array([5, 6])])[None]
    scores = np.sort(model(params, Inputs.causal(before), None).logits[0, -1])
    assert (difference["row"], difference["place"]) == (1, 2)
    assert difference["gap"] == pytest.approx(scores[-1] - scores[-2])


def test_bytes_of_a_tree():
    assert workload.nbytes({"a": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.zeros(2)}) == 20
