"""Over which axes of a mesh the arrays of the library's networks and caches are split.

Every network names its layers alike: what makes heads or inner widths (`q_proj`, `up_proj`) is split by its outputs,
what reads them (`o_proj`, `down_proj`) by its inputs, so that one sum over the devices closes each branch; tables and
heads are split by vocabulary, mixtures by expert.
"""

import dataclasses

DATA, MODEL, SEQUENCE, ROLE = "data", "model", "sequence", "role"
AXES = DATA, MODEL, SEQUENCE, ROLE
"""The axes that a placement's mesh may have: of rows, of weights and heads, of slots, of target and drafter."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Over which axes the dimensions of arrays are split.

    Attributes:
      pattern: a regular expression, looked for in the path of an array, such as `target/layers/0/mlp/up_proj/kernel`.
      axes: an axis of the mesh, or None, for each leading dimension.
      what: what the split dimension counts, for messages.
      strict: whether a dimension of the target that does not divide is an error; else, and in other parts, such as a
        small draft model, such an array lies whole on each device.
    """

    pattern: str
    axes: tuple[str | None, ...]
    what: str = ""
    strict: bool = True

    def __post_init__(self):
        object.__setattr__(self, "axes", tuple(self.axes))


def _columns(names: str, what: str) -> tuple[Rule, Rule]:
    """Of layers that are split by their outputs: kernels `[inputs, outputs]` and biases."""
    return (
        Rule(rf"({names})/kernel$", (None, MODEL), what),
        Rule(rf"({names})/bias$", (MODEL,), what),
    )


NETWORKS = (
    Rule(r"experts/(gate|up|down)_proj$|mlp/(gate|up|down)_proj$", (MODEL,), "experts"),
    *_columns("q_proj|k_proj|v_proj", "the heads' widths"),
    *_columns("gate_proj|up_proj|mlp_up", "inner widths"),
    Rule(r"o_proj/kernel$", (MODEL,), "the heads' widths"),
    Rule(r"(down_proj|mlp_down)/kernel$", (MODEL,), "inner widths"),
    Rule(r"embed_tokens/embedding$", (MODEL,), "tokens", strict=False),
    Rule(r"lm_head/kernel$", (None, MODEL), "tokens", strict=False),
    Rule(r"head_bias$", (MODEL,), "tokens", strict=False),
)
"""For parameters. Vocabularies that do not divide stay whole on each device."""

CACHES = (
    Rule(r"(keys|values)$", (DATA, MODEL, SEQUENCE), "key-value heads"),
    Rule(r"(spans|positions)$", (DATA, SEQUENCE), "slots"),
)
"""For the arrays of caches, rows first; those that none fits are split by rows alone."""
