"""The parts of a source besides its text decoder: named in every plan and manifest, and not converted."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from convert.checkpoint.index import index_names
from convert.deviation import AS_SOURCE, Deviation
from convert.model.binding import parts_besides
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.family import AUDIO, HEADS, VISION, Family
from convert.model.further import find_next_layers
from convert.pipeline import tied

# What a config says of them, where no list of tensors is here yet.
_KEYS = {
    "vision_config": VISION,
    "audio_config": AUDIO,
    "mtp_num_hidden_layers": HEADS,
    "num_nextn_predict_layers": HEADS,
}
# What the names of a part begin with.
_STEM = re.compile(r"(?:(?:model|language_model|layers)\.)*[^.]+")


Parts: TypeAlias = Mapping[str, tuple[Deviation, ...]]


def has_next_layers(folder: Path, family: Family, decoder: Decoder) -> bool:
    """Check whether an index lists all tensors of the layers that guess further tokens.

    A file without an index is never asked: it may be here or not yet, and the artifacts must be the same.
    """
    names = index_names(folder)
    return names is not None and find_next_layers(decoder, family.naming, frozenset(names)) is not None


def find_parts(folder: Path, config: Config, family: Family, decoder: Decoder) -> Parts:
    """Name the parts that a folder's tensors show, or those of its config where no tensors are listed."""
    if (names := tied.stored_names(folder)) is None:
        return {what: (_left_out(key, what),) for key, what in _KEYS.items() if config.values.get(key)}
    return name_parts(parts_besides(decoder, family.naming, frozenset(names)))


def name_parts(parts: Mapping[str, Sequence[str]]) -> Parts:
    """Name each part by what its tensors' names begin with."""
    found: dict[str, tuple[Deviation, ...]] = {}
    for what, names in sorted(parts.items()):
        stems = {match[0] for name in names if (match := _STEM.match(name))}
        found[what] = tuple(_left_out(stem, what) for stem in sorted(stems))
    return found


def _left_out(subject: str, what: str) -> Deviation:
    return Deviation(subject, AS_SOURCE, "without", f"left out, as it belongs to {what}")
