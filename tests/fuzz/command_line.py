"""The command line, in this process: bad words end with 2 and one line on stderr, good ones with 0 (1 without a law).

Nothing else ever comes out of `main`: no traceback, no other code, nothing on stdout beside an error.
"""

import contextlib
import dataclasses
import functools
import io
import tempfile
from pathlib import Path
from typing import Any

import jax
from hypothesis import strategies as st

from jaxdec import checkpoints, text
from jaxdec.cli import main
from jaxdec.models import TransformerConfig
from jaxdec.training.trainer import build
from tests.fuzz.surface import REFUSED, TAKEN, Surface, mixed

TINY = TransformerConfig(
    vocab_size=text.VOCAB_SIZE, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16, max_length=512,
)  # fmt: skip


@functools.cache
def root() -> Path:
    """A folder with tiny checkpoints, a file with a gap, and files that are none of what they should be."""
    holder = tempfile.TemporaryDirectory()
    root.holder = holder  # type: ignore[attr-defined]  # removed at exit
    folder = Path(holder.name)
    _, params = build(TINY, seed=0)
    masks = dict(mask_token=text.MASK)
    broken = jax.tree.map(lambda x: x * float("nan"), params)
    for name, weights, options in (
        ("causal", params, {}),
        ("nan", broken, {}),
        ("fills", params, dict(fills="subsets", **masks)),
        ("blocks", params, dict(fills="blocks", block_size=8, **masks)),
    ):
        checkpoints.save(folder / name, TINY, weights, eos=[text.EOS], **options)
    (folder / "gap.txt").write_text("x = <FILL:3>\n")
    (folder / "empty").write_text("")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "nested.jsonl").write_text('{"prompt":' * 30_000)
    (folder / "lines.jsonl").write_text('{"prompt": "x"}\n{"no": 1}\n')
    (folder / "directory").mkdir()
    return folder


@dataclasses.dataclass(frozen=True)
class Words:
    """A command line; `@name` is a file of `root`.

    Attributes:
      argv: its words.
      code: what it ends with.
      words: of the message.
    """

    argv: tuple[str, ...]
    code: int
    words: tuple[str, ...] = ()


def run(argv: tuple[str, ...]) -> tuple[int, str, str]:
    given = [str(root() / word[1:]) if word.startswith("@") else word for word in argv]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(given)
        for stream in streams:
            stream.flush()
    said = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams]  # type: ignore[attr-defined]
    return code, said[0], said[1]


def attempt(given: Words) -> str:
    code, out, error = run(given.argv)
    assert code == given.code, f"ends with {code}, should with {given.code}: {error[-300:]!r}"
    assert "Traceback" not in out + error
    if code != 2:
        return TAKEN
    assert out == "" and error.count("\n") == 1, f"says {out!r:.200} and {error!r:.600}"
    missing = [word for word in given.words if word not in error]
    assert not missing, f"says nothing of {missing}: {error}"
    return REFUSED


# No word begins with "-", which argparse takes for an option, or with "@", which is a file here.
plain_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
word = plain_text.filter(lambda text: text[0] not in "-@")
not_a_number = word.filter(lambda text: not _number(text))
below = lambda low: st.integers(-(10**12), low - 1)
above = lambda high: st.integers(high + 1, 10**20)
said = lambda strategy: strategy.map(str)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def option(name: str, wrong: st.SearchStrategy) -> st.SearchStrategy:
    """An option with a wrong value, which is said."""
    return wrong.map(lambda value: ((f"{name}={value}",), (name,)))


def knob(name: str, wrong: st.SearchStrategy) -> st.SearchStrategy:
    """An option whose value is wrong for the setting of its name."""
    setting = name[2:].replace("-", "_")
    return wrong.map(lambda value: ((f"{name}={value}",), (setting,)))


