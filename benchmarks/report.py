"""The report: Markdown from the JSON files of results, and from nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ROOT

RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def load(folder: Path) -> list[dict[str, Any]]:
    """All results of a folder, in the order of `ORDER` and then by file name.

    Raises:
      ValueError: if a file is not a result.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            held = json.loads(path.read_text())
            found.append((ORDER.index(held["case"]), held))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is not a benchmark result: {error}") from error
    return [held for _, held in sorted(found, key=lambda pair: pair[0])]


def number(name: str, form: str, scale: float = 1.0) -> Callable[[Row], str]:
    """A cell with a number of a row, a dash where there is none."""
    return lambda row: "–" if row.get(name) is None else format(row[name] * scale, form)


def word(name: str) -> Callable[[Row], str]:
    """A cell with a word."""
    return lambda row: str(row.get(name) or "")


def flag(name: str) -> Callable[[Row], str]:
    """A cell with yes or no, a dash where nobody asked."""
    return lambda row: {True: "yes", False: "**no**"}.get(row.get(name), "–")


def spread(name: str, form: str) -> Callable[[Row], str]:
    """A cell with a median and its quartiles."""

    def cell(row: Row) -> str:
        if row.get(name) is None:
            return "–"
        low, high = row[f"{name}_quartiles"]
        return f"{row[name]:{form}} ({low:{form}}–{high:{form}})"

    return cell


def method(row: Row) -> str:
    """The method and what it is a control of."""
    return f"{row['method']} ({row['about']})" if row["about"] else row["method"]


def depths(row: Row) -> str:
    """Acceptance by depth."""
    return " ".join("–" if a is None else f"{a:.2f}" for a in row["acceptance_by_depth"])


def verdicts(row: Row) -> str:
    """How programs ended, what happened at least once."""
    return ", ".join(f"{count} {name}" for name, count in row["verdicts"].items() if count)


def differences(row: Row) -> str:
    """Rows that leave plain decoding, with the gap between the two best tokens there."""
    found = row["first_differences"]
    if row["exactness"] == "distribution-identical" and row["temperature"] > 0:
        return "every row: the same law, drawn otherwise"
    if found is None:
        return "not compared: another law"
    if not found:
        return "none"
    return f"{len(found)} rows, largest gap {max(d['gap'] for d in found):.1e}"


