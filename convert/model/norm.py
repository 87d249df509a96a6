"""Norms and rotary positions: what attention and MLPs of every kind share."""

from dataclasses import dataclass
from typing import Literal

from convert.model.feature import Feature, plain, switch
from convert.model.tensor import Ref, Role, Shaped


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """The way rotary frequencies are stretched beyond the length that the model was first trained at."""

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = plain(1.0)
    original_context_length: int = plain(0)
    low_freq_factor: float = plain(1.0)
    high_freq_factor: float = plain(4.0)
    attention_factor: float | None = plain(None)
    beta_fast: float | None = plain(None)
    beta_slow: float | None = plain(None)
    mscale: float | None = plain(None)
    mscale_all_dim: float | None = plain(None)
    # YaRN's ramp begins and ends at whole dimensions.
    is_truncated: bool = switch(plain=True, feature=Feature.EXACT_YARN)
    short_factors: tuple[float, ...] = plain(())
    long_factors: tuple[float, ...] = plain(())

    @property
    def has_own_turns(self) -> bool:
        """Check whether YaRN's ramp begins or ends elsewhere than its own proposal does."""
        return self.kind == "yarn" and (self.beta_fast or 32, self.beta_slow or 1) != (32, 1)

    @property
    def FEATURE(self) -> Feature:  # noqa: N802 - as the constant of other parts
        return {
            "linear": Feature.ROPE_LINEAR,
            "llama3": Feature.ROPE_LLAMA3,
            "yarn": Feature.ROPE_YARN,
            "longrope": Feature.ROPE_LONGROPE,
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: base frequency, how many of a head's dimensions turn, and their scaling."""

    theta: float
    dimensions: int
    scaling: RopeScaling | None = plain(None)  # which is a feature itself
    # Neighbors turn together, not the two halves of what turns.
    is_interleaved: bool = switch(plain=False, feature=Feature.INTERLEAVED_ROTARY)
    # Frequencies are spread over the whole head, and those past `dimensions` are zero.
    spread_size: int = switch(0, Feature.PROPORTIONAL_ROTARY)
    # Pairs that turn by the time, height and width of a picture's place; a text has one place.
    sections: tuple[int, ...] = plain(())


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm of hidden states, or of each head by itself."""

    eps: float
    kind: Literal["rms", "layer"] = switch("rms", {"layer": Feature.LAYER_NORM})
    # Weights are stored less one, so that zeros change nothing.
    is_offset: bool = switch(plain=False, feature=Feature.OFFSET_NORM)
    has_weight: bool = switch(plain=True, feature=Feature.WEIGHTLESS_NORM)
    # Only layer norms may have one.
    has_bias: bool = switch(plain=True, feature=Feature.UNBIASED_LAYER_NORM)

    def shapes(self, role: Role, layer: int | None, size: int, head_count: int = 0) -> Shaped:
        """List its tensors; with a number of heads, one for each."""
        if self.has_weight:
            for head in range(head_count) if head_count else (None,):
                yield Ref(role, layer, expert=head), (size,)
                if self.kind == "layer" and self.has_bias:
                    yield Ref(role, layer, "bias", expert=head), (size,)
