"""MDLM: a transformer with modulated norms that restores masks, all positions seeing one another.

backbone.vocab_embed.embedding           vocab_embed.embedding
backbone.sigma_map.mlp.{0,2}             sigma_map.{inner,outer}
backbone.blocks.<i>.mlp.{0,2}            blocks[i].{mlp_up,mlp_down}
backbone.blocks.<i>.<name>.weight        blocks[i].<name>.kernel       (transposed; so are all kernels)
backbone.output_layer.<name>.weight      output_layer.<name>.kernel
"""

from collections.abc import Mapping
from typing import Any

from jaxdec.models.huggingface.contract import Architecture, Fills, Path, Stored
from jaxdec.models.huggingface.fields import only, size
from jaxdec.models.mdlm import MDLM, MDLMConfig

RENAMED = {"inner": "mlp.0", "outer": "mlp.2", "mlp_up": "mlp.0", "mlp_down": "mlp.2"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "embedding": "embedding"}


def config(fields: Mapping[str, Any]) -> MDLMConfig:
    """The configuration; the mask is the last token unless it is named."""
    only(fields, time_conditioning=False, causal=False, scale_by_sigma=False)
    vocab_size, mask = size(fields, "vocab_size"), fields.get("mask_token_id")
    return MDLMConfig(
        vocab_size=vocab_size,
        width=size(fields, "hidden_dim"),
        layers=size(fields, "n_blocks"),
        heads=size(fields, "n_heads"),
        conditioning=size(fields, "cond_dim") if fields.get("adaln", True) else 0,
        mask_token=vocab_size - 1 if mask is None else int(mask),
        max_length=size(fields, "model_length"),
    )


def fields(config: MDLMConfig, kind: str = "mdlm") -> dict[str, Any]:
    """The inverse of `config`."""
    return {
        "model_type": kind,
        "architectures": [kind.upper()],
        "vocab_size": config.vocab_size,
        "hidden_dim": config.width,
        "n_blocks": config.layers,
        "n_heads": config.heads,
        "cond_dim": config.conditioning or 128,
        "adaln": config.conditioning > 0,
        "mask_token_id": config.mask_token,
        "model_length": config.max_length,
        "time_conditioning": False,
    }


def names(path: Path, config: MDLMConfig) -> Stored:
    """Where a parameter is kept."""
    *modules, leaf = path
    named = [RENAMED.get(module, module) for module in modules]
    name = ".".join(["backbone", *named, LEAVES[leaf]])
    return Stored(name, transposed=leaf == "kernel")


def fills(fields: Mapping[str, Any]) -> Fills:
    """A canvas whose positions all see one another."""
    return Fills("canvas", config(fields).mask_token)


def ignored(name: str, config: MDLMConfig) -> bool:
    """Rotary frequencies and rendered masks."""
    return name.endswith((".inv_freq", "block_diff_mask"))


ARCHITECTURE = Architecture(
    "mdlm", ("mdlm",), config, fields, names, network=MDLM, fills=fills, ignored=ignored
)
