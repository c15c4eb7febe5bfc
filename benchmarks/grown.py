"""Targets of growing cost and equal text."""

import dataclasses

import jax
from flax import nnx

import jaxdec
from benchmarks.columns import Row
from benchmarks.setting import Goals, Setting
from jaxdec.checkpoints import Checkpoint
from jaxdec.models import Transformer, TransformerConfig
from jaxdec.models.grow import grow

GROWN = (
    "*grown*: the shipped target with units that add nothing to its text but cost what they cost."
)


@dataclasses.dataclass(frozen=True)
class Sized:
    """The shipped target, or one grown out of it.

    Attributes:
      label: `"shipped"` or `"grown"`.
      checkpoint: with the bare model of its configuration, whatever wraps the shipped one.
    """

    label: str
    checkpoint: Checkpoint

    @property
    def labels(self) -> Row:
        """What tells rows of different sizes apart."""
        config = self.checkpoint.config
        parameters = sum(x.size for x in jax.tree.leaves(self.checkpoint.params))
        sizes = {"layers": config.layers, "hidden": config.hidden}
        return {"target": self.label, "parameters": parameters, **sizes}

    def __str__(self) -> str:
        return f"{self.label}, {self.labels['parameters'] / 1e6:.1f}M"


def sizes(setting: Setting, goals: Goals | None) -> list[Sized]:
    """The shipped target, and grown ones that are clearly larger."""
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
    return [
        Sized(
            label,
            dataclasses.replace(
                target, model=model_of(config, target.model.eos), config=config, params=params
            ),
        )
        for label, config, params in found
    ]


def at_size(rows: list[Row], parameters: float = 25e6) -> list[Row]:
    """The rows of the target whose size is nearest to this one."""
    nearest = min((row["parameters"] for row in rows), key=lambda size: abs(size - parameters))
    return [row for row in rows if row["parameters"] == nearest]


def model_of(config: TransformerConfig, eos: tuple[int, ...]) -> jaxdec.Model:
    """The model of a configuration, with no parameters made."""
    abstract = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    return jaxdec.from_nnx(abstract, eos=eos)[0]
