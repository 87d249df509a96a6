"""Rotary positions as the different generations of config.json write them."""

import math
from typing import Any

from convert.errors import Failure
from convert.model.config import LEAST_REAL, Config
from convert.model.decoder import Decoder, Rope, RopeScaling

# Dynamic NTK stretches the base only past the trained length, where no artifact of ours is sold to work.
# That pairs turn by a picture's place stretches nothing.
UNSCALED = ("default", "dynamic", "ntk", "proportional", "mrope")


def read_rope(config: Config, head_size: int, *, default_theta: float, kind: str | None = None) -> Rope:
    """Read rope_parameters (Transformers 5) or rope_theta and rope_scaling (before).

    With the kind of a layer, read what is said of such layers, where the file says it apart.
    """
    parameters = config.section("rope_parameters") or config.section("rope_scaling") or Config({})
    if kind is not None:
        parameters = parameters.section(kind) or parameters
    theta = parameters.real("rope_theta", default=config.real("rope_theta", default=default_theta))
    partial = parameters.real(
        "partial_rotary_factor", default=config.real("partial_rotary_factor", default=1.0)
    )
    is_proportional = _kind(parameters) == "proportional"
    dimensions = int(head_size * partial // 2) * 2 if is_proportional else int(head_size * partial)
    if dimensions % 2 or not 0 < dimensions <= head_size:
        raise Failure(
            f"{config.where}: rotary positions over {dimensions} of {head_size} dimensions of a head",
            "the number must be even and no larger than the head",
        )
    scaling = _scaling(config, parameters, dimensions)
    return Rope(theta, dimensions, scaling, spread_size=head_size if is_proportional else 0)


def read_sections(config: Config, rope: Rope) -> tuple[int, ...]:
    """Read which rotary pairs turn by a picture's time, height and width; empty where it does not say."""
    parameters = config.section("rope_parameters") or config.section("rope_scaling") or Config({})
    found = tuple(int(size) for size in parameters.reals("mrope_section"))
    if found and 2 * sum(found) != rope.dimensions:
        raise Failure(
            f"{parameters.where}: mrope_section has {sum(found)} pairs, and {rope.dimensions // 2} turn",
            "the file is damaged; fetch it again",
        )
    return found


def written(rope: Rope) -> dict[str, Any]:
    """Write rotary positions as Transformers' rope_parameters."""
    scaling = rope.scaling
    if scaling is None:
        return {"rope_theta": rope.theta, "rope_type": "default"}
    said: dict[str, Any] = {
        "factor": scaling.factor,
        "original_max_position_embeddings": scaling.original_context_length or None,
        "attention_factor": scaling.attention_factor,
        "beta_fast": scaling.beta_fast,
        "beta_slow": scaling.beta_slow,
        "mscale": scaling.mscale,
        "mscale_all_dim": scaling.mscale_all_dim,
        "truncate": None if scaling.is_truncated else False,
    }
    if scaling.kind == "llama3":
        said |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind == "longrope":
        said |= {"short_factor": list(scaling.short_factors), "long_factor": list(scaling.long_factors)}
    known = {key: value for key, value in said.items() if value is not None}
    return {"rope_theta": rope.theta, "rope_type": scaling.kind, **known}


def read_deviations(config: Config) -> tuple[str, ...]:
    """Say what of the source's position scaling is not carried."""
    parameters = config.section("rope_parameters") or config.section("rope_scaling")
    if parameters is not None and _kind(parameters) in ("dynamic", "ntk"):
        return ("dynamic NTK scaling of rotary positions beyond the trained length is not carried",)
    return ()


def _kind(parameters: Config) -> str:
    return parameters.text("rope_type", parameters.text("type", "default"))


def _scaling(config: Config, parameters: Config, dimensions: int) -> RopeScaling | None:
    kind = _kind(parameters)
    original = parameters.size(
        "original_max_position_embeddings",
        default=config.size(
            "original_max_position_embeddings",
            default=config.size("max_position_embeddings", default=2048),
        ),
    )
    is_stretched = kind == "proportional" and parameters.real("factor", default=1.0) != 1
    if kind in UNSCALED and not is_stretched:
        return None
    if kind == "linear" or is_stretched:
        return RopeScaling("linear", parameters.real("factor"))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            parameters.real("factor"),
            original,
            low_freq_factor=parameters.real("low_freq_factor", default=1.0),
            high_freq_factor=parameters.real("high_freq_factor", default=4.0),
        )
    if kind == "yarn":
        return _yarn(config, parameters, original)
    if kind in ("longrope", "su"):
        short, long = parameters.reals("short_factor"), parameters.reals("long_factor")
        if not all(factor > LEAST_REAL for factor in (*short, *long)):
            raise Failure(
                f"{parameters.where}: a factor of zero or below", "the file is damaged; fetch it again"
            )
        if len(short) != dimensions // 2 or len(long) != dimensions // 2:
            raise Failure(
                f"{parameters.where}: {len(short)} short and {len(long)} long factors, "
                f"and {dimensions // 2} of each are needed",
                "the file is damaged; fetch it again",
            )
        return RopeScaling(
            "longrope",
            original_context_length=original,
            short_factors=short,
            long_factors=long,
            attention_factor=_optional(parameters, "attention_factor"),
        )
    raise Failure(
        f"{parameters.where}: the rotary scaling {kind!r} is not supported",
        "supported are default, dynamic, linear, llama3, yarn, longrope and proportional",
    )


def _yarn(config: Config, parameters: Config, original: int) -> RopeScaling:
    whole = config.size("max_position_embeddings", default=2048)
    # A scale of zero is the same as none.
    mscale, mscale_all_dim = (
        _optional(parameters, key) if parameters.values.get(key) else None
        for key in ("mscale", "mscale_all_dim")
    )
    return RopeScaling(
        "yarn",
        parameters.real("factor", default=whole / original),
        original,
        attention_factor=_optional(parameters, "attention_factor"),
        beta_fast=_optional(parameters, "beta_fast"),
        beta_slow=_optional(parameters, "beta_slow"),
        mscale=mscale,
        mscale_all_dim=mscale_all_dim,
        is_truncated=parameters.flag("truncate", default=True),
    )


def _optional(parameters: Config, key: str) -> float | None:
    return parameters.real(key) if parameters.has(key) else None


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """Say by how much YaRN scales attention for a stretch, in a given measure."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def yarn_attention(scaling: RopeScaling) -> float:
    """Say by how much a YaRN model scales what has turned, where its config leaves that open."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return yarn_scale(scaling.factor, scaling.mscale) / yarn_scale(scaling.factor, scaling.mscale_all_dim)
    return yarn_scale(scaling.factor)


def longrope_attention(decoder: Decoder, scaling: RopeScaling) -> float:
    """Say by how much a longrope model scales its attention, where its config leaves that open."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    stretch = decoder.context_length / scaling.original_context_length
    if stretch <= 1:
        return 1.0
    return math.sqrt(1 + math.log(stretch) / math.log(scaling.original_context_length))
