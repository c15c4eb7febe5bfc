"""Problems in the format of the public files, made up here: every gap is one of a small function."""

import gzip
import json

from benchmarks.humaneval import FILES

LINE = "    return a + b\n"
HEAD = 'def add(a, b):\n    """Adds, naïvely."""\n'


def record(number, prompt=HEAD, gap="a + b", suffix="", name="L"):
    test = "\n\ndef check(candidate):\n    assert candidate(2, 3) == 5\n"
    return {
        "task_id": f"{name}/HumanEval/{number}",
        "entry_point": "add",
        "prompt": prompt,
        "suffix": suffix,
        "canonical_solution": gap,
        "test": test,
    }


def records():
    """Three problems with a gap of up to 16 bytes, one with an empty gap, one with a longer gap."""
    spans = [(HEAD + "    return ", "a + b", "\n"), (HEAD + "    ", "return a", " + b\n")]
    spans += [
        (HEAD, "    return a ", "+ b\n"),
        (HEAD + LINE, "", "\n"),
        (HEAD, LINE + " " * 40, ""),
    ]
    return [record(number, *span) for number, span in enumerate(spans)]


def write(folder):
    """All three files of the benchmark, with the same problems."""
    for name in FILES.values():
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(held) + "\n" for held in records())
