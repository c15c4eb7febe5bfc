"""Which mutants does the public kit kill? See `tests.mutants`."""

import argparse
import sys
from collections import Counter

from tests.mutants.mutant import FAMILIES, everything
from tests.mutants.running import TIMEOUT, Outcome, run


def summary(outcomes: list[Outcome]) -> str:
    """A table of killed and total by family, equivalent ones apart."""
    rows, real = [], [o for o in outcomes if o.mutant is not None and not o.mutant.equivalent]
    total, killed = (
        Counter(o.family for o in some) for some in (real, [o for o in real if o.killed_by])
    )
    for family in total:
        rows.append(f"{family:16} {killed[family]:4} of {total[family]}")
    share = 100 * killed.total() / max(total.total(), 1)
    rows.append(f"{'all':16} {killed.total():4} of {total.total()} ({share:.1f}%)")
    return "\n".join(rows)


def report(outcome: Outcome) -> str:
    """One line."""
    mutant = outcome.mutant
    name = "control" if mutant is None else mutant.name
    word = f"killed by {outcome.killed_by}" if outcome.killed_by else "survived"
    if mutant is None:
        word = f"FAILS {outcome.killed_by}" if outcome.killed_by else "passes"
    elif mutant.equivalent:
        word += " (equivalent)"
    line = f"{outcome.family:14} {name:44} {word} [{outcome.seconds:.0f} s]"
    return f"{line}\n    {outcome.message[:160]}" if outcome.message else line


def main() -> int:
    """Runs what the arguments choose; 0 if the controls pass and no real fault survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="mutants whose name holds this"
    )
    parser.add_argument("--every", type=int, default=1, help="every n-th mutant")
    parser.add_argument("--offset", type=int, default=0, help="which one is the first")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds a mutant")
    controls = parser.add_mutually_exclusive_group()
    controls.add_argument("--control", action="store_true", help="the controls alone, all checks")
    controls.add_argument("--no-control", action="store_true", help="the mutants alone")
    given = parser.parse_args()
    chosen = [m for m in everything() if not given.family or m.family in given.family]
    if given.only:
        chosen = [m for m in chosen if any(part in m.name for part in given.only)]
    chosen = chosen[given.offset :: given.every]
    families = list(dict.fromkeys(m.family for m in chosen))
    tasks = [] if given.no_control else [(family, None) for family in families]
    if not given.control:
        tasks += [(m.family, m) for m in chosen]
    outcomes = []
    for outcome in run(tasks, given.jobs, given.timeout, every_check=given.control):
        print(report(outcome), flush=True)
        outcomes.append(outcome)
    print(summary(outcomes))
    bad = [o for o in outcomes if bool(o.killed_by) == (o.mutant is None)]
    return int(any(o.mutant is None or not o.mutant.equivalent for o in bad))


if __name__ == "__main__":
    sys.exit(main())
