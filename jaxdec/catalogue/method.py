"""What a catalogue row says, and what decoders are made of."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxdec.autoregressive import autoregressive
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import Decoder, Exactness
from jaxdec.model import Heads, Model, Params, PositionHead
from jaxdec.search import Scorer, Segment, of_length

Sample = Callable[[Model, Model], Decoder | tuple[Decoder, Mapping[str, Params]]]
"""`sample(target, draft)` builds what the battery tests of a method from two oracles: a decoder, and with it the params
of parts that the battery cannot supply, by name."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a decoder is made of.

    Attributes:
      target: the model whose law is decoded.
      draft: a smaller model of the same vocabulary, or heads on the target, for the methods that draft with one or, on
        a canvas, have a trained policy.
      length: drafts a step (of a tree, its depth), or branches of a canvas; None for the method's own.
      nodes: of a draft tree, at most; None for the method's own.
      block: for a canvas, positions of a block; None for the whole canvas.
      causal: for a canvas, whether blocks see the blocks before them alone, counted from the start of the sequence.
      refresh: for a canvas, a name of `REFRESH_RULES`.
      delimiters: for a canvas, tokens that end a sentence, such as those with a newline; the byte's if there are none.
      inner: for a search, what decodes within segments; None for plain decoding of the target (`within`).
      segment: for a search, where hypotheses wait for one another; None for the method's own.
      scorer: for a search, what a past is worth; None for the method's own.
      branches: for a search, how many ways a past goes on; None for the method's own.
      m: for a search, hypotheses that are kept; None for the method's own.
    """

    target: Model
    draft: Model | Heads | PositionHead | None = None
    length: int | None = None
    nodes: int | None = None
    block: int | None = None
    causal: bool = False
    refresh: str = "none"
    delimiters: tuple[int, ...] = ()
    inner: Decoder | None = None
    segment: Segment | None = None
    scorer: Scorer | None = None
    branches: int | None = None
    m: int | None = None

    @property
    def within(self) -> Decoder:
        """What decodes within the segments of a search."""
        return autoregressive(self.target) if self.inner is None else self.inner

    @classmethod
    def small(cls, target: Model, draft: Model) -> "Parts":
        """Parts as the battery takes them: short segments, and trees whose nodes have children of unequal number."""
        return cls(target, draft, length=3, nodes=7, segment=of_length(3))


@dataclasses.dataclass(frozen=True)
class Method:
    """A decoding method: the one place that names it. Documents, commands, benchmarks and tests are driven by rows.

    Attributes:
      name: unique; a family, or a family and a verifier joined by a dash.
      title: one line on what it does.
      paper: where it comes from, empty for plain decoding.
      exactness: what it promises relative to plain decoding of the target.
      make: builds the decoder; raises `ValueError` for parts that are missing or impossible.
      tests: the test file that proves the promise, relative to the repository.
      benchmark: the name of its benchmark case, empty if it has none.
      draft: the checkpoint that drafts unless another is named; empty if none does.
      heads: the kind of draft heads that it drafts with (`HeadsCheckpoint.kind`), of which none are shipped: they must
        be named. Empty for all others.
      infills: whether it fills any subset (`jaxdec.infill`) rather than continues a prompt.
      denoises: whether it decodes a canvas, for models that restore masked tokens.
      searches: whether it decodes several hypotheses a prompt, and is the decoder within it for one.
      weights: the parameters by name of parts that are made of the target's checkpoint; None if there are none.
      takes: of a search, the parts that it can be given beside its models: names of `Parts`.
      sample: builds what the battery tests; the method itself, of `Parts.small`, if not given.
      variants: further settings of the method that the battery tests, by what they are.
    """

    name: str
    title: str
    paper: str
    exactness: Exactness
    make: Callable[[Parts], Decoder]
    tests: str
    benchmark: str
    draft: str = ""
    heads: str = ""
    infills: bool = False
    denoises: bool = False
    searches: bool = False
    weights: Callable[[Checkpoint], Mapping[str, Params]] | None = None
    takes: tuple[str, ...] = ()
    sample: Sample | None = None
    variants: Mapping[str, Sample] = dataclasses.field(default_factory=dict)

    @property
    def samples(self) -> dict[str, Sample]:
        """All that the battery tests of the method, by name."""
        plain = lambda target, draft: self.make(Parts.small(target, draft))
        more = {f"{self.name}, {what}": sample for what, sample in self.variants.items()}
        return {self.name: self.sample or plain, **more}
