"""Published systems that change where, when and with which noise decoders run, not what they decode: any method of the
catalogue runs in them, with the promise that it has, unless a row says otherwise."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class System:
    """A system, or whatever else stands around decoders: the one place that names it.

    Attributes:
      name: as its paper has it.
      title: one line on what it does.
      paper: where it comes from.
      use: what a caller writes.
      tests: the test file that proves it, relative to the repository.
      benchmark: the name of its benchmark case, empty if it has none.
    """

    name: str
    title: str
    paper: str
    use: str
    tests: str
    benchmark: str = ""


_SEQUENCE = "tests/parallel/test_sequence.py"
_EXPERTS = "tests/parallel/test_experts.py"
_REQUESTS = "tests/requests/test_engine.py"
_WATERMARKS = "tests/sampling/test_watermarks.py"

SYSTEMS = {
    row.name: row
    for row in (
        System(
            "Flover",
            "requests that arrive while others run join them in one batch, inside the compiled loop",
            "2305.13484",
            "generation.requests.Engine",
            _REQUESTS,
        ),
        System(
            "EXSPEC",
            "speculative rows of one batch are grouped by what they have to go",
            "2510.22876",
            "Engine(policy=SameRemaining())",
            _REQUESTS,
        ),
        System(
            "Ring Self-Attention",
            "keys of a split sequence go around the devices",
            "2105.13120",
            'placement(sequence=N, attention="ring")',
            _SEQUENCE,
        ),
        System(
            "TokenRing",
            "queries go one way around the devices while outputs come back the other",
            "2412.20501",
            'placement(sequence=N, attention="bidirectional")',
            _SEQUENCE,
        ),
        System(
            "LASP-2",
            "states of linear attention over a split sequence by one all-gather",
            "2502.07563",
            "cache.continue_states",
            _SEQUENCE,
        ),
        System(
            "ZeCO",
            "states of linear attention over a split sequence along a chain of devices",
            "2507.01004",
            "cache.continue_states",
            _SEQUENCE,
        ),
        System(
            "Speculative MoE",
            "tokens are sent where their next experts are foreseen to be",
            "2503.04398",
            "parallel.expert_prediction",
            _EXPERTS,
            "experts",
        ),
        System(
            "ExFlow",
            "experts that follow one another are placed on one device",
            "2401.08383",
            "parallel.expert_placement",
            "tests/parallel/test_expert_placement.py",
            "experts",
        ),
        System(
            "EXP watermark",
            "tokens are drawn with the Gumbel noise of a secret, and found again by alignment; for draws by place",
            "2307.15593",
            "watermark=watermarks.Exponential(secret=key)",
            _WATERMARKS,
        ),
        System(
            "ITS watermark",
            "uniforms of a secret become tokens by the inverse of the law, in a secret order; for draws by place",
            "2307.15593",
            "watermark=watermarks.InverseTransform(secret=key)",
            _WATERMARKS,
        ),
        System(
            "Green list",
            "tokens that a secret favours after those before are made likelier: another law, a baseline",
            "2301.10226",
            "watermark=watermarks.GreenList(secret=key)",
            _WATERMARKS,
        ),
        System(
            "CSpD",
            "drafts of continuous tokens, as diffusion heads make them, judged by density and replaced by rejection",
            "2411.11925",
            "speculative.continuous_ratio(keys, place, draft, p, q)",
            "tests/speculative/test_continuous.py",
        ),
        System(
            "Exact byte-level probabilities",
            "a decoder of bytes, whose law is the sum over all encodings that cover the text",
            "2410.09303",
            "byte_level.byte_level(byte_level.member(model, start=token))",
            "tests/byte_level/test_byte_level.py",
        ),
    )
}


def markdown(rows: Mapping[str, System] = SYSTEMS, kind: str = "system") -> str:
    """The table of systems, or of other rows of their kind."""
    lines = [f"| {kind} | use | tests | benchmark |", "|---|---|---|---|"]
    for row in rows.values():
        benchmark = f"`{row.benchmark}`" if row.benchmark else "none"
        lines.append(
            f"| {row.name}: {row.title} ({row.paper}) | `{row.use}` | `{row.tests}` | {benchmark} |"
        )
    return "\n".join(lines)
