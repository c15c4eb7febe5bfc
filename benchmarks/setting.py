"""What the cases share: how much is run, and on which models."""

import dataclasses

from benchmarks.workload import Prompts, prompts
from jaxdec.checkpoints import Checkpoint
from jaxdec.training.corpus import Corpus

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
      calls: of `generate`, in `host_overhead`.
      grown: (parameters, layers) of grown targets; None for one a little larger than the shipped one.
      wide: the same, with no more layers than the shipped one, in `auto`.
      selected: rows decoded at once there.
      drafts: a step there.
      copied: megabytes of the array that measures the bandwidth.
      forms: of any-subset speculation, the first ones; None for all.
      policies: of canvas decoding, the first ones; None for all.
      caches: of a canvas, the first ones; None for all.
      points: settings of each policy, the first ones; None for all.
      canvases: prompts in `diffusion`, decoded at once.
      canvas: positions of a canvas, one half of them prompt.
      long_canvases, long_canvas: the same, where caches are measured.
      tasks: in `tasks`, the first ones; None for all.
      solved: problems of each.
      drawn: texts from each law in `canvas_laws`.
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
      antibodies: prompts in `iglm`, windows in `antiberty`.
      residues: masked in such a window.
      shapes: of random models in `peers`, by name.
      peers: repeats there.
      routed: prompts in `experts`.
      traced: training windows from which its placements and tables are made.
      fuzzed: share of the inputs in `fuzz`.
      soaked: requests in `soak`, over all parts.
      served: requests in `requests`, in each measurement.
      rates: of their arrival, as shares of what the engine does under a backlog.
      loads: rows decoded at once in `load`.
      ladder: draft lengths there, beside plain decoding.
      load_tokens: new tokens a row there.
      searched: problems of each task in `search`.
      populations: samples there, rising from 1; searches in the loop have all but the first number of hypotheses.
      searches: searches in the loop there, the first ones; None for all.
      constrained: particles in `constraints`.
      marked: tokens of a text in which `watermarks` looks for one.
      nulls: random secrets that it compares with.
    """

    lengths: tuple[int, ...] = (4, 6, 8)
    batches: tuple[int, ...] = (1, 8)
    temperatures: tuple[float, ...] = (0.0, 0.8)
    prompts: int = 4
    many: int = 32
    tokens: int = 128
    repeats: int = 5
    steps: int = 24
    calls: int = 200
    grown: Goals | None = (
        (10_000_000, 6),
        (25_000_000, 8),
        (85_000_000, 12),
    )
    wide: Goals = ((25_000_000, 4), (85_000_000, 4))
    selected: tuple[int, ...] = (1, 16)
    drafts: tuple[int, ...] = (4, 8, 16)
    copied: int = 256
    forms: int | None = None
    policies: int | None = None
    caches: int | None = None
    points: int | None = None
    canvases: int = 16
    canvas: int = 256
    long_canvases: int = 2
    long_canvas: int = 512
    tasks: int | None = None
    solved: int = 74
    drawn: int = 40_000
    windows: int = 16
    window: int = 256
    long_window: int = 512
    problems: int = 48
    longest_gap: int = 64
    gaps: int = 16
    speculated: int = 64
    speculations: int | None = None
    budgets: tuple[int, ...] = (8, 16, 32, 64)
    positions: int = 1024
    siblings: tuple[int, ...] = (1, 2, 4, 8)
    draws: int = 64
    antibodies: int = 64
    residues: int = 8
    shapes: tuple[str, ...] = ("100M", "350M")
    peers: int = 7
    routed: int = 128
    traced: int = 512
    fuzzed: float = 1.0
    soaked: int = 10_000
    served: int = 96
    rates: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.1)
    loads: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    ladder: tuple[int, ...] = (2, 4, 8)
    load_tokens: int = 64
    searched: int = 96
    populations: tuple[int, ...] = (1, 4, 16)
    searches: int | None = None
    constrained: tuple[int, ...] = (1, 8)
    marked: tuple[int, ...] = (16, 32, 64, 128)
    nulls: int = 199


FULL = Scale()
QUICK = Scale(
    lengths=(2,),
    batches=(2,),
    prompts=4,
    many=2,
    tokens=8,
    repeats=2,
    steps=2,
    calls=3,
    grown=None,
    selected=(2,),
    drafts=(2,),
    copied=4,
    forms=3,
    policies=2,
    caches=2,
    points=2,
    canvases=2,
    canvas=32,
    long_canvases=2,
    long_canvas=64,
    tasks=4,
    solved=2,
    drawn=2000,
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
    antibodies=4,
    residues=4,
    shapes=("tiny",),
    peers=2,
    routed=3,
    traced=6,
    fuzzed=0.001,
    soaked=60,
    served=4,
    rates=(0.5,),
    loads=(2,),
    ladder=(2,),
    load_tokens=8,
    searched=2,
    populations=(1, 2),
    searches=2,
    constrained=(1, 2),
    marked=(8,),
    nulls=49,
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a case works with.

    Attributes:
      target: the checkpoint that is decoded.
      draft: the checkpoint that drafts; for canvases, the one that judges what was written. Where there is none, the
        target.
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
