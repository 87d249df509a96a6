"""config.json as mlx-lm reads it: what newer configs say elsewhere or leave out, and what is quantized."""

from collections.abc import Iterable
from typing import Any

from convert.formats.hf.companions import canonical_config, generation_config
from convert.formats.mlx.tensors import WIDE_BITS, WIDE_GROUP, Packed, Tensor, model_of
from convert.model.pattern import FULL
from convert.model.source import Model

# What newer configs say within `rope_parameters`, and mlx-lm's files read next to the other keys.
OUTER = ("rope_theta", "partial_rotary_factor")


def written_config(model: Model, dtype: str, how: Packed | None, found: Iterable[Tensor]) -> dict[str, Any]:
    """Write it; `dtype` is torch's name of the type that most is stored in."""
    config = canonical_config(model, dtype)
    decoder, mlx = model.decoder, model_of(model.decoder)
    # Model files differ in what they take where a config does not say it.
    config["tie_word_embeddings"] = decoder.is_tied
    config |= {**_rotary(config), **(mlx.keys(decoder) if mlx.keys else {})}
    for key, value in (mlx.defaults(decoder) if mlx.defaults else {}).items():
        if config.get(key) is None:
            config[key] = value
    ends = generation_config(model).get("eos_token_id")
    if ends is not None:
        config["eos_token_id"] = ends
    if how:
        wide = {"group_size": WIDE_GROUP, "bits": WIDE_BITS}
        quantization: dict[str, Any] = {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}
        for each in found:
            if each.is_wide or (
                each.how and (each.how.group_size, each.how.bits) != (how.group_size, how.bits)
            ):
                own = {"group_size": each.how.group_size, "bits": each.how.bits} if each.how else wide
                quantization[each.name.removesuffix(".weight")] = own
        # The second is what the Hub looks for.
        config |= {"quantization": quantization, "quantization_config": quantization}
    return config


def _rotary(config: dict[str, Any]) -> dict[str, Any]:
    """Say as older configs do how positions turn; where layers differ, in those that see everything."""
    found = config.get("rope_parameters")
    if isinstance(found, dict) and isinstance(found.get(FULL), dict):
        found = found[FULL]
    if not isinstance(found, dict) or found.get("rope_theta") is None:
        return {}
    outer = {key: found[key] for key in OUTER if found.get(key) is not None}
    scaling = {key: each for key, each in found.items() if key not in OUTER}
    # mlx-lm reads proportional positions in `rope_parameters` alone, and Transformers refuses them elsewhere.
    is_scaled = scaling.get("rope_type", "default") not in ("default", "proportional")
    return {**outer, "rope_scaling": scaling if is_scaled else None}
