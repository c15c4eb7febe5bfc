"""The command line: `python -m benchmarks run CASE`, `report`, and `compare OLD.json NEW.json`."""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    root = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a case and write its results")
    run.add_argument("case", choices=[*CASES, "all"])
    run.add_argument(
        "--quick", action="store_true", help="a smoke test; writes only with --results"
    )
    for role in ("target", "draft", "judge"):
        run.add_argument(f"--{role}", help="checkpoint, by name or path (default: the case's own)")
    show = commands.add_parser("report", help="print the report of the results")
    show.add_argument("--write", action="store_true", help="rewrite README.md and docs/")
    show.add_argument("--charts", action="store_true", help="draw the charts of docs/images/")
    for command in (run, show):
        command.add_argument("--results", type=Path, help="folder of the JSON files")
    compare = commands.add_parser(
        "compare", help="print what differs between two results of a case, clocks apart"
    )
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    compare.add_argument(
        "--within",
        type=float,
        default=0.0,
        help="relative difference that real numbers may have (default: none)",
    )
    return root


def run(arguments: argparse.Namespace) -> None:
    """Runs cases one after another; each leaves its file as soon as it is done."""
    import jaxdec
    from benchmarks.case import check, run_case
    from benchmarks.setting import FULL, QUICK
    from jaxdec import checkpoint_folder
    from jaxdec.measuring import machine
    from jaxdec.training.corpus import python_sources

    load, shipped = functools.cache(jaxdec.load), checkpoint_folder.available()
    pairs = {}
    for name in CASES if arguments.case == "all" else [arguments.case]:
        models = CASES[name].models
        pairs[name] = None, None
        if models is not None:
            second = models.second and (getattr(arguments, models.role) or models.second)
            if arguments.case == "all" and not (arguments.target or models.target in shipped):
                print(
                    f"{name}: left out, there is no checkpoint {models.target!r}", file=sys.stderr
                )
                del pairs[name]
                continue
            target = load(arguments.target or models.target)
            pairs[name] = target, None if second is None else load(second)
        check(CASES[name], *pairs[name])  # of every case, before the first one takes its time
    corpus, scale = python_sources(), QUICK if arguments.quick else FULL
    folder = arguments.results or (None if arguments.quick else report.RESULTS)
    for name, (target, second) in pairs.items():
        start = time.perf_counter()
        result = run_case(CASES[name], target, second, corpus, scale)
        print(report.section(result), flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}-{machine.slug()}.json"
            path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
            print(f"wrote {path}", file=sys.stderr)


def show(arguments: argparse.Namespace) -> None:
    """Writes the documents and draws the charts, or prints the report if neither is asked for."""
    results = report.load(arguments.results or report.RESULTS)
    if arguments.write:
        from benchmarks import documents

        documents.write(results)
    if arguments.charts:
        from benchmarks import charts

        for path in charts.write(results):
            print(f"wrote {path}", file=sys.stderr)
    if not (arguments.write or arguments.charts):
        print(report.render(results), end="")


def compare(arguments: argparse.Namespace) -> int:
    """Prints what differs, and returns 1 if anything does."""
    from benchmarks.compare import differences

    found = differences(
        report.read(arguments.old), report.read(arguments.new), within=arguments.within
    )
    for line in found:
        print(line)
    return 1 if found else 0


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 2 for bad input, with one line on what is wrong."""
    parsed = parser().parse_args(arguments)
    try:
        if parsed.command == "compare":
            return compare(parsed)
        run(parsed) if parsed.command == "run" else show(parsed)
        return 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