infinite = st.sampled_from(["nan", "inf", "-inf", "1e999"])
GENERATE = ("generate", "--prompt", "x = ", "--target", "@causal", "--method", "lookup")
INFILL = ("infill", "@gap.txt", "--target", "@fills", "--method", "assd")
SEARCH = ("search", "x = ", "--target", "@causal")
DENOISE = ("denoise", "x = ", "--target", "@blocks")
BENCH = ("bench", "--methods", "lookup", "--prompts", "@lines.jsonl", "--target", "@causal")
TRAIN = ("train", "no-such-preset")
SEED = option("--seed", said(below(0) | above(2**32 - 1)) | not_a_number)
SIZES = [
    SEED,
    option("--draft-length", said(below(1) | above(64)) | not_a_number),
    option("--placement", word.filter(lambda text: "=" not in text)),
]
MISSING = st.sampled_from(["@nowhere", "@empty", "@directory", "@binary", "@gap.txt", "no/such", "x" * 300]).map(
    lambda name: (("--target", name), ())
)  # fmt: skip
WRONG: dict[str, tuple[tuple[str, ...], list[st.SearchStrategy]]] = {
    "generate": (GENERATE, [
        *SIZES,
        MISSING,
        option("--nodes", said(below(1) | above(256)) | not_a_number),
        option("--n", said(below(1) | above(1024)) | not_a_number),
        option("--max-new-tokens", not_a_number),
        option("--top-log-probs", said(below(0)) | not_a_number),
        option("--top-k", not_a_number | st.just("1.5")),
        option("--temperature", not_a_number),
        word.map(lambda name: (("--method", f"no-{name}"), ("no method",))),
        word.map(lambda name: (("--verifier", f"no-{name}"), ("no verifier",))),
        word.map(lambda name: ((f"--no-such-option-{name}",), ())),
        st.just((("--top-log-probs", "2"), ("--json",))),
        st.just((("--chat",), ("template",))),
    ]),
    "settings": (GENERATE, [
        knob("--temperature", infinite | said(st.floats(-1e6, -1e-6))),
        knob("--top-p", infinite | said(st.floats(-9, 0) | st.floats(1.001, 9))),
        knob("--min-p", infinite | said(st.floats(-9, -1e-6) | st.floats(1.001, 9))),
        knob("--typical", infinite | said(st.floats(-9, 0) | st.floats(1.001, 9))),
        knob("--epsilon", infinite | said(st.floats(-9, -1e-6) | st.floats(1.001, 9))),
        knob("--top-h", infinite | said(st.floats(-9, 0) | st.floats(1.001, 9))),
        knob("--repetition-penalty", infinite | said(st.floats(-9, 0))),
        knob("--presence-penalty", infinite),
        knob("--frequency-penalty", infinite),
        knob("--top-k", said(below(0) | above(2**64))),
        knob("--no-repeat-ngram", said(below(0) | above(2**64))),
        knob("--min-new-tokens", said(below(0) | above(2**64))),
        option("--max-new-tokens", said(below(0) | above(512))).map(lambda pair: (pair[0], ())),
        said(below(0) | above(259)).map(lambda token: ((f"--ban={token}",), ("260",))),
        said(below(0) | above(259)).map(lambda token: ((f"--logit-bias={token}=1",), ("260",))),
        word.map(lambda text: ((f"--logit-bias={text}=x",), ())),
        infinite.filter(lambda x: x != "-inf").map(lambda value: ((f"--logit-bias=3={value}",), ("logit",))),
        st.just((("--stop=",), ("stop string",))),
        st.integers(513, 2000).map(lambda size: (("--prompt", "y" * size), (str(size),))),
    ]),
    "search": (SEARCH, [
        *SIZES,
        MISSING,
        option("--n", said(below(1) | above(1024)) | not_a_number),
        option("--m", said(below(1) | above(1024)) | not_a_number),
        option("--branches", said(below(1) | above(1024)) | not_a_number),
        option("--step-tokens", said(below(1)) | not_a_number),
        knob("--temperature", infinite | said(st.floats(-1e6, -1e-6))),
        word.map(lambda name: (("--method", f"no-{name}"), ("no method",))),
        word.map(lambda name: (("--inner", f"no-{name}"), ("no method",))),
        word.map(lambda name: (("--scorer", f"no-{name}"), ("no scorer",))),
        word.map(lambda name: ((f"--set=no-{name}=1",), ("no knob",))),
        said(st.floats(-9, -1e-3)).map(lambda x: ((f"--set=reward_temperature={x}",), ("reward_temperature",))),
        said(below(1)).map(lambda m: (("--method=short-m-at-k", f"--m={m}"), ("--m",))),
        st.just((("--delimiter=",), ("delimiter",))),
        st.just((("--chat",), ("template",))),
    ]),
    "infill": (INFILL, [
        *SIZES,
        MISSING,
        option("--context", said(below(1)) | not_a_number),
        option("--lengths", not_a_number | said(below(1) | above(1024))),
        knob("--temperature", infinite | said(st.floats(-1e6, -1e-6))),
        word.map(lambda name: (("--method", f"no-{name}"), ("no method",))),
        word.map(lambda name: ((f"--marker=NO{name}",), ())),
        st.just((("--in-place", "--output", "y"), ())),
    ]),
    "denoise": (DENOISE, [
        SEED,
        MISSING,
        option("--block", said(below(1)) | not_a_number),
        option("--branches", said(below(1) | above(64)) | not_a_number),
        knob("--temperature", infinite | said(st.floats(-1e6, -1e-6))),
        word.map(lambda name: (("--method", f"no-{name}"), ("no method",))),
        word.map(lambda name: (("--cache", f"no-{name}"), ())),
        word.map(lambda name: ((f"--set=no-{name}=1",), ())),
        not_a_number.map(lambda value: ((f"--set=threshold={value}",), ())),
        st.just((("--set=threshold=nan",), ("threshold",))),
        option("--max-new-tokens", said(below(0) | above(512)) | not_a_number).map(lambda pair: (pair[0], ())),
        st.just((("--file", "x"), ())),
    ]),
    "bench": (BENCH, [
        SEED,
        MISSING,
        option("--batch", said(below(1)) | not_a_number),
        option("--repeats", said(below(1)) | not_a_number),
        word.map(lambda name: ((f"--methods=no-{name}",), ())),
        st.sampled_from(["@nested.jsonl", "@lines.jsonl", "@empty", "@directory", "@nowhere"]).map(
            lambda name: (("--prompts", name), ())
        ),
    ]),
    "train": (TRAIN, [
        st.just(((), ("no-such-preset",))),
        option("--steps", said(below(1)) | not_a_number),
        option("--width", said(below(1)) | not_a_number),
        SEED,
    ]),
    "plan": (("plan", "--model", "llama-70b"), [
        word.map(lambda name: ((f"--topology=no-{name}",), ())),
        word.map(lambda name: ((f"--placement=no-{name}",), ())),
        option("--batch", said(below(1)) | not_a_number),
        option("--context", said(below(1)) | not_a_number),
    ]),
    "no command": ((), [
        st.just(((), ("command",))),
        word.map(lambda name: ((f"no-{name}",), ())),
        word.map(lambda name: (("info", f"no-{name}"), ())),
        word.map(lambda name: ((f"--no-{name}",), ())),
    ]),
}  # fmt: skip
"""By what is asked: words that are right, and what is wrong beside them, with what the message says."""