SPEED: list[Column] = [
    ("tokens/forward", number("tokens_per_forward", ".2f")),
    ("acceptance", number("acceptance", ".1%")),
    ("verify ratio R", number("verify_ratio", ".2f")),
    ("draft ratio c", number("draft_ratio", ".3f")),
    ("predicted S", number("predicted_ratio", ".2f")),
    ("times plain", spread("wall_ratio", ".2f")),
    ("tokens/s", number("tokens_per_second", ".0f")),
    ("identical", number("identical", ".2%")),
]
COST: list[Column] = [
    ("times plain, prompt included", number("end_to_end_ratio", ".2f")),
    ("GB/s", number("bytes_per_second", ".1f", 1e-9)),
    ("of copy", number("bandwidth_share", ".0%")),
    ("prefill s", number("prefill_seconds", ".3f")),
    ("compile s", number("compile_seconds", ".1f")),
    ("exactness", word("exactness")),
]
SIZE: list[Column] = [
    ("target", word("target")),
    ("parameters", number("parameters", ".1f", 1e-6)),
]
PLACE: list[Column] = [
    ("batch", word("batch")),
    ("temperature", number("temperature", ".1f")),
]
METHOD: Column = ("method", method)
COLUMNS: dict[str, tuple[list[Column], list[Column]]] = {
    "pair": ([*PLACE, METHOD, *SPEED], COST),
    "grown": (
        [*SIZE, METHOD, *SPEED],
        [*COST, ("text of the shipped target", number("same_text_as_shipped", ".2%"))],
    ),
    "step_overhead": (
        [
            *SIZE,
            ("temperature", number("temperature", ".1f")),
            ("step ms", number("step_seconds", ".3f", 1e3)),
            ("bare forward ms", number("forward_seconds", ".3f", 1e3)),
            ("step / forward", spread("overhead", ".3f")),
            ("bar", number("bar", ".2f")),
        ],
        COST[1:3],
    ),
    "tokens_per_forward": (
        [
            ("temperature", number("temperature", ".1f")),
            METHOD,
            ("tokens/forward", number("tokens_per_forward", ".2f")),
            ("acceptance", number("acceptance", ".1%")),
            ("identical", number("identical", ".2%")),
            ("differs from plain in", differences),
        ],
        [("acceptance by depth", depths), ("exactness", word("exactness"))],
    ),
    "speculation": (
        [
            ("temperature", number("temperature", ".1f")),
            METHOD,
            ("nodes", word("nodes")),
            ("depth", word("depth")),
            ("tokens/forward", number("tokens_per_forward", ".2f")),
            ("bar", number("bar", ".1f")),
            ("acceptance by depth", depths),
            ("first node", number("root_acceptance", ".3f")),
            ("at most", number("root_optimal", ".3f")),
            ("identical", number("identical", ".2%")),
        ],
        [
            ("nodes/forward", number("nodes_per_forward", ".1f")),
            ("draft forwards/forward", number("draft_forwards_per_forward", ".1f")),
            ("differs from plain in", differences),
            ("exactness", word("exactness")),
        ],
    ),
    "speculation_grown": (
        [
            *SIZE,
            ("temperature", number("temperature", ".1f")),
            METHOD,
            ("tokens/forward", number("tokens_per_forward", ".2f")),
            ("times plain", spread("wall_ratio", ".2f")),
            ("tokens/s", number("tokens_per_second", ".0f")),
            ("identical", number("identical", ".2%")),
        ],
        COST,
    ),
    "optimal_acceptance": (
        [
            ("siblings", word("siblings")),
            ("drawn", word("drawing")),
            ("verifier", word("verifier")),
            ("accepted", number("acceptance", ".4f")),
            ("at most", number("optimal", ".4f")),
            ("gap", number("gap", ".4f")),
        ],
        [("exactness", word("exactness"))],
    ),
    "any_subset": (
        [
            ("masked", number("masked", ".0%")),
            METHOD,
            ("forwards/token", number("forwards_per_token", ".3f")),
            ("rows/token", number("rows_per_token", ".1f")),
            ("acceptance", number("acceptance", ".1%")),
            ("identical", number("identical", ".2%")),
            ("bits/byte", number("bits_per_byte", ".2f")),
            ("entropy", number("entropy", ".2f")),
        ],
        [("exactness", word("exactness"))],
    ),
    "any_subset_grown": (
        [
            *SIZE,
            METHOD,
            ("forwards/token", number("forwards_per_token", ".3f")),
            ("rows/forward", number("rows_per_forward", ".1f")),
            ("R", number("verify_ratio", ".2f")),
            ("times sequential", spread("wall_ratio", ".2f")),
            ("tokens/s", number("tokens_per_second", ".0f")),
            ("identical", number("identical", ".2%")),
        ],
        COST[3:],
    ),
    "any_subset_cache": (
        [
            ("positions", word("window")),
            METHOD,
            ("forwards/token", number("forwards_per_token", ".3f")),
            ("rows/forward", number("rows_per_forward", ".1f")),
            ("tokens/s", number("tokens_per_second", ".0f")),
            ("times the cached seconds", number("times_cached", ".1f")),
            ("bar", number("bar", ".0f")),
            ("identical", number("identical", ".2%")),
        ],
        COST[3:],
    ),
    "infilling": (
        [
            ("gap", word("file")),
            ("temperature", number("temperature", ".1f")),
            METHOD,
            ("problems", word("problems")),
            ("exact", number("exact", ".1%")),
            ("parses", number("parses", ".1%")),
            ("passes", number("passes", ".1%")),
            ("bits/byte", number("bits_per_byte", ".2f")),
            ("entropy", number("entropy", ".2f")),
            ("forwards/byte", number("forwards_per_byte", ".2f")),
            ("rows/byte", number("rows_per_byte", ".1f")),
            ("identical", number("identical", ".2%")),
        ],
        [
            ("acceptance", number("acceptance", ".1%")),
            ("draft forwards/byte", number("draft_forwards_per_byte", ".2f")),
            ("programs", verdicts),
            ("in the file", word("in_file")),
            ("with an empty gap", number("left_out_empty", ".0f")),
            ("with a longer gap", number("left_out_long", ".0f")),
            ("longest gap", word("longest_gap")),
            ("network", word("network")),
            ("exactness", word("exactness")),
        ],
    ),
    "diffusion": (
        [
            ("temperature", number("temperature", ".1f")),
            ("block", word("block")),
            METHOD,
            ("setting", word("setting")),
            ("tokens/forward", number("tokens_per_forward", ".2f")),
            ("rows/token", number("rows_per_token", ".1f")),
            ("bits/byte", number("bits_per_byte", ".2f")),
            ("worse than one a step", number("worse", "+.1%")),
            ("entropy", number("entropy", ".2f")),
            ("identical rows", number("identical_rows", ".0%")),
        ],
        [
            ("best within 5%", lambda row: "yes" if row["best"] else ""),
            ("bar of the best", number("bar", ".0f")),
            ("standard error of bits", number("bits_error", ".2f")),
            ("of worse", number("worse_error", ".1%")),
            ("identical", number("identical", ".2%")),
            ("acceptance", number("acceptance", ".1%")),
            ("exactness", word("exactness")),
        ],
    ),
    "diffusion_cache": (
        [
            ("positions", word("positions")),
            ("cache", method),
            ("tokens/forward", number("tokens_per_forward", ".2f")),
            ("rows/forward", number("rows_per_forward", ".1f")),
            ("forward ms", number("forward_seconds", ".2f", 1e3)),
            ("tokens/s", number("tokens_per_second", ".0f")),
            ("times no cache", spread("wall_ratio", ".2f")),
            ("bar", number("bar", ".0f")),
            ("bits/byte", number("bits_per_byte", ".2f")),
            ("entropy", number("entropy", ".2f")),
            ("identical", number("identical", ".2%")),
        ],
        [
            ("to", word("reference")),
            ("identical rows", number("identical_rows", ".0%")),
            ("worse", number("worse", "+.1%")),
            ("of worse", number("worse_error", ".1%")),
            *COST[3:],
        ],
    ),
    "kernels": (
        [
            ("operation", word("operation")),
            ("shape", word("shape")),
            ("device", word("device")),
            ("method", word("method")),
            ("right", flag("correct")),
            ("ms", number("seconds", ".3f", 1e3)),
            ("times plain XLA", spread("wall_ratio", ".2f")),
            *COST[1:3],
            ("compiles", flag("compiles")),
            ("bytes moved / least", number("traffic_ratio", ".2f")),
            ("note", word("note")),
        ],
        [
            ("counted by", word("counted_by")),
            ("VMEM KiB", number("vmem_bytes", ".0f", 2**-10)),
            ("temporaries MiB", number("temporary_bytes", ".1f", 2**-20)),
            ("arguments MiB", number("argument_bytes", ".1f", 2**-20)),
            ("outputs MiB", number("output_bytes", ".1f", 2**-20)),
            ("in place MiB", number("aliased_bytes", ".1f", 2**-20)),
            ("largest error", number("error", ".1e")),
            ("integers that differ", number("different", ".2%")),
            ("compile s", number("compile_seconds", ".1f")),
        ],
    ),
}
"""Columns of each case: those of the README, and those that only the full report has."""

