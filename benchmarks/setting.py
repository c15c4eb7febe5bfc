"""What the cases share: how much is run, on which models, and the decoders under test by name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxdec
from benchmarks.workload import Prompts, Variant, Workload, prompts
from jaxdec import any_subset
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import Decoder
from jaxdec.measuring.timing import compile_seconds
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.grow import grow
from jaxdec.training.corpus import Corpus

Row = dict[str, Any]
Goals = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of each case is run.

    Attributes:
      lengths: draft lengths.
      batches: rows decoded at once.
      temperatures: as they say.
      prompts: in the case `pair`, at least.
      many: prompts in `tokens_per_forward`.
      tokens: new tokens a prompt.
      repeats: measurements of each method.
      steps: forwards in a cost loop.
      grown: (parameters, layers) of grown targets; None for one a little larger than the shipped one.
      copied: megabytes of the array that measures the bandwidth.
      forms: of any-subset speculation, the first ones; None for all.
      policies: of canvas decoding, the first ones; None for all.
      caches: of a canvas, the first ones.
      points: settings of each policy, the first ones; None for all.
      canvases: prompts in `diffusion`, decoded at once.
      canvas: positions of a canvas, one half of them prompt.
      long_canvases, long_canvas: the same, where caches are measured.
      windows: with gaps, in `any_subset`.
      window: bytes in such a window.
      long_window: the same, where the cache is measured.
      problems: of each file in `infilling`.
      longest_gap: in bytes, of these problems.
      gaps: problems filled at once.
      speculated: prompts in `speculation`, decoded at once.
      speculations: methods in `speculation`, the first ones; None for all.
      budgets: nodes of the trees whose curves it draws.
      positions: where acceptance is compared with the highest that is possible.
      siblings: drafts there.
      draws: of siblings, at each position.
    """

    lengths: tuple[int, ...] = (4, 6, 8)
    batches: tuple[int, ...] = (1, 8)
    temperatures: tuple[float, ...] = (0.0, 0.8)
    prompts: int = 4
    many: int = 32
    tokens: int = 128
    repeats: int = 5
    steps: int = 24
    grown: Goals | None = (
        (10_000_000, 6),
        (25_000_000, 8),
        (85_000_000, 12),
    )
    copied: int = 256
    forms: int | None = None
    policies: int | None = None
    caches: int = 4
    points: int | None = None
    canvases: int = 16
    canvas: int = 256
    long_canvases: int = 2
    long_canvas: int = 512
    windows: int = 16
    window: int = 256
    long_window: int = 512
    problems: int = 48
    longest_gap: int = 64
    gaps: int = 16
    speculated: int = 12
    speculations: int | None = None
    budgets: tuple[int, ...] = (8, 16, 32, 64)
    positions: int = 1024
    siblings: tuple[int, ...] = (1, 2, 4, 8)
    draws: int = 64


FULL = Scale()
QUICK = Scale(
    lengths=(2,),
    batches=(2,),
    prompts=4,
    many=2,
    tokens=8,
    repeats=2,
    steps=2,
    grown=None,
    copied=4,
    forms=3,
    policies=2,
    caches=2,
    points=2,
    canvases=2,
    canvas=32,
    long_canvases=2,
    long_canvas=64,
    windows=2,
    window=32,
    long_window=48,
    problems=2,
    longest_gap=16,
    gaps=2,
    speculated=2,
    speculations=3,
    budgets=(4,),
    positions=6,
    siblings=(1, 2),
    draws=2,
)


_COMPILED: dict[tuple[Decoder, int, int], float] = {}


def compiling(variant: Variant, workload: Workload) -> float:
    """Seconds that the programs of a variant took to compile; compiles them if this process has not yet."""
    key = (variant.decoder, workload.batch, workload.new_tokens)
    if key not in _COMPILED:
        _COMPILED[key] = compile_seconds(workload.method(variant))
    return _COMPILED[key]


