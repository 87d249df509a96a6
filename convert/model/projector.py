"""The part of a model that reads pictures, as llama.cpp's projector file holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from convert.model.arrange import AddOne, TakeFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from convert.model.arrange import Arrange
    from convert.model.config import Config


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: its name there and in the source, its shape, and the type that it is kept in."""

    name: str
    source: str
    shape: tuple[int, ...]
    type: Literal["F32", "F16"]
    is_offset: bool = False  # a norm's weights, stored less one
    # Of a source's (rows, channels, frames, …): which frame this is, and of how many.
    frame: tuple[int, int] | None = None
    share: tuple[int, int] = (0, 1)  # of a source's rows: which part this is, and of how many alike

    @property
    def source_shape(self) -> tuple[int, ...]:
        if self.frame is None:
            return (self.share[1] * self.shape[0], *self.shape[1:])
        return (*self.shape[:2], self.frame[1], *self.shape[2:])

    @property
    def arrange(self) -> Arrange | None:
        if self.frame is None:
            return AddOne() if self.is_offset else None
        return TakeFrame(self.shape[1], self.frame[1], self.frame[0])


@dataclass(frozen=True, slots=True)
class Projector:
    """How a family's tower becomes a projector file, where that is a renaming."""

    part: str  # in the words by which it would be left out
    # Of the model's whole config and that of its preprocessor: keys of the file.
    keys: Callable[[Config, Config], Mapping[str, Any]]
    # Of the whole config, for each spelling of the tower's tensors.
    spellings: tuple[Callable[[Config], Iterable[Tensor]], ...]
