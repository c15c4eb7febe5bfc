"""What configurations of many architectures have in common: sizes, rotary frequencies, kinds of layers."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """Says of which file a configuration is, if it cannot be read: a list where a number should stand, and the like.

    Raises:
      ValueError: with the file before what is wrong.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{file}: a field is of another kind than it should be: {said}") from error


def size(fields: Mapping[str, Any], name: str) -> int:
    """An integer that must be there.

    Raises:
      ValueError: if it is not.
    """
    if fields.get(name) is None:
        raise ValueError(f"the configuration has no {name}")
    return int(fields[name])


def head_width(fields: Mapping[str, Any]) -> int:
    """The width of a head: `head_dim`, or what `num_attention_heads` share of `hidden_size`."""
    shared = size(fields, "hidden_size") // size(fields, "num_attention_heads")
    return int(fields.get("head_dim") or shared)


def only(fields: Mapping[str, Any], **supported: Any) -> None:
    """Raises `ValueError` for a field that is there and has another value than the only supported one."""
    for name, value in supported.items():
        if fields.get(name, value) not in (value, None):
            raise ValueError(f"{name} {fields[name]!r} is not supported, only {value!r}")


def one_of(fields: Mapping[str, Any], name: str, known: Mapping[str, str], default: str) -> str:
    """What a field with one of several known values stands for.

    Raises:
      ValueError: for another value.
    """
    value = fields.get(name, default)
    if value not in known:
        raise ValueError(f"{name} {value!r} is not supported, only {', '.join(known)}")
    return known[value]


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
    scalings = []
    for name in ("rope_scaling", "rope_parameters"):  # the later one wins
        rope = fields.get(name) or {}
        if any(isinstance(value, Mapping) for value in rope.values()):
            if kind not in rope:
                raise ValueError(f"{name} {dict(rope)!r} is not supported: it has no {kind!r}")
            rope = rope[kind] or {}
        # Both names of the type are in use; one that is missing means the default, but for a scaling.
        if name == "rope_scaling" and rope and not {"rope_type", "type"} & {*rope}:
            raise ValueError(f"rope_scaling {dict(rope)!r} is not supported: it has no rope_type")
        stated = {key: value for key, value in rope.items() if value is not None}
        if stated:
            scalings.append(_scaling(stated, fields))
            found |= stated
    if len({*scalings}) > 1:
        raise ValueError(
            f"rope_scaling {fields['rope_scaling']!r} and rope_parameters {fields['rope_parameters']!r} differ"
        )
    share = float(found.get("partial_rotary_factor", 1.0))
    return Rotary(
        theta=float(found.get("rope_theta", theta)),
        width=None if share == 1.0 else int(head_dim * share),
        scaling=scalings[0] if scalings else None,
    )


def _scaling(stated: Mapping[str, Any], fields: Mapping[str, Any]) -> Scaling | None:
    kind = stated.get("rope_type", stated.get("type", "default"))
    if kind == "default":
        return None
    names = SCALINGS.get(kind)
    if names is None:
        raise ValueError(
            f"rotary frequencies of type {kind!r} are not supported, only default, {', '.join(SCALINGS)}"
        )
    unknown = {*stated} - IGNORED - {*names} - {"original_max_position_embeddings"}
    if unknown:
        raise ValueError(f"{min(unknown)} of rotary frequencies of type {kind!r} is not supported")
    if "factor" not in stated:
        raise ValueError(f"rotary frequencies of type {kind!r} have no factor")
    given = {names[key]: stated[key] for key in names if key in stated}
    length = "original_max_position_embeddings"
    if length in names:
        # Some files have it beside the frequencies; a file that has it nowhere means the longest sequence.
        if fields.get(length) is not None:
            given["original_length"] = size(fields, length)
        elif length not in stated:
            given["original_length"] = size(fields, "max_position_embeddings")
    return Scaling(kind, float(stated["factor"]), **given)


