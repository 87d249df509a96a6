"""What a format sees of a source: the model without its weights, and the weights as an open checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.calibration import Source
    from convert.checkpoint import Checkpoint
    from convert.deviation import Deviation
    from convert.model.binding import Binding
    from convert.model.decoder import Decoder, Origin, Ref
    from convert.tokenizer import Tokenizer

# The settings of generation_config.json that runtimes take under these names.
SAMPLING = ("temperature", "top_p", "top_k", "min_p")
MAX_SETTING = 1 << 31


@dataclass(frozen=True)
class Model:
    """All of a source but its weights."""

    title: str  # names files and the model itself: the repository's last part, or the recipe's name
    repo: str | None
    decoder: Decoder
    tokenizer: Tokenizer
    folder: Path
    card: Mapping[str, Any] = field(default_factory=dict)  # the front matter of the source's README.md
    generation: Mapping[str, Any] = field(default_factory=dict)  # its generation_config.json
    deviations: tuple[Deviation, ...] = ()  # of every artifact, whatever its format
    # Parts of the source besides its text decoder, in words, as what an artifact without them says.
    parts: Mapping[str, tuple[Deviation, ...]] = field(default_factory=dict)
    has_next_layers: bool = False  # whether those by which it guesses further tokens are there
    left_out: tuple[Deviation, ...] = ()  # of those that do not ship the source's own config.json
    weight_bytes: int = 0  # of its files, here or not; 0 where nobody looked
    is_untied: bool = False  # an adapter trained the head apart from the embedding, which config.json ties
    texts: Source | None = None  # what the recipe's calibration names, where a target learns from it

    @property
    def sampling(self) -> dict[str, float]:
        """Return what the source's authors advise for sampling, as far as it is a sound number."""
        sound: dict[str, float] = {}
        for key in SAMPLING:
            value = self.generation.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_SETTING:
                continue
            if key == "top_k":
                if float(value).is_integer():
                    sound[key] = int(value)
                continue
            sound[key] = value
        return sound


@dataclass(frozen=True)
class Weights:
    """An open checkpoint, and where in it the canonical tensors are."""

    checkpoint: Checkpoint
    binding: Binding
    is_canonical: bool = False  # whether the tensors are named as the family's own class names them
    lessons: Path | None = None  # a folder for what is learned of them, until the artifacts are built

    @property
    def origins(self) -> Mapping[Ref, Origin]:
        return self.binding.origins