ORDER = list(COLUMNS)

HIGHLIGHTS: dict[str, Callable[[Row], bool]] = {
    "pair": lambda row: row["batch"] == 1 and row["method"] in ("plain", "draft 6"),
    "grown": lambda row: row["method"] in ("plain", "draft 6", "auto"),
    "step_overhead": lambda row: row["temperature"] == 0,
    "tokens_per_forward": lambda row: not row["about"],
    "speculation": lambda row: row["bar"] is not None or row["method"] == "draft",
    "optimal_acceptance": lambda row: row["siblings"] in (1, 4),
    "any_subset": lambda row: row["method"] not in ("ASSD 4", "fused 4", "draft 4", "draft 8"),
    "any_subset_grown": lambda row: (
        row["method"] in ("sequential", "ASSD 4", "fused 3", "draft 4", "auto")
    ),
    "infilling": lambda row: (
        row["temperature"] != 0
        and row["method"] not in ("ASSD 6", "ASSD n-gram 6", "draft 6")  # the text of sequential
    ),
    "diffusion": lambda row: row.get("temperature", 0) == 0 and bool(row["best"] or row["about"]),
    "kernels": lambda row: "seconds" in row,
}
"""Rows of each case that the README shows, which leaves out a case without any; all of a case that is not named."""

