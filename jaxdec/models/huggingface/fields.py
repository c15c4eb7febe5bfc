"""What configurations of many architectures have in common: sizes, rotary frequencies, kinds of layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdec.models.config import LayerKind, TransformerConfig
from jaxdec.models.layers import Rotary, Scaling

SCALINGS = {
    # type: {field: attribute}
    "linear": {},
    "llama3": {
        "original_max_position_embeddings": "original_length",
        "low_freq_factor": "low",
        "high_freq_factor": "high",
    },
    "yarn": {
        "original_max_position_embeddings": "original_length",
        "beta_slow": "slow",
        "beta_fast": "fast",
        "attention_factor": "attention_factor",
        "truncate": "truncate",
    },
}
IGNORED = {"rope_type", "type", "factor", "rope_theta", "partial_rotary_factor"}


def size(fields: Mapping[str, Any], name: str) -> int:
    """An integer that must be there.

    Raises:
      ValueError: if it is not.
    """
    if fields.get(name) is None:
        raise ValueError(f"the configuration has no {name}")
    return int(fields[name])


def only(fields: Mapping[str, Any], **supported: Any) -> None:
    """Raises `ValueError` for a field that is there and has another value than the only supported one."""
    for name, value in supported.items():
        if fields.get(name, value) not in (value, None):
            raise ValueError(f"{name} {fields[name]!r} is not supported, only {value!r}")


def rotary(
    fields: Mapping[str, Any], head_dim: int, *, kind: str | None = None, theta: float = 10000.0
) -> Rotary:
    """How heads are turned: of `rope_parameters`, where newer checkpoints keep it, else of the top level.

    Args:
      fields: of a `config.json`.
      head_dim: width of a head.
      kind: the type of layer, for `rope_parameters` that hold a dict for each type.
      theta: the base, if no field says so.

    Raises:
      ValueError: for a scaling that is not known, or fields of one that are not.
    """
    found: dict[str, Any] = {
        name: fields[name]
        for name in ("rope_theta", "partial_rotary_factor")
        if fields.get(name) is not None
    }
    for name in ("rope_scaling", "rope_parameters"):  # the later one wins
        rope = fields.get(name) or {}
        if any(isinstance(value, Mapping) for value in rope.values()):
            if kind not in rope:
                raise ValueError(f"{name} {dict(rope)!r} is not supported: it has no {kind!r}")
            rope = rope[kind] or {}
        # Both names of the type are in use; one that is missing means the default, but for a scaling.
        if name == "rope_scaling" and rope and not {"rope_type", "type"} & {*rope}:
            raise ValueError(f"rope_scaling {dict(rope)!r} is not supported: it has no rope_type")
        found |= {key: value for key, value in rope.items() if value is not None}
    share = float(found.get("partial_rotary_factor", 1.0))
    return Rotary(
        theta=float(found.get("rope_theta", theta)),
        width=None if share == 1.0 else int(head_dim * share),
        scaling=_scaling(found, fields),
    )


def _scaling(found: Mapping[str, Any], fields: Mapping[str, Any]) -> Scaling | None:
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "default":
        return None
    names = SCALINGS.get(kind)
    if names is None:
        raise ValueError(
            f"rotary frequencies of type {kind!r} are not supported, only default, {', '.join(SCALINGS)}"
        )
    unknown = {*found} - IGNORED - {*names} - {"original_max_position_embeddings"}
    if unknown:
        raise ValueError(f"{min(unknown)} of rotary frequencies of type {kind!r} is not supported")
    if "factor" not in found:
        raise ValueError(f"rotary frequencies of type {kind!r} have no factor")
    given = {names[key]: found[key] for key in names if key in found}
    if "original_max_position_embeddings" in names and "original_length" not in given:
        given["original_length"] = size(fields, "max_position_embeddings")
    return Scaling(kind, float(found["factor"]), **given)


def rope_fields(rotary: Rotary, head_dim: int) -> dict[str, Any]:
    """The `rope_parameters` of a `config.json`: the inverse of `rotary`."""
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": rotary.theta}
    if rotary.width is not None:
        found["partial_rotary_factor"] = rotary.width / head_dim
    if rotary.scaling is not None:
        scaling = rotary.scaling
        found |= {"rope_type": scaling.kind, "factor": scaling.factor}
        for field, attribute in SCALINGS[scaling.kind].items():
            if getattr(scaling, attribute) is not None:
                found[field] = getattr(scaling, attribute)
    return found


def like_llama(fields: Mapping[str, Any], **forms: Any) -> TransformerConfig:
    """The sizes that architectures in the manner of Llama name alike.

    Args:
      fields: of a `config.json`, with the defaults of the type filled in.
      **forms: what else the configuration has; they win.

    Raises:
      ValueError: if a size is missing, or a field asks for what is not supported.
    """
    width, heads = size(fields, "hidden_size"), size(fields, "num_attention_heads")
    head_dim = int(fields.get("head_dim") or width // heads)
    held: dict[str, Any] = {
        "vocab_size": size(fields, "vocab_size"),
        "width": width,
        "layers": size(fields, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": int(fields.get("num_key_value_heads") or heads),
        "head_dim": head_dim,
        "hidden": size(fields, "intermediate_size"),
        "max_length": size(fields, "max_position_embeddings"),
        "norm_epsilon": float(fields.get("rms_norm_eps", 1e-6)),
        "tied": bool(fields.get("tie_word_embeddings", False)),
        **forms,
    }
    if not held.get("layer_kinds"):
        turned = rotary(fields, head_dim)
        held |= {
            "rope_theta": turned.theta,
            "rotary_width": turned.width,
            "rope_scaling": turned.scaling,
        }
    return TransformerConfig(**held)


def llama_fields(config: TransformerConfig, **more: Any) -> dict[str, Any]:
    """The inverse of `like_llama`; rotary frequencies are left to the caller where layers differ."""
    held: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
    }
    if not config.layer_kinds:
        rope = rope_fields(
            Rotary(config.rope_theta, config.rotary_width, config.rope_scaling), config.head_dim
        )
        # The spelling that every version of the readers knows.
        scaled = {key: value for key, value in rope.items() if key != "rope_theta"}
        held |= {"rope_theta": config.rope_theta, "rope_parameters": rope}
        if config.rope_scaling is not None:
            held["rope_scaling"] = scaled
        if config.rotary_width is not None:
            held["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return held | more


def layer_kinds(
    types: Sequence[str], window: int | None, turned: Mapping[str, Rotary | None]
) -> tuple[LayerKind, ...]:
    """One kind a layer from `layer_types`, `"full_attention"` or `"sliding_attention"`.

    Raises:
      ValueError: for another type, or a sliding one without a window.
    """
    kinds = []
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise ValueError(f"layers of type {kind!r} are not supported")
        if kind == "sliding_attention" and window is None:
            raise ValueError(
                "layer_types has sliding_attention, and the configuration no sliding_window"
            )
        kinds.append(LayerKind(window if kind == "sliding_attention" else None, turned[kind]))
    return tuple(kinds)
