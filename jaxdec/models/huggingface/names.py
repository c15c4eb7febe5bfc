"""Names of tensors that many architectures share."""

from collections.abc import Mapping

from jaxdec.models.config import TransformerConfig
from jaxdec.models.huggingface.contract import Path, Stored

LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}


def like_llama(
    path: Path,
    config: TransformerConfig,
    *,
    renamed: Mapping[str, str] | None = None,
    prefix: str = "model.",
) -> Stored | tuple[Stored, ...]:
    """Where checkpoints in the manner of Llama keep a parameter of a `Transformer`.

        model.embed_tokens.weight                    embed_tokens.embedding
        model.layers.<i>.<part>.<name>_proj.weight   layers[i].<part>.<name>_proj.kernel   (transposed)
        model.layers.<i>.<name>_layernorm.weight     layers[i].<name>_layernorm.scale
        model.layers.<i>.mlp.experts.<e>.<name>      layers[i].mlp.<name>[e]               (transposed)
        model.norm.weight                            norm.scale
        lm_head.weight                               lm_head.kernel                        (transposed; untied only)

    Both rotate the two halves of each head, so nothing is permuted.

    Args:
      path: of the parameter.
      config: of the network.
      renamed: modules that are called otherwise, by their names here.
      prefix: of all but the head.
    """
    *modules, leaf = path
    named = [(renamed or {}).get(module, module) for module in modules]
    start = "" if modules[:1] == ["lm_head"] else prefix
    if leaf in ("gate_proj", "up_proj", "down_proj"):
        assert config.mixture is not None
        at = f"{start}{'.'.join(named)}.experts"
        return tuple(
            Stored(f"{at}.{expert}.{leaf}.weight", transposed=True)
            for expert in range(config.mixture.experts)
        )
    return Stored(f"{start}{'.'.join([*named, LEAVES[leaf]])}", transposed=leaf == "kernel")


def is_rotary_buffer(name: str, config: TransformerConfig) -> bool:
    """Whether a tensor follows from others: rotary frequencies that older files hold, the head of tied ones."""
    return name.endswith(".rotary_emb.inv_freq") or (config.tied and name == "lm_head.weight")