def whole_heads(config: TransformerConfig) -> TransformerConfig:
    """The configuration, of an architecture that turns whole heads.

    Raises:
      ValueError: if it turns a part of them, which readers of such checkpoints disagree about.
    """
    for kind in kinds_of(config):
        if kind.rotary is not None and kind.rotary.width not in (None, config.head_dim):
            share = kind.rotary.width / config.head_dim
            raise ValueError(f"partial_rotary_factor {share} is not supported, only 1.0")
    return config


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
    heads, head_dim = size(fields, "num_attention_heads"), head_width(fields)
    held: dict[str, Any] = {
        "vocab_size": size(fields, "vocab_size"),
        "width": size(fields, "hidden_size"),
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
    if not held.get("layer_kinds") and "rope_theta" not in forms:
        held |= _frequencies(rotary(fields, head_dim))
    return TransformerConfig(**held)


def _frequencies(rotary: Rotary) -> dict[str, Any]:
    """Fields of a `TransformerConfig` whose layers are all turned alike."""
    return {
        "rope_theta": rotary.theta,
        "rotary_width": rotary.width,
        "rope_scaling": rotary.scaling,
    }


def llama_fields(config: TransformerConfig, **more: Any) -> dict[str, Any]:
    """The inverse of `like_llama`; rotary frequencies are those of the first layer that has any."""
    turned = [kind.rotary for kind in kinds_of(config) if kind.rotary is not None]
    rope = rope_fields(turned[0] if turned else Rotary(), config.head_dim)
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
        # The spellings that every version of the readers knows.
        "rope_theta": rope["rope_theta"],
        "rope_parameters": rope,
        "rope_scaling": None,
    }
    if rope["rope_type"] != "default":
        held["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    if "partial_rotary_factor" in rope:
        held["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return held | more


def kinds_of(config: TransformerConfig) -> tuple[LayerKind, ...]:
    """The kind of each layer."""
    return tuple(map(config.kind, range(config.layers)))


def forms_of(kinds: Sequence[LayerKind]) -> dict[str, Any]:
    """Fields of a `TransformerConfig` with layers of these kinds: `layer_kinds` only where they differ."""
    first = kinds[0]
    if first.rotary is None or any(kind != first for kind in kinds):
        return {"layer_kinds": tuple(kinds)}
    return {"window": first.window, **_frequencies(first.rotary)}


FULL, SLIDING = "full_attention", "sliding_attention"


def layer_types(fields: Mapping[str, Any], default: Sequence[str]) -> list[str]:
    """The type of each layer.

    Args:
      fields: of a `config.json`.
      default: where they do not say it.

    Raises:
      ValueError: if there are not as many as layers, or one is of another type than `FULL` or `SLIDING`.
    """
    types, layers = fields.get("layer_types") or default, size(fields, "num_hidden_layers")
    if len(types) != layers:
        raise ValueError(f"layer_types has {len(types)} entries for {layers} layers")
    for kind in types:
        if kind not in (FULL, SLIDING):
            raise ValueError(f"layer_types with {kind!r} is not supported, only {FULL}, {SLIDING}")
    return [*types]


def windows(fields: Mapping[str, Any], types: Sequence[str]) -> list[int | None]:
    """The window of each layer: `sliding_window` for sliding ones.

    Raises:
      ValueError: if some layer is sliding, and there is no window.
    """
    if SLIDING in types and fields.get("sliding_window") is None:
        raise ValueError(f"layer_types has {SLIDING}, and the configuration no sliding_window")
    return [size(fields, "sliding_window") if kind == SLIDING else None for kind in types]


def window_fields(config: TransformerConfig) -> dict[str, Any]:
    """The inverse: `sliding_window` and `layer_types`."""
    held = [kind.window for kind in kinds_of(config)]
    return {
        "sliding_window": next((window for window in held if window is not None), None),
        "layer_types": [FULL if window is None else SLIDING for window in held],
    }