LEGEND = """\
*tokens/forward*: new tokens for each forward of the target, the bonus token included. *acceptance*: accepted over
proposed drafts. *R*: a forward of all tokens that a step scores over a forward of one; *c*: a draft token over a
forward of one; both measured inside compiled loops. *predicted S* = tokens/forward / (R + length c).
*times plain*: seconds of plain decoding over seconds of the method, the same weights in the same process in turns;
median and quartiles over the repeats; decoding loops only, compilation apart. *identical*: share of tokens equal to
those of plain decoding. *of copy*: bytes of weights and cache read a second over the bandwidth at which the machine
copies memory; weights that stay in a cache can exceed it. *grown*: the shipped target with units that add nothing to
its text but cost what they cost.
"""
ABOUT_TREES = ("speculation", "speculation_grown", "optimal_acceptance")
SPECULATION_LEGEND = """
*speculation*: the methods of the catalogue by name, a family of drafters and, unless it is the shared-noise walk, a
verifier; *comb*: a greedy chain, and beside each of its nodes the next best tokens. *acceptance by depth*: of the steps
that accepted a path of d - 1 nodes, the share that accepted d. *first node*: the share of steps that accepted one; *at
most*: what the best verifier would reach with siblings that are drawn like these, the mean over the same steps
(2502.18779). *optimal_acceptance*: the same for k siblings at held-out positions, by verifier; the *gap* is what a
better one could gain.
"""
ABOUT_GAPS = ("any_subset", "any_subset_grown", "any_subset_cache", "infilling")
INFILLING_LEGEND = """
*sequential*: one forward of the target a token, in the same order, with the same cache. *ASSD K*: the target drafts K
tokens for itself; *fused K*: in the forward that verifies; *draft K*: a small any-subset model drafts. *infilling*: a
gap of HumanEval-Infilling is filled with as many bytes as it had. *exact*: the true text; *parses*: the filled file is
Python; *passes*: and passes the function's own tests in a sandbox. *bits/byte*: of the fill, under the target's own
law. *entropy*: of the byte frequencies, in bits: of all that was written in *any_subset*; of one fill, the mean over
fills, in *infilling*. *rows*: tokens and queries that the target scored. *identical*: share of bytes equal to those of
*sequential*.
"""
ABOUT_CANVASES = ("diffusion", "diffusion_cache")
DIFFUSION_LEGEND = """
*diffusion*: each policy of canvas decoding over its knob. *bits/byte*: of what was written, under the law of a causal
model that judges, given the prompt and the text so far. *entropy*: of the byte frequencies of one text, in bits, the
mean over texts: it falls where a text repeats itself, which bits alone reward. *worse than one a step*: bits over those
of the same policy at one token a forward; *best within 5%*: the setting of most tokens a forward that has at most 5%
more bits and at most 5% less entropy. *identical rows*: texts that are those of one token a forward. *true text*: what
the files go on with. *diffusion_cache*: threshold decoding; *times no cache*: seconds without a cache over seconds with
it; quality and *identical*, which is to the same schedule without a cache, are those of more rows than are timed.
"""
ABOUT_KERNELS = ("kernels",)
KERNEL_LEGEND = """
*kernels*: `tpu` and `gpu` are the kernels, *plain XLA* their references, others are public functions for the same work.
*right*: agrees with the reference in float32 within the tolerance of its type. *ms*: of one call, in a loop of calls
inside one program. *GB/s*: the least bytes that the work needs, each number read or written once, over the seconds.
*compiled ahead of time*: for a TPU that was not there. *bytes moved*: counted from the kernel's own index maps over its
grid, equal consecutive blocks once; or its cost estimate where it copies by hand. *in place*: outputs that take the
memory of arguments.
"""


