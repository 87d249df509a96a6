"""What all artifacts of a recipe's GGUF targets have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convert.formats.gguf.budgeted import Measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.checkpoint import TensorInfo
    from convert.formats.gguf import projector
    from convert.formats.gguf.header import Field
    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.scaling import Scales
    from convert.learning.asking import Asked


@dataclass(frozen=True)
class Shared:
    """What all quants share: the vocabulary's fields, and the importance of the columns."""

    vocabulary: Mapping[str, Field]
    deviations: Sequence[str]
    has_imatrix: bool
    importance: Importance | None = field(default=None, repr=False)
    part: projector.Part | None = field(default=None, repr=False)  # that reads pictures
    source: Mapping[str, TensorInfo] | None = field(default=None, repr=False)  # once its headers were read
    native: str = ""  # the float that the source's head has, where it is kept
    measured: Measured = field(default_factory=Measured, repr=False)
    scales: Scales = field(default_factory=dict, repr=False)  # of matrices, for NVFP4
    learning: Mapping[str, Any] = field(default_factory=dict)  # what an importance matrix costs, as planned
    asked: Asked | None = field(default=None, repr=False)  # to round by what is learned