def compile_all(variants: list[Variant], workload: Workload) -> None:
    """Compiles every variant before anything else would, so that the seconds are its own."""
    for variant in variants:
        compiling(variant, workload)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a case works with.

    Attributes:
      target: the checkpoint that is decoded.
      draft: the checkpoint that drafts; for canvases, the one that judges what was written.
      corpus: its held-out files give the prompts.
      scale: how much is run.
      bandwidth: bytes a second that the machine copies.
    """

    target: Checkpoint
    draft: Checkpoint
    corpus: Corpus
    scale: Scale
    bandwidth: float

    def prompts(self, count: int) -> Prompts:
        """Held-out windows."""
        return prompts(self.corpus.held_out, count)


def drafting(
    setting: Setting, length: int, model=None, params=None, name="draft", verifier=None
) -> Variant:
    """Speculation with the draft checkpoint, for the target or for another one with its vocabulary."""
    drafter = jaxdec.drafters.model(setting.draft.model, length=length)
    return Variant(
        f"{name} {length}",
        jaxdec.speculative(model or setting.target.model, drafter=drafter, verifier=verifier),
        {"target": params or setting.target.params, "draft": setting.draft.params},
        length,
    )


def lookup(setting: Setting, length: int, name="prompt lookup", verifier=None) -> Variant:
    """Speculation by prompt lookup."""
    drafter = jaxdec.drafters.prompt_lookup(length=length)
    decoder = jaxdec.speculative(setting.target.model, drafter=drafter, verifier=verifier)
    return Variant(f"{name} {length}", decoder, {"target": setting.target.params}, length)


def by_ratio(setting: Setting, length: int) -> list[Variant]:
    """The pair under the verifiers that are exact in law rather than token by token."""
    token, block = jaxdec.verifiers.TokenRatio(), jaxdec.verifiers.BlockVerification()
    return [
        drafting(setting, length, name="draft, token ratio", verifier=token),
        drafting(setting, length, name="draft, block verification", verifier=block),
        lookup(setting, length, name="prompt lookup, token ratio", verifier=token),
        lookup(setting, length, name="prompt lookup, block verification", verifier=block),
    ]


def infillers(setting: Setting) -> list[Variant]:
    """The ways to fill gaps, with an any-subset pair; sequential decoding, their baseline, comes first."""
    model, params = setting.target.model, {"target": setting.target.params}
    both = {**params, "draft": setting.draft.params}
    ratio, drafter = jaxdec.verifiers.TokenRatio(), jaxdec.drafters.model
    small = jaxdec.speculative(model, drafter=drafter(setting.draft.model, length=6))
    parallel = any_subset.parallel_sampling(model, width=4)
    return [
        Variant("sequential", jaxdec.autoregressive(model), params),
        Variant("ASSD 6", any_subset.assd(model, width=6), params, 6),
        Variant("ASSD n-gram 6", any_subset.assd(model, width=6, draft="ngram"), params, 6),
        Variant("fused 4", any_subset.fused(model, width=4), params, 4),
        Variant("draft 6", small, both, 6),
        Variant(
            "ASSD 6, token ratio",
            any_subset.assd(model, width=6, verifier=ratio),
            params,
            6,
            "the published rule",
        ),
        Variant("parallel 4", parallel, params, 0, "contrast: drafts that nobody verifies"),
    ]


def plain(model, params) -> Variant:
    """Plain decoding: the baseline."""
    return Variant("plain", jaxdec.autoregressive(model), {"target": params})


def controls(setting: Setting, length: int) -> list[Variant]:
    """A draft that must be accepted whole, and one that knows nothing."""
    target = setting.target
    drafter = jaxdec.drafters.model(target.model, length=length)
    # With all parameters zero every logit is zero: a uniform law at the draft's full cost.
    uniform = jax.tree.map(jnp.zeros_like, setting.draft.params)
    return [
        Variant(
            f"draft = target {length}",
            jaxdec.speculative(target.model, drafter=drafter),
            {"target": target.params, "draft": target.params},
            length,
            "control: accepts everything",
        ),
        dataclasses.replace(
            drafting(setting, length, name="uniform draft"),
            params={"target": target.params, "draft": uniform},
            about="control: accepts little, stays exact",
        ),
    ]


def sizes(setting: Setting, goals: Goals | None) -> list[tuple[str, TransformerConfig, Any]]:
    """The shipped target, and grown ones that are clearly larger: (label, configuration, parameters)."""
    target = setting.target
    config, found = target.config, [("shipped", target.config, target.params)]
    if goals is None:
        goals = ((2 * target.size, config.layers + 1),)
    width = config.width
    attention = 2 * width * config.head_dim * (config.heads + config.kv_heads)
    for goal, layers in goals:
        layers = max(layers, config.layers)
        hidden = ((goal - width * config.vocab_size) / layers - attention) / (3 * width)
        hidden = 64 * round(hidden / 64)
        if hidden < config.hidden or goal < 1.5 * target.size:
            continue
        grown, params = grow(config, target.params, layers, hidden=hidden)
        found.append(("grown", grown, params))
    return found


def model_of(config: TransformerConfig, eos: tuple[int, ...]) -> jaxdec.Model:
    """The model of a configuration, with no parameters made."""
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    return jaxdec.from_nnx(abstract, eos=eos)[0]


def size_labels(label: str, config: TransformerConfig, params: Any) -> Row:
    """What tells rows of different sizes apart."""
    parameters = sum(x.size for x in jax.tree.leaves(params))
    return {
        "target": label,
        "parameters": parameters,
        "layers": config.layers,
        "hidden": config.hidden,
    }