@st.composite
def bad(draw: Any) -> Words:
    right, wrong = WRONG[draw(st.sampled_from(sorted(WRONG)))]
    more, said = draw(st.one_of(wrong))
    return Words((*right, *more), 2, said)


number = st.floats(0, 2, width=16)


@st.composite
def good(draw: Any) -> Words:
    """A few programs, with any values."""
    seed = f"--seed={draw(st.integers(0, 2**32 - 1))}"
    most = f"--max-new-tokens={draw(st.integers(0, 24))}"
    temperature = f"--temperature={draw(number)}"
    shown = draw(st.sampled_from(["--json", "--no-stream"]))
    prompt = draw(word)
    kind = draw(st.sampled_from(["causal", "nan", "fills", "blocks"]))
    if kind == "fills":
        words = (
            "infill",
            "@gap.txt",
            "--target",
            "@fills",
            "--method",
            "assd",
            seed,
            temperature,
            shown,
        )
        return Words(words, 0)
    if kind == "blocks":
        return Words(("denoise", prompt, "--target", "@blocks", seed, temperature, most, shown), 0)
    words = (
        "generate",
        f"--prompt={prompt}",
        "--target",
        f"@{kind}",
        "--method",
        "lookup",
        seed,
        temperature,
        shown,
    )
    return Words((*words, "--max-new-tokens=8" if kind == "nan" else most), int(kind == "nan"))


inputs = mixed((39, bad()), (1, good()))

SURFACE = Surface(
    name="command line",
    about="`jaxdec` in process, all commands: wrong words, values, files and checkpoints, and runs that are right",
    inputs=inputs,
    attempt=attempt,
    short=40,
    slow=300,
    long=4_000,
    part=200,
)