def table(rows: list[Row], columns: list[Column]) -> str:
    """A Markdown table."""
    lines = [[title for title, _ in columns], ["---"] * len(columns)]
    lines += [[cell(row) for _, cell in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(result: dict[str, Any], *, full: bool) -> list[Row]:
    """The rows of a result in the full report, or in the README."""
    chosen = HIGHLIGHTS.get(result["case"], lambda row: True)
    return [row for row in result["rows"] if full or result["quick"] or chosen(row)]


def section(result: dict[str, Any], *, full: bool) -> str:
    """One case on one machine."""
    machine, models, first = result["machine"], result["models"], result["rows"][0]
    common, more = COLUMNS[result["case"]]
    rows = shown(result, full=full)
    amount = f"; {first['new_tokens']} new tokens a prompt" if "new_tokens" in first else ""
    amount += f", {first['repeats']} repeats" if "repeats" in first else ""
    quick = " **A quick run: not a measurement.**" if result["quick"] else ""
    sizes = " and ".join(f"{m['name']} ({m['parameters'] / 1e6:.2f}M)" for m in models.values())
    sizes += f", {models['target']['dtype']}{amount}. " if models else ""
    about = " ".join(result["about"].split())
    return (
        f"### {result['case']}: {machine['device']}\n\n{about}{quick}\n\n{sizes}"
        f"{machine['devices']} x {machine['device']} on {machine['cpu']}, {machine['cores']} cores, "
        f"copies {machine['copy_bytes_per_second'] / 1e9:.1f} GB/s; jax {machine['jax']}, "
        f"commit {machine['commit']}, {machine['date']}.\n\n"
        + table(rows, common + more if full else common)
    )


def render(results: list[dict[str, Any]], *, full: bool) -> str:
    """The report: every case with the rows and columns of the README, or with all of them."""
    results = [result for result in results if shown(result, full=full)]
    if not results:
        return "No results yet.\n"
    legend = LEGEND
    if any(result["case"] in ABOUT_TREES for result in results):
        legend += SPECULATION_LEGEND
    if any(result["case"] in ABOUT_GAPS for result in results):
        legend += INFILLING_LEGEND
    if any(result["case"] in ABOUT_CANVASES for result in results):
        legend += DIFFUSION_LEGEND
    if any(result["case"] in ABOUT_KERNELS for result in results):
        legend += KERNEL_LEGEND
    return "\n".join([*(section(result, full=full) for result in results), legend])


def between_markers(document: str, text: str) -> str:
    """The document with the region between its markers replaced.

    Raises:
      ValueError: if the document does not have each marker once, in order.
    """
    before, start, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in rest or END in before + after:
        raise ValueError(f"the document needs {START} and, after it, {END}, each once")
    return f"{before}{START}\n{text}{END}{after}"


def write(results: list[dict[str, Any]], root: Path = ROOT) -> None:
    """Rewrites the region of README.md between the markers, and docs/benchmarks.md.

    Raises:
      ValueError: if README.md or its markers are missing.
    """
    readme, page = root / "README.md", root / "docs" / "benchmarks.md"
    if not readme.is_file():
        raise ValueError(f"no README.md in {root}")
    changed = between_markers(readme.read_text(), render(results, full=False))
    page.parent.mkdir(exist_ok=True)
    page.write_text(
        "# Benchmarks\n\nGenerated by `python -m benchmarks report --write` from `benchmarks/results/`; "
        "do not edit.\n\n" + render(results, full=True)
    )
    readme.write_text(changed)
