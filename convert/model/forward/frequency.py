"""How fast each pair of a head's dimensions turns with the position, stretched as the model's config asks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.device import near
from convert.errors import Failure
from convert.model.rotary import longrope_attention, yarn_attention

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.model.decoder import Decoder, Rope, RopeScaling

# YaRN's own proposals, which Transformers takes where a config says nothing.
YARN_BETA_FAST = 32.0
# Of each table: ten times what the longest context has.
MAX_VALUES = 1 << 30
YARN_BETA_SLOW = 1.0


@dataclass(frozen=True, slots=True)
class Turning:
    """Cosines and sines of every position, (positions, pairs); attention's own scale is in both."""

    cosines: NDArray[np.float32]
    sines: NDArray[np.float32]

    def near(self, other: NDArray[np.float32]) -> Turning:
        """Bring them to where another array is."""
        return Turning(near(self.cosines, other), near(self.sines, other))


def frequencies_of(decoder: Decoder, rope: Rope, length: int) -> tuple[NDArray[np.float64], float]:
    """Compute how fast each pair turns in a text of that length, and the scale; refuse what is not finite."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # refused below
        frequencies, scale = _stretched(decoder, rope, length)
    if len(frequencies) * length > MAX_VALUES:
        raise Failure(
            f"config.json: {length} positions make tables of {len(frequencies) * length} values",
            "the file is damaged; or leave out the formats that tabulate positions",
        )
    largest = max(np.abs(frequencies).max(initial=0) * length, abs(scale))
    if not largest < np.finfo(np.float32).max:  # NaN is not less, either
        raise Failure(
            f"config.json: rotary positions of base {rope.theta:g} are not finite numbers", "it is damaged"
        )
    return frequencies, scale


def turning(decoder: Decoder, rope: Rope, length: int) -> Turning:
    """Tabulate the first `length` positions of a text that is just as long."""
    frequencies, scale = frequencies_of(decoder, rope, length)
    # The angles in 32 bits, since the models learned with these.
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
    return Turning(np.cos(angles) * np.float32(scale), np.sin(angles) * np.float32(scale))


def _stretched(decoder: Decoder, rope: Rope, length: int) -> tuple[NDArray[np.float64], float]:
    frequencies = rope.theta ** -(np.arange(0, rope.dimensions, 2) / (rope.spread_size or rope.dimensions))
    if rope.spread_size:
        frequencies = np.pad(frequencies, (0, (rope.spread_size - rope.dimensions) // 2))
    scaling = rope.scaling
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    if scaling.kind == "yarn":
        return _yarn(frequencies, rope, scaling), yarn_attention(scaling)
    is_long = length > scaling.original_context_length
    factors = np.array(scaling.long_factors if is_long else scaling.short_factors)
    return frequencies / factors, longrope_attention(decoder, scaling)


def _llama3(frequencies: NDArray[np.float64], scaling: RopeScaling) -> NDArray[np.float64]:
    """Divide the slow ones by the factor, the fast ones not at all, and those between in proportion."""
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return _mixed(frequencies, scaling.factor, np.clip(share, 0, 1))


def _yarn(frequencies: NDArray[np.float64], rope: Rope, scaling: RopeScaling) -> NDArray[np.float64]:
    """Divide the frequencies of pairs that turn less often than beta_slow in the first training's length."""

    def pair_that_turns(times: float) -> float:
        reach = scaling.original_context_length / (times * 2 * math.pi)
        return rope.dimensions * math.log(reach) / (2 * math.log(rope.theta))

    first = pair_that_turns(scaling.beta_fast or YARN_BETA_FAST)
    last = pair_that_turns(scaling.beta_slow or YARN_BETA_SLOW)
    if scaling.is_truncated:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dimensions - 1)
    ramp = (np.arange(len(frequencies)) - first) / (last - first if last != first else 0.001)
    return _mixed(frequencies, scaling.factor, 1 - np.clip(ramp, 0, 1))


def _mixed(
    frequencies: NDArray[np.float64], factor: float, share_kept: NDArray[np.float64]
) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = frequencies * share_kept + frequencies / factor * (1 - share_kept)
    return mixed
